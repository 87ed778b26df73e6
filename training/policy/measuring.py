"""What is measured of a trained policy before it gets a number: the curves of its points, on calibration prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.config import Config
from training.data.layout import Snapshot
from training.data.places import write_durably
from training.data.rows import PromptOnly
from training.evaluation.items import Item, distinct, prompt_id
from training.gates.serving import profile_of, public_model
from training.jobs.contract import Job, write_json
from training.policy.curves import CURVES, Curves, Readers, measure_curves, points_in
from training.policy.settings import PolicySettings

PLOT = "curves.png"


def calibration_prompts(snapshot: Snapshot, limit: int) -> Sequence[Item]:
    """Prompts of the calibration split: what a point or a method is chosen by; the test split is for gates."""
    found = [
        Item(id=prompt_id([row.prompt]), turns=[row.prompt], category=row.side.tenant, cluster=row.side.cluster)
        for row in snapshot.rows(PromptOnly, "calibration")
    ]
    return distinct(found)[0][:limit]


def guard_folder(settings: Config, public: str | None, policy: str) -> Path | None:
    """The safety classifier of the model's profile; None where there is none, or it is no folder here."""
    fitting = [one for one in settings.models.values() if one.policy == policy]
    if public is None and len(fitting) != 1:
        return None
    _, model = public_model(settings, public, policy)
    for name in profile_of(settings, model).guards:
        scorer = settings.scorers.get(name)
        if scorer is not None and scorer.kind == "safety" and Path(scorer.model).expanduser().is_dir():
            return Path(scorer.model).expanduser()
    return None


def measured_curves(
    job: Job, anchor: Path, base: Path, prompts: Sequence[Item], readers: Readers, settings: PolicySettings, tell: Any
) -> Curves:
    """As they were measured before, or measured now: beside the job's model as curves.json and curves.png.

    tell: is called after each point.
    """
    path = job.out / CURVES
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=Curves)
    from training.policy.plots import draw  # noqa: PLC0415  # matplotlib: 1 s

    found = measure_curves(
        points_in(job.out), anchor, prompts, readers, base=base, max_new_tokens=settings.max_new_tokens, done=tell
    )
    write_durably(job.out / PLOT, draw(found, f"{settings.method}, {job.manifest().snapshot[:12]}"))
    write_json(path, found)
    return found
