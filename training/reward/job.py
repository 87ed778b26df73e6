"""Reward model training as a job: what is put into its directory, and what is done with it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from training.data.layout import Snapshot
from training.data.rows import Preference, Split, Unpaired
from training.errors import TrainingError
from training.jobs.contract import Base, Job, JobManifest, write_json
from training.jobs.placing import placed, why_none
from training.jobs.progress import appending
from training.reward.calibrating import Calibrated, calibrate
from training.reward.settings import RewardSettings
from training.reward.trainer import Facts

# ruff: noqa: PLC0415  # torch and TRL: 7 s; transformers: 3 s

T = TypeVar("T")


class RewardMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """out/metrics.json of a reward model's job."""

    facts: Facts
    calibration: Calibrated


def prepare_jobs(
    snapshot: Snapshot,
    split: Literal["train", "holdout"],
    base: Path,
    settings: RewardSettings,
    seeds: int,
    processes: int,
    folder: Path,
    progress: Callable[[int], None],
) -> list[Job]:
    """A job for each seed, in `folder`; those that are there already are gone on with.

    progress: is told of each row that was rendered. Raises TrainingError where the snapshot has nothing to train on.
    """
    from training.jobs.models import weights_digest

    scratch = folder / f".{snapshot.manifest.id[:12]}-{split}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        first = _manifest(
            snapshot, split, Base(str(base), weights_digest(base)), settings, processes, scratch, progress
        )
        if not first.inputs["train"].rows:
            raise TrainingError(
                f"The snapshot {snapshot.url} has no pairs and no thumbs in its split {split} that can be trained on"
                f"{why_none(first.left_out)}. See --split, and `bestow train snapshot --help`."
            )
        return [placed(msgspec.structs.replace(first, seed=seed), scratch, folder) for seed in range(seeds)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _manifest(
    snapshot: Snapshot,
    split: Literal["train", "holdout"],
    base: Base,
    settings: RewardSettings,
    processes: int,
    scratch: Path,
    progress: Callable[[int], None],
) -> JobManifest:
    from training.reward.encoding import RowEncoder
    from training.reward.tables import write_rows

    inputs, left_out = {}, {}
    wanted: dict[str, Split] = {"train": split, "calibration": "calibration"}
    for name, of in wanted.items():
        encoder = RowEncoder(Path(base.folder), settings.max_length)
        rows = _told(_rows(snapshot, of), progress)
        chosen = (row for row in rows if not settings.sources or row.side.source in settings.sources)
        inputs[name] = write_rows(scratch, name, encoder.encode(chosen))
        if name == "train":
            left_out = dict(sorted(encoder.left_out.items()))
    return JobManifest(
        kind="reward",
        settings=settings.model_dump(),
        seed=0,
        base=base,
        inputs=inputs,
        left_out=left_out,
        processes=processes,
        scope=snapshot.manifest.scope,
        snapshot=snapshot.manifest.id,
        split=split,
    )


def _rows(snapshot: Snapshot, split: Split) -> Iterator[Preference | Unpaired]:
    yield from snapshot.rows(Preference, split)
    yield from snapshot.rows(Unpaired, split)


def _told(rows: Iterator[T], progress: Callable[[int], None]) -> Iterator[T]:
    for row in rows:
        yield row
        progress(1)


def train_reward(job: Job, manifest: JobManifest) -> None:
    """Does the job in this process: out/model, then out/metrics.json. Raises TrainingError."""
    from training.jobs.checkpoints import drop_damaged
    from training.jobs.looping import join_others
    from training.jobs.models import weights_digest
    from training.reward.fitting import fit
    from training.reward.tables import read_rows

    settings = RewardSettings(**manifest.settings)
    base = Path(manifest.base.folder)
    if weights_digest(base) != manifest.base.weights:
        raise TrainingError(f"The model in {base} is not the one that the job was made for: start the command again.")
    rows = {name: read_rows(job.checked_input(name, of)) for name, of in manifest.inputs.items()}
    together = join_others(manifest.processes)
    if together.is_main_process:
        job.checkpoints.mkdir(parents=True, exist_ok=True)
        drop_damaged(job.checkpoints)
        job.progress.unlink(missing_ok=True)
    together.wait_for_everyone()
    facts = fit(
        rows["train"],
        base,
        settings,
        manifest.seed,
        job.model,
        left_out=manifest.left_out,
        checkpoints=job.checkpoints,
        adapter=job.adapter,
        progress=appending(job.progress),
    )
    if facts is not None:
        calibration = calibrate(job.model, rows["calibration"], facts.a, facts.b)
        write_json(job.metrics, RewardMetrics(facts=facts, calibration=calibration))
        shutil.rmtree(job.checkpoints)
