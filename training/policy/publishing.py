"""A done job of a policy becomes a version of the registry."""

from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec

from gateway.config import Config
from training.errors import TrainingError
from training.jobs.contract import Job
from training.policy.job import PolicyMetrics
from training.registry.layout import Version
from training.registry.registry import Registry

_CODE = ("bestow-gateway", "torch", "transformers", "trl", "peft", "accelerate")


def publish(
    registry: Registry,
    job: Job,
    name: str,
    model: str,
    parents: Sequence[str],
    measures: dict[str, Any],
    *,
    step: int | None = None,
    above: int = 1,
) -> Version:
    """model: the base, as it was named. parents: refs of all that it was made with, but for the snapshot.

    step: a point on the way, in place of the end. above: the number of the configuration's own weights.
    """
    manifest = job.manifest()
    facts = msgspec.json.decode(job.metrics.read_bytes(), type=PolicyMetrics).facts
    if step is not None and step not in facts.points:
        raise TrainingError(f"The training has no point at step {step}: there is {', '.join(map(str, facts.points))}.")
    said = msgspec.to_builtins(facts)
    # What takes other values each time it is done; the rest is the same for the same job.
    took = {"training_seconds": said.pop("seconds")}
    version = Version(
        kind="policy",
        name=name,
        number=0,
        adapter=bool(manifest.settings["lora"]),
        base={"model": model, "weights": manifest.base.weights},
        parents=list(parents),
        snapshot=manifest.snapshot,
        scope=manifest.scope,
        method=str(manifest.settings["method"]),
        settings=manifest.settings,
        measures={"jobs": [manifest.id], "step": step or facts.steps, "training": said, **measures},
        facts={**took, "code": {package: version_of(package) for package in _CODE}},
    )
    folder = job.model if step is None else job.points / str(step)
    return registry.publish(version, folder, above=above)


def own_number(settings: Config, name: str) -> int:
    """The number of the configuration's own weights: 1 where it does not know the policy."""
    policy = settings.policies.get(name)
    return policy.version if policy else 1


def version_folder(registry: Registry, named: str) -> tuple[Path, str]:
    """A version of a policy, as policy:NAME@N or NAME@N, and its ref. Raises TrainingError."""
    ref = named if ":" in named else f"policy:{named}"
    if registry.open(ref).kind != "policy":
        raise TrainingError(f"{ref} is no policy: name one as policy:NAME@N.")
    return registry.local(ref), ref
