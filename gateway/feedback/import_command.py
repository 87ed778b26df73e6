"""`bestow feedback import`: a file of votes into a running gateway, a few hundred lines a request."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.errors import StartError
from gateway.shared.command_line import ConfigOption, JsonOption, UrlOption, plain, print_json
from gateway.workers.admin_client import find_gateway

BATCH_PATH = "/v1/feedback/batch"
# Well below the gateway's limits, 1,000 lines and 8 MiB.
_LINES = 500
_BYTES = 1_048_576
_SHOWN_ERRORS = 20
_RETRIES = 10
_RETRY_S = 2.0
_NO_TIME = (
    "created: this line does not say when it was said, so a second import would add it again; write it in the line, or "
    "give one time for all such lines with --created 2026-01-31T12:00:00Z"
)

# (method, path, body) -> the gateway's answer. Raises StartError.
Call = Callable[[str, str, dict[str, Any]], Any]


@dataclass(slots=True)
class Summary:
    """What became of a file. errors: (line, what is wrong with it), in the order of the file."""

    accepted: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Lines that go together. numbers: of the file. bytes: read so far, of the whole file."""

    bytes: int
    numbers: list[int] = field(default_factory=list)
    votes: list[dict[str, Any]] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)


def import_votes(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON Lines: a vote a line, as POST /v1/feedback takes.")
    ],
    tenant: Annotated[str | None, typer.Option(help="Whose answers these are; none: the key's tenant.")] = None,
    created: Annotated[
        str | None, typer.Option(metavar="WHEN", help="When lines were said that do not tell, as 2026-01-31T12:00:00Z.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line; store nothing.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="BESTOW_API_KEY", help="A key with the scope feedback (--tenant: admin)."),
    ] = None,
) -> None:
    """Send a file of votes to a running gateway. A wrong line is named and loses no other.

    \b
    A line is what POST /v1/feedback takes, with the time it was said:
      {"id": "chatcmpl-...", "kind": "thumbs", "value": true, "user": "ann", "created": "2026-01-31T12:00:00Z"}
    "retracted": true takes such a vote back. Importing a file twice adds nothing; a vote that was cast later wins.
      bestow feedback import votes.jsonl --dry-run
      bestow feedback import votes.jsonl --tenant shop
    """
    if created is not None:
        _check_time(created)
    gateway = find_gateway(url, config, api_key)
    query = {key: value for key, value in (("tenant", tenant), ("dry_run", "true" if dry_run else None)) if value}
    path = f"{BATCH_PATH}?{urlencode(query)}" if query else BATCH_PATH
    try:
        size = file.stat().st_size
        with _progress(size) as moved_to:
            summary = send(read(file, created), path, gateway.call, moved_to, time.sleep)
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}.") from None
    _report(file, summary, dry_run=dry_run, as_json=as_json)
    if summary.errors:
        raise typer.Exit(1)


def read(file: Path, created: str | None) -> Iterator[Batch]:
    """A file's votes, a batch at a time; what is no vote at all stays here. Raises OSError."""
    with file.open("rb") as lines:
        batch, held, position = Batch(0), 0, 0
        for number, line in enumerate(lines, 1):
            position += len(line)
            batch.bytes = position
            if not line.strip():
                continue
            try:
                vote = _vote(line, created)
            except ValueError as error:
                batch.errors.append((number, str(error)))
                continue
            batch.numbers.append(number)
            batch.votes.append(vote)
            held += len(line)
            if len(batch.votes) >= _LINES or held >= _BYTES:
                yield batch
                batch, held = Batch(position), 0
        if batch.votes or batch.errors:
            yield batch


def send(
    batches: Iterator[Batch], path: str, call: Call, moved_to: Callable[[int], None], sleep: Callable[[float], None]
) -> Summary:
    """Send all; what the gateway cannot store just now is sent again. Raises StartError where it does not answer."""
    summary = Summary()
    for batch in batches:
        errors = [*batch.errors]
        waiting = list(zip(batch.numbers, batch.votes, strict=True))
        for attempt in range(_RETRIES + 1):
            if not waiting:
                break
            if attempt:
                sleep(_RETRY_S)
            try:
                answer = call("POST", path, {"data": [vote for _, vote in waiting]})
            except StartError as error:
                done = f" {summary.accepted:,} votes are in; import the file again: nothing is added twice."
                raise StartError(f"{error}{done if summary.accepted else ''}") from None
            refused = _refused(answer, waiting)
            summary.accepted += len(waiting) - len(refused)
            again = {number for number, code, _ in refused if code == "unavailable" and attempt < _RETRIES}
            errors += [(number, message) for number, _, message in refused if number not in again]
            waiting = [(number, vote) for number, vote in waiting if number in again]
        summary.errors += sorted(errors)
        moved_to(batch.bytes)
    return summary


def _refused(answer: Any, sent: Sequence[tuple[int, Any]]) -> list[tuple[int, str, str]]:
    """(line of the file, code, message) of each vote that was not taken."""
    return [
        (sent[one["line"] - 1][0], one["error"]["code"], one["error"]["message"])
        for one in answer["data"]
        if one["status"] == "error"
    ]


def _vote(line: bytes, created: str | None) -> dict[str, Any]:
    """Raises ValueError saying what is wrong."""
    try:
        line.decode("utf-8")
        vote = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not valid UTF-8 at byte {error.start}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON: {error}") from None
    if not isinstance(vote, dict):
        raise ValueError("it is no JSON object")
    if vote.get("created") is None:
        if created is None:
            raise ValueError(_NO_TIME)
        vote["created"] = created
    return vote


def _check_time(created: str) -> None:
    try:
        zone = datetime.fromisoformat(created).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise typer.BadParameter("it is no time with a time zone, such as 2026-01-31T12:00:00Z", param_hint="--created")


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; call what it gives with the bytes that were read so far."""
    columns = (TextColumn("votes"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("votes", total=max(size, 1))
        yield lambda position: shown.update(task, completed=position)


def _report(file: Path, summary: Summary, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        errors = [{"line": number, "message": message} for number, message in summary.errors]
        print_json({"accepted": summary.accepted, "failed": len(errors), "dry_run": dry_run, "errors": errors})
        return
    for number, message in summary.errors[:_SHOWN_ERRORS]:
        print(f"{file}:{number}: {plain(message)}", file=sys.stderr)
    if (more := len(summary.errors) - _SHOWN_ERRORS) > 0:
        print(f"and {more:,} more lines like these (--json lists all)", file=sys.stderr)
    did = "would be accepted" if dry_run else "accepted"
    print(f"{summary.accepted:,} votes {did}, {len(summary.errors):,} refused.")
