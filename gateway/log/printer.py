"""What the commands that read the log print, and how: interactions as text or as JSON."""

import io
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from gateway.log.records import Feedback, Interaction
from gateway.log.tail import as_json, interaction_text, late_feedback_json, late_feedback_text

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line: {interaction, feedback}.")]


class Printer:
    """Standard output: coloured on a terminal, plain in a pipe, lines never broken."""

    def __init__(self, as_lines: bool) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # A terminal without Unicode gets question marks, not an error.
        self._as_lines = as_lines
        self._console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)

    def interaction(self, interaction: Interaction, feedback: list[Feedback]) -> None:
        if self._as_lines:
            self.line(as_json(interaction, feedback))
        else:
            self._console.print(interaction_text(interaction, feedback))
            self._console.file.flush()

    def heading(self, text: Text) -> None:
        """For people alone."""
        if not self._as_lines:
            self._console.print(text)

    def late_feedback(self, vote: Feedback) -> None:
        if self._as_lines:
            self.line(late_feedback_json(vote))
        else:
            self._console.print(late_feedback_text(vote))
            self._console.file.flush()

    def line(self, text: str) -> None:
        print(text, file=self._console.file, flush=True)
