"""A release: a policy, a reward model and what was calibrated for it, made of versions that their gates passed.

objections   why versions may not be released, one sentence each; pure
create       a release in the registry; refuses where there is an objection, or keeps the reason why it was made
to_bundle    a release as gateways serve it, with paths that workers and scorer servers on this machine can read
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.config import Config
from gateway.release.state import Bundle
from gateway.release.voiding import OVERLAY, why_not, wrong_overlay
from training.errors import TrainingError
from training.gates.standing import standing
from training.gates.verdicts import Gate, GateReport
from training.jobs.models import base_folder, weights_digest
from training.registry.layout import Kind, Release, Version
from training.registry.registry import Registry

GATES: dict[Kind, Gate] = {"policy": "G2 policy", "reward_model": "G1 reward model"}
# In a release's calibration, beside profile settings: settings of the scorer that runs the reward model.
SCORER = "scorer"


def snapshot_ref(identifier: str) -> str:
    """Under which the data gate's reports of a snapshot are kept."""
    return f"snapshot:{identifier}"


def objections(
    version: Version, reports: Sequence[GateReport], of_data: Sequence[GateReport], *, erased: bool
) -> list[str]:
    """Why a version may not be released. reports, of_data: of it and of its snapshot, the oldest first. Pure.

    The latest report counts; a veto holds until it is lifted, whatever is measured.
    """
    found = _failed(version.ref, GATES[version.kind], reports)
    if version.snapshot:
        found += _failed(snapshot_ref(version.snapshot), "G0 data", of_data)
    if version.measures.get("split") == "holdout":
        found.append(f"{version.ref} is a second opinion, which no policy may be chosen by")
    if erased:
        found.append(f"{version.ref} has learned from a person who was erased since")
    return found


def _failed(ref: str, gate: Gate, reports: Sequence[GateReport]) -> list[str]:
    stands = standing(reports)
    found = [f"{ref} was vetoed by {stands.veto}"] if stands.veto else []
    if stands.report is None or not any(verdict.gate == gate for verdict in stands.report.verdicts):
        return [*found, f"{ref} was not gated: there is no report of {gate} (bestow train gate --help)"]
    return found + [
        f"{ref}: {verdict.check}{' failed' if verdict.outcome == 'fail' else ''}: {verdict.reason}"
        for verdict in stands.report.verdicts
        if verdict.outcome != "pass"
    ]


def create(
    registry: Registry,
    settings: Config,
    model: str,
    policy: str | None,
    reward_model: str | None,
    calibration: Mapping[str, Any] | None = None,
    force: str | None = None,
) -> Release:
    """policy, reward_model: refs. force: why it is made in spite of what the gates say.

    Raises TrainingError, where gates object with the first of their objections and how many more there are.
    """
    if policy is None and reward_model is None:
        raise TrainingError("A release needs a --policy or a --reward-model: without either it would change nothing.")
    if model not in settings.models:
        raise TrainingError(
            f"There is no model {model!r} in the configuration (there is {', '.join(settings.models)})."
        )
    versions = [registry.verify(ref) for ref in (policy, reward_model) if ref is not None]
    _check_fit(settings, model, versions, dict(calibration or {}))
    reports = {version.ref: registry.named_verdicts(version.ref) for version in versions}
    erased = registry.erased()
    found = [
        objection
        for version in versions
        for objection in objections(
            version,
            [report for _, report in reports[version.ref]],
            registry.verdicts(snapshot_ref(version.snapshot)) if version.snapshot else [],
            erased=version.ref in erased,
        )
    ]
    if found and force is None:
        more = f" (and {len(found) - 1} more: bestow release show {versions[0].ref})" if len(found) > 1 else ""
        raise TrainingError(f"No release: {found[0].rstrip('.')}{more}. --force REASON makes it all the same.")
    return registry.release(
        Release(
            number=0,
            model=model,
            policy=policy,
            reward_model=reward_model,
            calibration=dict(calibration or {}),
            verdicts={ref: digest for ref, named in reports.items() if (digest := _latest(named))},
            passed=not found,
            reason=force or "",
            facts={"objections": found} if found else {},
        )
    )


def to_bundle(registry: Registry, release: Release, policy: str, *, check: bool = True) -> Bundle:
    """A release as gateways serve it. policy: the name that the configuration has for the model's policy.

    check: read all its files first. Raises TrainingError where one is not as it was when the release was made.
    """
    for ref, digest in release.digests.items():
        if registry.digest(ref) != digest:
            raise TrainingError(f"{ref} is not what release {release.number} was made of: make a new release.")
        if check:
            registry.verify(ref)
    weights: dict[str, Any] = {}
    if release.policy is not None:
        version = registry.open(release.policy)
        if version.name != policy:
            raise TrainingError(
                f"Release {release.number} has {version.label}, and {release.model} is served by the policy {policy}."
            )
        weights = {"policy": version.label, "served_as": version.served_as}
        if version.adapter:
            weights["path"] = str(registry.local(release.policy).absolute())
    ranks: dict[str, Any] = {}
    if release.reward_model is not None:
        version = registry.open(release.reward_model)
        own = {"kind": "reward", "model": str(registry.local(release.reward_model).absolute())}
        ranks = {"reward": scorer_name(version), "scorer": {**own, **release.calibration.get(SCORER, {})}}
    return Bundle(
        release=release.number,
        settings={key: value for key, value in release.calibration.items() if key in OVERLAY},
        digest=registry.release_digest(release.number),
        **weights,
        **ranks,
    )


def scorer_name(version: Version) -> str:
    """Of the scorer that runs a version of a reward model: another for each, so that the old one stays loaded."""
    return f"{version.name}-{version.number}"


def read_calibration(path: Path) -> dict[str, Any]:
    """Profile settings from YAML, or from one recommendation of a model card. Raises TrainingError."""
    import yaml  # noqa: PLC0415

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainingError(f"{path} cannot be read as YAML: {error}.") from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path} has no settings: write KEY: VALUE, such as n: 8.")
    if "recommendations" in found:
        if not found["recommendations"]:
            raise TrainingError(f"{path} recommends nothing: measure with `bestow calibrate MODEL` again.")
        found = found["recommendations"][0]["settings"]
    return dict(found)


def _latest(named: Sequence[tuple[str, GateReport]]) -> str:
    """The digest of the report that counts; empty: none does."""
    return next((digest for digest, report in reversed(named) if report.verdicts), "")


def _check_fit(settings: Config, model: str, versions: Sequence[Version], calibration: Mapping[str, Any]) -> None:
    """Raises TrainingError where it could not be served at all, whatever the gates said."""
    of_profile = {key: value for key, value in calibration.items() if key != SCORER}
    if wrong := wrong_overlay(of_profile):
        raise TrainingError(f"--calibration: {wrong.removeprefix('settings.')}.")
    policy = settings.models[model].policy
    reward = None
    for version in versions:
        if version.kind == "reward_model":
            reward = scorer_name(version)
        elif version.name != policy:
            raise TrainingError(
                f"{version.ref} is a version of {version.name}, and {model} is served by the policy {policy}."
            )
        elif version.adapter:
            _check_base(settings.policies[policy].model, version)
    profile = settings.profiles.get(settings.models[model].profile)
    scorer = {"kind": "reward", **calibration.get(SCORER, {})}
    if profile is not None and (wrong := why_not(profile, Bundle(reward=reward, scorer=scorer, settings=of_profile))):
        raise TrainingError(f"--calibration: {wrong.removeprefix('settings: ')}.")


def _check_base(model: str, version: Version) -> None:
    """An adapter on other weights than it was trained on is noise."""
    wanted = version.base.get("weights")
    if wanted and Path(model).expanduser().is_dir() and weights_digest(base_folder(model)) != wanted:
        raise TrainingError(
            f"{version.ref} was trained on other weights than {model} has now: train it again from these."
        )
