"""The stages of a turn: which there are, the command of each, and what it says of the next. Pure.

    defend -> snapshot -> gate data -> reward -> holdout -> gate reward -> policy -> gate policy -> create -> start

Each is a command that an operator can give by hand; what it prints with --json is all that the next ones know of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from training.cycle.settings import CycleSettings
from training.cycle.turn import Turn

Said = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """about: for people. command: behind `bestow`. kept: of what it said, what is written down.

    gate: it may say no, with exit code 1 and a report; then the turn stops.
    """

    name: str
    about: str
    command: Callable[[CycleSettings, Turn], list[str]]
    kept: tuple[str, ...] = ()
    gate: bool = False


def steps(settings: CycleSettings) -> list[Step]:
    """The stages of a turn with these settings, in their order."""
    trains_policy = settings.policy.train
    found = [
        Step("defend", "looking for poisoning among the votes", _defend, ("facts",)),
        Step("snapshot", "making datasets of the log", _snapshot, ("id",)),
        Step("gate data", "gate G0: may this be learnt from?", _gate_data, ("passed",), gate=True),
    ]
    if settings.reward.train:
        found.append(Step("reward", "training the reward model", _reward, ("model", "folder", "ref")))
    found.append(Step("holdout", "training the holdout reward model", _holdout, ("model", "folder", "ref")))
    if settings.reward.train:
        found.append(Step("gate reward", "gate G1: is the reward model good?", _gate_reward, ("passed",), gate=True))
    if trains_policy:
        found.append(Step("policy", f"training the policy by {settings.policy.method}", _policy, ("ref", "folder")))
        found.append(Step("gate policy", "gate G2: is the policy better?", _gate_policy, ("passed",), gate=True))
    if settings.release != "none":
        found.append(Step("create", "making the release", _create, ("number",)))
    if settings.release == "canary":
        found.append(Step("start", "handing it to the canary", _start))
    return found


def refusal(report: Said) -> str:
    """Why a gate said no, from its report."""
    verdicts: Sequence[Said] = report.get("verdicts") or []
    failed = [one for one in verdicts if one.get("outcome") != "pass"]
    first = "; ".join(f"{one['check']}: {one['reason']}" for one in failed[:3])
    more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
    return (report.get("vetoed") or first or "it gave no reason") + more


def _defend(settings: CycleSettings, _: Turn) -> list[str]:
    return ["train", "defend", "--json", *_option("--reference", settings.reference)]


def _snapshot(settings: CycleSettings, _: Turn) -> list[str]:
    found = ["train", "snapshot", "--json", *_option("--settings", settings.snapshot_settings)]
    found += ["--shared"] if settings.shared else _option("--tenant", settings.tenant)
    if settings.curated:
        found += ["--curated", str(settings.curated), "--curated-share", str(settings.curated_share)]
    return found


def _gate_data(settings: CycleSettings, turn: Turn) -> list[str]:
    found = ["train", "gate", "data", _of(turn, "snapshot", "id"), "--json", *_thresholds(settings)]
    return [*found, *_option("--reference", settings.reference)]


def _reward(settings: CycleSettings, turn: Turn) -> list[str]:
    part = settings.reward
    found = ["train", "reward", _of(turn, "snapshot", "id"), "--json", "--name", part.name, "--seeds", str(part.seeds)]
    return [*found, "--lora" if part.lora else "--full", *_option("--base", part.base), *_sets(part.settings)]


def _holdout(settings: CycleSettings, turn: Turn) -> list[str]:
    part = settings.reward
    found = ["train", "reward", _of(turn, "snapshot", "id"), "--json", "--split", "holdout", "--seeds", "1"]
    return [*found, "--lora" if part.lora else "--full", *_option("--base", part.base), *_sets(part.settings)]


def _gate_reward(settings: CycleSettings, turn: Turn) -> list[str]:
    return ["train", "gate", "reward", _of(turn, "reward", "ref"), "--json", *_thresholds(settings)]


def _policy(settings: CycleSettings, turn: Turn) -> list[str]:
    part = settings.policy
    found = ["train", "policy", _of(turn, "snapshot", "id"), "--json", "--method", part.method]
    found += [*_option("--name", part.name), *_option("--model", settings.model), *_proxy(settings, turn)]
    return [*found, *(["--full"] if part.full else []), *_sets(part.settings)]


def _gate_policy(settings: CycleSettings, turn: Turn) -> list[str]:
    found = ["train", "gate", "policy", _of(turn, "policy", "ref"), "--json"]
    found += ["--holdout", _of(turn, "holdout", "ref"), *_proxy(settings, turn, "--proxy")]
    found += [*_option("--model", settings.model), *_option("--prompts", settings.prompts)]
    return [*found, *_thresholds(settings)]


def _create(settings: CycleSettings, turn: Turn) -> list[str]:
    found = ["release", "create", "--json", *_option("--model", settings.model)]
    if turn.said("policy"):
        found += ["--policy", _of(turn, "policy", "ref")]
    if turn.said("reward") and settings.reward.serve:
        found += ["--reward-model", _of(turn, "reward", "ref")]
    return found


def _start(_: CycleSettings, turn: Turn) -> list[str]:
    return ["release", "start", _of(turn, "create", "number"), "--json", "--reason", f"turn {turn.number}"]


def _proxy(settings: CycleSettings, turn: Turn, option: str = "--reward-model") -> list[str]:
    said = turn.said("reward")
    return _option(option, str(said["ref"]) if said else settings.reward.model)


def _thresholds(settings: CycleSettings) -> list[str]:
    return _option("--thresholds", settings.thresholds)


def _of(turn: Turn, stage: str, key: str) -> str:
    said = turn.said(stage)
    assert said is not None, stage  # the stages are in their order
    return str(said[key])


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def _sets(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in sorted(settings.items()) for part in ("--set", f"{key}={value}")]
