"""`bestow train gate data|reward|policy` and `bestow train veto`."""

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis

from gateway.config import Config
from gateway.feedback import reviews
from gateway.feedback.trust.decisions import Decision
from gateway.feedback.trust.reasons import Findings
from gateway.log.privacy.redactor import Redactor
from gateway.log.source import ConfigOption, Source, find_source, run
from gateway.shared.command_line import JsonOption
from gateway.shared.progress import bar
from training.configured import configured
from training.data.finding import find_snapshot
from training.data.places import home_of
from training.errors import TrainingError
from training.gates.options import RegistryOption, ThresholdsOption, known_folder, model_folder, tell
from training.gates.policy_command import policy
from training.gates.standing import lifted, veto
from training.gates.thresholds import load_thresholds
from training.registry.refs import parse_label, parse_ref
from training.registry.registry import Registry, configured_registry

# ruff: noqa: PLC0415  # torch, scipy: seconds

gate_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""What a version must show before users see it. Exit code 1 where it does not pass.

    \b
      bestow train gate data SNAPSHOT                       G0: may this be learnt from?
      bestow train gate reward reward_model:reward@3        G1: does the reward model say what people say?
      bestow train gate policy policy:demo-policy@2 ...     G2: is the policy better, and nothing else worse?

    Each check says its number, its interval, its limit, and where there is too little data, how much it takes. All must
    pass; what cannot be measured does not. Reports are kept in the registry (`bestow release show REF`); docs/gates.md.
    """,
)


@gate_app.command()
def data(
    snapshot: Annotated[str, typer.Argument(help="A snapshot: its id, or its URL.")],
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A reward model that no vote has taught, to look at the votes by."),
    ] = None,
    thresholds: ThresholdsOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """G0: whether a snapshot is fit to learn from.

    What `bestow train defend` found is read from Redis; with --reference the snapshot's own votes are looked at again.

    \b
      bestow train gate data 3f9a1c22b7e0 --reference reward-models/curated@1
    """
    from training.gates.gate import gate_data

    settings = configured(config) or Config()
    home, kept = home_of(settings), configured_registry(settings, registry)
    limits = load_thresholds(thresholds)
    folder = None if reference is None else _reference(reference, kept, home)
    report = gate_data(
        find_snapshot(snapshot, home),
        limits,
        kept,
        redactor=Redactor(settings.log.keep.redact),
        suspects=_suspects(config),
        reference=folder,
    )
    tell(report, as_json)


@gate_app.command()
def reward(
    model: Annotated[
        str, typer.Argument(help="reward_model:NAME@N, NAME@N as `bestow train reward` made it, or a folder.")
    ],
    serving: Annotated[
        str | None, typer.Option(help="The reward model that serves.  (default: that of the model's profile)")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="Whose test split decides.  (default: that which it was trained on)")
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file in the layout of RewardBench 2, to pass too.")
    ] = None,
    public: Annotated[
        str | None, typer.Option("--model", help="The public model that serves.  (default: the only one)")
    ] = None,
    thresholds: ThresholdsOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """G1: whether a reward model says what people say, on pairs that nothing was trained on.

    \b
      bestow train gate reward reward@4 --serving reward@3
    """
    from training.gates.gate import gate_reward
    from training.gates.serving import reward_model_of
    from training.reward.versions import CARD, read_card

    settings = configured(config) or Config()
    home, kept = home_of(settings), configured_registry(settings, registry)
    limits = load_thresholds(thresholds)
    folder, ref = known_folder(model, kept, home)
    if snapshot is None:
        if not (folder / CARD).is_file():
            raise TrainingError(f"{model} does not say which snapshot it is of: name one with --snapshot.")
        snapshot = read_card(folder).snapshot["id"]
    old = reward_model_of(settings, public) if serving is None else known_folder(serving, kept, home)[0]
    with _counting("Scoring answers") as advance:
        report = gate_reward(
            ref, folder, old, find_snapshot(snapshot, home), limits, kept, bench=bench, advance=advance
        )
    tell(report, as_json)


gate_app.command("policy")(policy)


def veto_command(
    ref: Annotated[str, typer.Argument(metavar="REF", help="policy:NAME@N or reward_model:NAME@N.")],
    reason: Annotated[str, typer.Option(help="Why; it stays on record.")],
    lift: Annotated[bool, typer.Option("--lift", help="Take the veto back.")] = False,
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Stop a version, whatever its checks say, until the veto is lifted.

    \b
      bestow train veto policy:demo-policy@4 --reason "its praise is too thick"
    """
    settings = configured(config) or Config()
    kept = configured_registry(settings, registry)
    parse_ref(ref)
    kept.open(ref)
    made = (lifted if lift else veto)(ref, getpass.getuser(), reason, time.time())
    kept.add_verdicts(ref, made)
    print(f"The veto of {ref} is lifted." if lift else f"{ref} is vetoed: it passes no gate until this is lifted.")


def _reference(named: str, registry: Registry, home: Path) -> Path | None:
    """A folder; None for NAME@N whose scores are in the log alone: `bestow train defend` has looked by them, and what
    it found is in Redis. Raises TrainingError.
    """
    found = model_folder(named, registry, home)
    if found is None and parse_label(named) is None:
        raise TrainingError(f"There is no reward model {named}: give --reference a folder, or NAME@N.")
    return found[0] if found else None


def suspects_of(findings: Findings, decisions: dict[str, Decision]) -> set[str]:
    """Hashed users whom the defence found, but for those whom an operator released."""
    released = {subject for subject, one in decisions.items() if one.verdict == "released"}
    about = {reason.about for reasons in findings.values() for reason in reasons}
    return {one.removeprefix("user:") for one in about - released if one.startswith("user:")}


def _suspects(config: Path | None) -> set[str] | None:
    """From Redis; None where the defence has found nothing, and so may never have looked."""
    if configured(config) is None:
        return None
    found: list[tuple[Findings, dict[str, Decision]]] = []
    source: Source = find_source(config, None, None)

    async def read(redis: Redis) -> None:
        found.append((await reviews.findings(redis, source.shard), await reviews.read(redis, source.shard)))

    run(source, read)
    [(findings, decisions)] = found
    return suspects_of(findings, decisions) if findings else None


@contextmanager
def _counting(what: str) -> Iterator[Callable[[int], None]]:
    with bar() as shown:
        task = shown.add_task(what, total=None)
        yield lambda count: shown.advance(task, count)
