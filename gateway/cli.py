"""The command `bestow`. Each command imports what it needs when it runs, so that `--help` is quick."""

import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import Config

# ruff: noqa: PLC0415
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Bestow: best-of-n serving on vLLM, chosen by a reward model, behind a safety classifier.

    Start here: [bold]bestow up[/bold] starts the demo and prints a curl line to paste.
    Your own models: [bold]bestow up --policy Qwen/Qwen3-0.6B --no-reward --no-safety[/bold].
    Something is wrong: [bold]bestow doctor[/bold].
    """,
)
config_app = typer.Typer(no_args_is_help=True, help="The configuration file: print an example of it, or check one.")
app.add_typer(config_app, name="config")

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]


@app.command()
def up(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A configuration file; none: the demo.")] = None,
    policy: Annotated[str | None, typer.Option(help="Serve this model: Hugging Face id or folder.")] = None,
    reward: Annotated[str | None, typer.Option(help="The reward model, with --policy: id or folder.")] = None,
    safety: Annotated[str | None, typer.Option(help="The safety classifier, with --policy: id or folder.")] = None,
    no_reward: Annotated[bool, typer.Option("--no-reward", help="No reward model: the first safe one wins.")] = False,
    no_safety: Annotated[bool, typer.Option("--no-safety", help="No classifier: nothing is guarded.")] = False,
    name: Annotated[str | None, typer.Option(help="The model's public name; none: from --policy.")] = None,
    tool_call_parser: Annotated[
        str | None, typer.Option(help="How tool calls stand in its output: hermes, llama3_json, ...; none: no tools.")
    ] = None,
    reasoning_parser: Annotated[
        str | None, typer.Option(help="How its reasoning is told apart: qwen3, deepseek_r1, ...; none: it is not.")
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, max=128, help="Candidates sampled for a request.")] = None,
    host: Annotated[str | None, typer.Option(help="Address the gateway listens on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the gateway.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where logs, journal and Redis' data are kept.")] = None,
) -> None:
    """Start everything on this machine, and stop it on Ctrl-C.

    Whatever has no address in the configuration is started here: Redis, a vLLM worker, the scorer server, the gateway.

    \b
      bestow up                                    the demo
      bestow up --config bestow.yaml               your configuration (bestow config example writes one)
      bestow up --policy Qwen/Qwen3-0.6B --reward Skywork/Skywork-Reward-V2-Qwen3-0.6B --no-safety

    Tools and reasoning need vLLM's parsers, for Qwen3: --tool-call-parser hermes --reasoning-parser qwen3
    """
    from gateway.launch.choices import Choices, chosen
    from gateway.launch.up import up as start

    choices = Choices(
        config=config,
        policy=policy,
        reward=reward,
        safety=safety,
        no_reward=no_reward,
        no_safety=no_safety,
        name=name,
        n=n,
        host=host,
        port=port,
        data_dir=data_dir,
        tool_call_parser=tool_call_parser,
        reasoning_parser=reasoning_parser,
    )
    raise typer.Exit(start(chosen(choices)))


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A configuration file; none: the demo.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
) -> None:
    """Check the configuration, every address in it and this machine; say how to mend what is wrong.

    Exit code 1 when there is a problem.
    """
    from gateway.launch.doctor import doctor as examine

    raise typer.Exit(examine(config, json=json))


@app.command()
def gateway(config: ConfigFile) -> None:
    """Run the gateway alone, as in production: bestow gateway --config bestow.yaml"""
    _become("gateway", "--config", str(config))


@app.command()
def scorer(config: ConfigFile) -> None:
    """Run the scorer server alone: bestow scorer --config bestow.yaml"""
    _become("scorers", "--config", str(config))


PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASSED_ON)
def log(context: typer.Context) -> None:
    """Read what was logged: interactions, candidates, scores, feedback (bestow log --help)."""
    from gateway.errors import StartError

    try:
        from gateway.log.commands import log_app
    except ModuleNotFoundError as error:
        raise StartError(f"The log's commands cannot be loaded: there is no {error.name}.") from None
    log_app(args=context.args, prog_name="bestow log")


def _group(name: str, about: str, module: str) -> None:
    """Commands of their own under `bestow NAME`, imported when they are asked for: {name}_app of that module."""

    def run(context: typer.Context) -> None:
        group = getattr(importlib.import_module(module), f"{name}_app")
        group(args=context.args, prog_name=f"bestow {name}")

    app.command(name, help=f"{about} (bestow {name} --help).", context_settings=PASSED_ON)(run)


_group("export", "Write all that is stored of a person to a file, for them", "gateway.log.personal_commands")
_group("feedback", "Import votes, and review those that were set aside", "gateway.feedback.commands")
_group("keys", "Make, list, rotate and revoke API keys", "gateway.access.commands")
_group("tenants", "Say which models and profiles a tenant may use", "gateway.access.commands")
_group("workers", "List, add, drain and remove workers while everything runs", "gateway.workers.commands")
_group("adapters", "Load and unload LoRA adapters on all workers of a policy", "gateway.workers.commands")
_group("scorers", "List, add, promote and remove reward models and other scorers", "gateway.control.scorer_commands")
_group("profile", "Tune a profile while everything runs, see its history, go back", "gateway.control.profile_commands")
_group("strategies", "List the decoding strategies and their options", "gateway.decoding.commands")
_group("erase", "Erase a person: from Redis, journals, archive, caches", "gateway.log.erase.commands")
_group("hold", "Legal holds: what must not be erased until they are taken off", "gateway.log.erase.commands")
_group("calibrate", "Measure what a model gains by more answers, and what numbers mean", "gateway.calibrate.commands")
_group("release", "Versions and releases: list, try on some users, promote, roll back", "gateway.release.commands")
_group("train", "Make datasets of the log, and models of datasets", "training.commands")
_group("simulate", "Let simulated people ask and vote, for demos and load", "training.simulation.commands")


@app.command("demo-models", context_settings=PASSED_ON)
def demo_models(context: typer.Context) -> None:
    """Train the demo's policy, reward model and safety classifier (minutes on two cores)."""
    _become("training.demo", *context.args)


@config_app.command("example")
def config_example(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there; none: print it.")] = None,
) -> None:
    """Print the demo's configuration with every key explained: bestow config example > bestow.yaml"""
    from gateway.launch.demo import demo_config
    from gateway.launch.example import example

    text = example(demo_config())
    if output is None:
        print(text, end="")
    else:
        output.write_text(text, encoding="utf-8")
        print(f"wrote {output}")


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="The configuration file.")]) -> None:
    """Say whether a file is right, one line a mistake (nothing is asked for: see bestow doctor)."""
    from gateway.config import load

    config: Config = load(file)
    served = ", ".join(config.models) or "none yet"
    print(f"{file} is right. Models: {served}.")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(f"bestow {installed('bestow-gateway')}")


def _become(module: str, *arguments: str) -> None:
    """Turn into another of the project's programs: signals and exit codes are its own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def main() -> None:
    """The entry point. Nobody sees a traceback: it goes to a file, which is named."""
    from gateway.errors import BestowError

    try:
        code = app(standalone_mode=True)
    except BestowError as error:
        print(error, file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        print(f"Something unexpected went wrong: {error!r}. Details in {_keep_details()}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _keep_details() -> Path:
    """Write the traceback of the exception being handled where it can be found."""
    folder = Path(".bestow/logs")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile("w", prefix="bestow-error-", suffix=".log", dir=folder, delete=False) as file:
        traceback.print_exc(file=file)
    return Path(file.name)


if __name__ == "__main__":
    main()
