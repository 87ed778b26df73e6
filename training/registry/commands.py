"""What `bestow release list|show|create|verify|gc` do; their options are in `gateway.release.commands`."""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, get_args

import msgspec
from rich.console import Console
from rich.table import Table

from gateway.config import Config
from gateway.release.state import ReleaseState
from gateway.shared.command_line import print_json, print_table
from training.configured import configured
from training.data.places import home_of
from training.errors import TrainingError
from training.gates.standing import standing
from training.policy.anchors import read_anchors
from training.registry.checking import faults
from training.registry.collect import collect
from training.registry.layout import Kind, Release
from training.registry.live import read_state, roles
from training.registry.refs import parse_label, parse_ref
from training.registry.registry import Registry, bytes_of, configured_registry
from training.registry.releasing import create, read_calibration
from training.registry.showing import described_release, described_version, print_release, print_version, size

P = ParamSpec("P")
R = TypeVar("R")


def in_one_sentence(command: Callable[P, R]) -> Callable[P, R]:
    """A registry that cannot be reached, or a full disk, is no traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except OSError as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise TrainingError(f"The registry cannot be read or written: {why.rstrip('.')}.") from error

    return run


@in_one_sentence
def list_all(url: str | None, as_json: bool, config: Path | None) -> None:
    settings, registry = opened(url, config)
    versions = [one for kind in get_args(Kind) for one in registry.versions(kind)]
    releases, erased = registry.releases(), registry.erased()
    state, why = _state(settings)
    serving = roles(state) if state else {}
    if as_json:
        print_json(
            {
                "registry": registry.url,
                "versions": [described_version(registry, one) for one in versions],
                "releases": [
                    {**described_release(registry, one), "roles": serving.get(one.number, [])} for one in releases
                ],
                "serving": None if state is None else msgspec.to_builtins(state),
                "unknown": why,
            }
        )
        return
    if not versions and not releases:
        print(f"There is nothing in the registry {registry.url} yet: bestow train policy, bestow train cycle.")
        return
    table = Table("version", "method", "data", "size", "gate", box=None)
    for version in versions:
        marked = " (erased data)" if version.ref in erased else ""
        table.add_row(
            version.ref,
            version.method or "-",
            version.snapshot[:12] or "-",
            size(bytes_of(version.files)),
            _gate(registry, version.ref) + marked,
        )
    print_table(table)
    if releases:
        print()
        _print_releases(releases, serving)
    if state is None:
        print(f"\nWho serves is unknown: {why}", file=sys.stderr)
    elif state.safe_mode is not None:
        print("\nSafe mode is on: everybody gets the configuration's own policies.")


@in_one_sentence
def show_one(what: str, url: str | None, as_json: bool, config: Path | None) -> None:
    settings, registry = opened(url, config)
    if what.isdecimal() or what.startswith("release:"):
        release = registry.open_release(_number(what))
        state, _ = _state(settings)
        if as_json:
            print_json(described_release(registry, release))
        else:
            print_release(registry, release, roles(state).get(release.number, []) if state else [])
        return
    version = registry.open(full_ref(registry, what))
    if as_json:
        print_json(described_version(registry, version))
    else:
        print_version(registry, version)


@in_one_sentence
def create_one(
    model: str,
    policy: str | None,
    reward_model: str | None,
    calibration: Path | None,
    force: str | None,
    url: str | None,
    as_json: bool,
    config: Path | None,
) -> None:
    settings, registry = opened(url, config)
    if settings is None:
        raise TrainingError("A release is made for a configured model: name the configuration with --config.")
    release = create(
        registry,
        settings,
        model,
        None if policy is None else ref_of("policy", policy),
        None if reward_model is None else ref_of("reward_model", reward_model),
        {} if calibration is None else read_calibration(calibration),
        force,
    )
    if as_json:
        print_json(described_release(registry, release))
        return
    print_release(registry, release, [])
    print(f"next      bestow release start {release.number}")


@in_one_sentence
def verify_all(what: str | None, url: str | None, config: Path | None) -> int:
    """The exit code."""
    _, registry = opened(url, config)
    versions = [one for kind in get_args(Kind) for one in registry.versions(kind)]
    releases = registry.releases()
    if what is not None and (what.isdecimal() or what.startswith("release:")):
        releases = [registry.open_release(_number(what))]
        versions = [registry.open(ref) for ref in releases[0].digests]
    elif what is not None:
        versions, releases = [registry.open(full_ref(registry, what))], []
    wrong = 0
    for version in versions:
        with Console(stderr=True).status(f"reading {version.ref}"):
            found = faults(registry.storage, version)
        wrong += bool(found)
        said = "; ".join(map(str, found)) or f"whole, {len(version.files)} files, {size(bytes_of(version.files))}"
        print(f"{version.ref}: {said}")
    for release in releases:
        other = [ref for ref, digest in release.digests.items() if not _is(registry, ref, digest)]
        wrong += bool(other)
        print(f"{release.ref}: " + (f"{', '.join(other)}: missing, or another than it had" if other else "whole"))
    return 1 if wrong else 0


@in_one_sentence
def collect_garbage(keep: int, days: float, dry_run: bool, url: str | None, as_json: bool, config: Path | None) -> None:
    settings, registry = opened(url, config)
    if settings is None:
        raise TrainingError("Nothing is removed: without a configuration (--config) nobody can say what serves.")
    told: list[str] = []
    anchored = read_anchors(home_of(settings)).policies.values()
    found = collect(
        registry,
        _or_nothing(settings),
        now=time.time(),
        keep=keep,
        days=days,
        anchors=[f"policy:{anchor.version}" for anchors in anchored for anchor in anchors],
        dry_run=dry_run,
        removing=told.append,
    )
    if as_json:
        print_json({"dry_run": dry_run, "removed": found.refs if dry_run else told, "bytes": found.bytes})
        return
    for ref in found.refs if dry_run else told:
        print(f"{'would remove' if dry_run else 'removed'} {ref}")
    if not found.refs:
        print(
            "Nothing can be removed: all of it serves, may be rolled back to, is newer than what serves, or is young."
        )
    else:
        print(f"{len(found.refs)} of them, {size(found.bytes)}.")


def opened(url: str | None, config: Path | None) -> tuple[Config | None, Registry]:
    """The configuration that is named or lies here, and its registry or that of the URL. Raises TrainingError."""
    settings = configured(config)
    if settings is None and url is None:
        raise TrainingError(
            "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or a --registry."
        )
    return settings, configured_registry(settings, url) if settings is not None else Registry(str(url))


def ref_of(kind: Kind, given: str) -> str:
    """name@N, or the ref itself. Raises TrainingError."""
    ref = parse_ref(given if ":" in given else f"{kind}:{given}")
    if ref.kind != kind:
        raise TrainingError(f"{given} is no {kind.replace('_', ' ')}: write {kind}:NAME@N.")
    return str(ref)


def full_ref(registry: Registry, given: str) -> str:
    """A ref; of name@N, that of the kind that has it. Raises TrainingError."""
    if parse_label(given) is None:
        return str(parse_ref(given))
    found = [ref for kind in get_args(Kind) if registry.has(ref := f"{kind}:{given}")]
    if len(found) > 1:
        raise TrainingError(f"{given} is {' and '.join(found)}: say which.")
    return found[0] if found else f"policy:{given}"


def _number(what: str) -> int:
    number = what.removeprefix("release:")
    if not number.isdecimal():
        raise TrainingError(f"{what!r} is no release: write its number, such as 3.")
    return int(number)


def _state(settings: Config | None) -> tuple[ReleaseState | None, str]:
    """What serves, or why nobody knows."""
    if settings is None:
        return None, "no configuration was named (--config)."
    try:
        return read_state(settings), ""
    except TrainingError as error:
        return None, str(error)


def _or_nothing(settings: Config) -> Callable[[], ReleaseState]:
    """Reads what serves. Where nobody can say it, says that nothing goes by that."""

    def read() -> ReleaseState:
        try:
            return read_state(settings)
        except TrainingError as error:
            raise TrainingError(f"From here on nothing is removed. {error}") from None

    return read


def _is(registry: Registry, ref: str, digest: str) -> bool:
    return registry.has(ref) and registry.digest(ref) == digest


def _gate(registry: Registry, ref: str) -> str:
    stands = standing(registry.verdicts(ref))
    if stands.veto:
        return f"vetoed by {stands.veto}"
    if stands.report is None:
        return "not gated"
    wrong = [verdict.check for verdict in stands.report.verdicts if verdict.outcome != "pass"]
    return f"stopped: {', '.join(wrong)}" if wrong else "passed"


def _print_releases(releases: list[Release], serving: dict[int, list[str]]) -> None:
    table = Table("release", "model", "policy", "reward model", "gates", "serves", box=None)
    for one in releases:
        table.add_row(
            str(one.number),
            one.model,
            _label(one.policy),
            _label(one.reward_model),
            "passed" if one.passed else f"forced: {one.reason}",
            ", ".join(serving.get(one.number, [])) or "-",
        )
    print_table(table)


def _label(ref: str | None) -> str:
    return ref.partition(":")[2] if ref else "as configured"
