"""`bestow feedback`: what people said of answers, as operators deal with it."""

import typer

from gateway.feedback import review_commands
from gateway.feedback.import_command import import_votes

feedback_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Import what people said of answers elsewhere, and review what was set aside.""",
)
feedback_app.command("import")(import_votes)
feedback_app.command()(review_commands.review)
feedback_app.command()(review_commands.release)
feedback_app.command()(review_commands.confirm)
