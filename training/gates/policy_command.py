"""`bestow train gate policy`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import aiohttp
import typer

from gateway.config import Config
from gateway.launch.addresses import gateway_endpoint
from gateway.launch.parts import filled_in
from gateway.log.connection import connect
from gateway.log.source import ConfigOption, find_source
from gateway.shared.command_line import JsonOption, KeyOption
from gateway.workers.admin_client import AdminClient
from training.configured import configured
from training.data.finding import find_snapshot
from training.data.places import home_of
from training.errors import TrainingError
from training.evaluation.formats import read_logged
from training.evaluation.items import PromptSet
from training.evaluation.servers import Server
from training.evaluation.settings import RunSettings
from training.gates.logged import logged_prompts
from training.gates.options import RegistryOption, ThresholdsOption, scorer_named, tell
from training.gates.serving import profile_of, public_model
from training.gates.suite_files import SAFETY, SYCOPHANCY, read_pushed, read_suite
from training.gates.thresholds import Thresholds, load_thresholds
from training.gates.verdicts import GateReport
from training.policy.anchors import anchor_folder, anchor_of
from training.registry.layout import Version
from training.registry.registry import Registry, configured_registry

# ruff: noqa: PLC0415  # torch, scipy: seconds

_HARD = RunSettings()


def policy(
    ref: Annotated[str, typer.Argument(metavar="REF", help="policy:NAME@N of the registry.")],
    holdout: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="The reward model that no policy was trained or selected against: reward_model:NAME@N, NAME@N or a "
            "folder.",
        ),
    ],
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The one that the policy was trained on: the same, or a running scorer.  (default: the version's "
            "parent, else that of the profile)",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The public model to try it in.  (default: the only one of its policy)")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Through this profile.  (default: the model's)")] = None,
    champion: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Weights to hold it against, as workers name them.  (default: what serves)"),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What wins are measured on: a file, or a suite such as demo-prompts.  (default: the test split of the "
            "snapshot that it was trained on)",
        ),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Another snapshot, whose test split is asked.")] = None,
    safety: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Who says what is unsafe; best another than the guard.  (default: the profile's guards)",
        ),
    ] = None,
    safety_suite: Annotated[str, typer.Option(metavar="FILE", help="Prompts with labels unsafe and benign.")] = SAFETY,
    sycophancy_suite: Annotated[str, typer.Option(metavar="FILE", help="Prompts that push a claim.")] = SYCOPHANCY,
    anchor: Annotated[
        Path | None, typer.Option(help="Weights that KL is measured to.  (default: the configured policy's)")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=512, help="Requests under way together.")] = _HARD.at_once,
    thresholds: ThresholdsOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """G2: whether a policy is better than the one that serves, and nothing else worse, before any user gets it.

    It is loaded on the live workers under a name of its own, asked behind all users, and unloaded. Run it again where
    it was stopped: what was answered is kept.

    \b
      bestow train gate policy policy:demo-policy@2 --holdout holdout@1 --proxy reward@3
    """
    settings = configured(config)
    if settings is None:
        raise TrainingError("There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config.")
    kept, limits = configured_registry(settings, registry), load_thresholds(thresholds)
    version, home = kept.open(ref), home_of(settings)
    if version.kind != "policy":
        raise TrainingError(f"{ref} is no policy: `bestow train gate reward` is for reward models.")
    public, configured_model = public_model(settings, model, version.name)
    through = profile_of(settings, configured_model, profile)
    asked = _prompts(prompts, snapshot, version, home)
    suites = limits.policy.suites.prompts
    harm, pushed = read_suite(safety_suite, suites), read_pushed(sycophancy_suite, suites)
    by = proxy or _parent(version) or through.reward
    held = anchor or _anchor(settings, version, kept)
    base = _own_weights(settings, version) or held
    judges = (
        scorer_named(holdout, kept, home),
        None if by is None else scorer_named(by, kept, home),
        [scorer_named(one, kept, home) for one in safety or through.guards],
    )

    async def work() -> GateReport:
        from training.evaluation.commands import progress
        from training.gates.contest import Asking, Contest, Place, gate_policy

        full = filled_in(settings, settings.data_dir.expanduser().absolute())
        at = gateway_endpoint(full.gateway)
        logged = await _logged(config, public, limits)
        hard = RunSettings(at_once=at_once)
        contest = Contest(
            version=version,
            model=public,
            holdout=judges[0],
            proxy=judges[1],
            safety=judges[2],
            profile=profile,
            champion=champion,
            base=base,
            anchor=held,
            threshold=through.safety_threshold,
        )
        async with aiohttp.ClientSession() as session:
            server = Server(f"{at.url}/v1", session, api_key, at.tls or True, hard.patience_s, hard.timeout_s)
            place = Place(kept, AdminClient(at, api_key), server, session, full, home, progress, hard)
            return await gate_policy(contest, Asking(asked, harm, pushed, logged), limits, place)

    try:
        report = asyncio.run(work())
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell(report, as_json)


def _prompts(named: str | None, snapshot: str | None, version: Version, home: Path) -> PromptSet:
    if named is not None and snapshot is not None:
        raise TrainingError("Say what to ask: either --prompts or --snapshot.")
    if named is not None:
        return read_suite(named)
    wanted = snapshot or version.snapshot
    if not wanted:
        raise TrainingError(f"{version.ref} names no snapshot: say what to ask with --prompts or --snapshot.")
    return read_logged(find_snapshot(wanted, home))


def _parent(version: Version) -> str | None:
    """The reward model that it was trained on."""
    return next((one for one in version.parents if one.startswith("reward_model:")), None)


def _anchor(settings: Config, version: Version, kept: Registry) -> Path | None:
    """What an operator made the policy's anchor; else the configuration's own weights."""
    if version.name not in settings.policies or anchor_of(home_of(settings), settings, version.name).note is None:
        return _own_weights(settings, version)
    return anchor_folder(home_of(settings), settings, version.name, kept)


def _own_weights(settings: Config, version: Version) -> Path | None:
    """The configuration's, where they are a folder here."""
    policy = settings.policies.get(version.name)
    folder = Path(policy.model).expanduser() if policy else None
    return folder if folder is not None and folder.is_dir() else None


async def _logged(config: Path | None, model: str, limits: Thresholds) -> PromptSet:
    source = find_source(config, None, None)
    async with connect(source.address) as redis:
        return await logged_prompts(redis, source.shard, source.archive, model, limits.policy.deployment.prompts)
