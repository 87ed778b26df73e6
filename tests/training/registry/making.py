"""Small versions for the registry's tests."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from training.gates.verdicts import Gate, GateReport, Outcome, Verdict
from training.registry.layout import Version
from training.registry.registry import Registry

SNAPSHOT = "5" * 64


def clock(start: float = 1_000_000.0) -> Iterator[float]:
    while True:
        yield start
        start += 1.0


def registry_at(url: str, cache: Path) -> Registry:
    times = clock()
    return Registry(url, cache, clock=lambda: next(times))


def memory_url() -> str:
    """Of a registry of its own: fsspec's memory is one for the whole process."""
    return f"memory://registry-{uuid.uuid4().hex}"


def adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def model(folder: Path, weights: bytes = b"whole weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def policy(*jobs: str, **fields: object) -> Version:
    own = Version(
        kind="policy",
        name="demo-policy",
        number=0,
        adapter=True,
        snapshot=SNAPSHOT,
        method="dpo",
        measures={"jobs": list(jobs)},
    )
    return msgspec.structs.replace(own, **fields)


def reward(*jobs: str, **fields: object) -> Version:
    return policy(*jobs, kind="reward_model", name="reward", adapter=False, method="full", **fields)


def report(of: str, gate: Gate, outcome: Outcome = "pass", **fields: object) -> GateReport:
    verdict = Verdict(gate=gate, check="win rate", outcome=outcome, reason="It wins .55 of 400.", value=0.55, n=400)
    return msgspec.structs.replace(GateReport(of=of, verdicts=[verdict]), **fields)


def gated(registry: Registry, version: Version) -> Version:
    """It, after its gates have passed it and its data."""
    registry.add_verdicts(
        version.ref, report(version.ref, "G2 policy" if version.kind == "policy" else "G1 reward model")
    )
    registry.add_verdicts(f"snapshot:{version.snapshot}", report(f"snapshot:{version.snapshot}", "G0 data"))
    return version
