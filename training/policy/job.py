"""Policy training as a job: what is put into its directory, and what is done with it."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from training.errors import TrainingError
from training.jobs import tables
from training.jobs.contract import Base, Job, JobManifest, write_json
from training.jobs.placing import placed, why_none
from training.jobs.progress import appending
from training.policy.settings import PolicySettings
from training.policy.trainer import Facts, PolicyRows, fit_by_method

# ruff: noqa: PLC0415  # torch and TRL: 7 s; transformers: 3 s

T = TypeVar("T")

_COLUMNS: dict[str, tables.Column] = {
    "prompt_ids": "ids",
    "answer_ids": "ids",
    "other_ids": "ids",
    "label": "bool",
    "weight": "float64",
    "messages": "string",
    "reference": "string",
}


class PolicyMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """out/metrics.json of a policy's job."""

    facts: Facts


def prepare_job(
    rows: PolicyRows,
    base: Path,
    settings: PolicySettings,
    seed: int,
    folder: Path,
    *,
    models: Mapping[str, Path] | None = None,
    processes: int = 1,
    scope: str = "",
    snapshot: str = "",
    split: str = "train",
    progress: Callable[[int], None] = lambda _: None,
) -> Job:
    """A job in `folder`; one that is there already is gone on with.

    models: others that it needs, as `trainer.train` names them: start, anchor, reward. scope, snapshot, split: where
    the rows come from. progress: is told of each row that was rendered. Raises TrainingError where none is left.
    """
    from training.jobs.models import weights_digest
    from training.policy.encoding import RowEncoder

    scratch = folder / f".{settings.method}-{snapshot[:12] or 'rows'}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        encoder = RowEncoder(base, settings)
        train = tables.write_rows(scratch, "train", encoder.encode(_told(rows.rows, progress)), _COLUMNS)
        left_out = {**rows.left_out, **encoder.left_out}
        if not train.rows:
            raise TrainingError(f"There are no rows that {settings.method} could learn from{why_none(left_out)}.")
        manifest = JobManifest(
            kind="policy",
            settings=settings.model_dump(),
            seed=seed,
            base=Base(str(base), weights_digest(base)),
            inputs={"train": train},
            left_out=dict(sorted(left_out.items())),
            processes=processes,
            scope=scope,
            snapshot=snapshot,
            split=split,
            models={role: Base(str(path), weights_digest(path)) for role, path in (models or {}).items()},
        )
        return placed(manifest, scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _told(rows: Iterable[T], progress: Callable[[int], None]) -> Iterator[T]:
    for row in rows:
        yield row
        progress(1)


def train_policy(job: Job, manifest: JobManifest) -> None:
    """Does the job in this process: out/model and out/points, then out/metrics.json. Raises TrainingError."""
    from training.jobs.checkpoints import drop_damaged
    from training.jobs.looping import join_others
    from training.policy.encoding import EncodedRow

    settings = PolicySettings(**manifest.settings)
    for of in (manifest.base, *manifest.models.values()):
        _check(of)
    rows = tables.read_rows(job.checked_input("train", manifest.inputs["train"]), EncodedRow)
    models: dict[str, Path | None] = {role: Path(of.folder) for role, of in manifest.models.items()}
    together = join_others(manifest.processes)
    if together.is_main_process:
        job.checkpoints.mkdir(parents=True, exist_ok=True)
        drop_damaged(job.checkpoints)
        job.progress.unlink(missing_ok=True)
    together.wait_for_everyone()
    facts = fit_by_method(
        rows,
        Path(manifest.base.folder),
        settings,
        manifest.seed,
        job.model,
        models=models,
        left_out=manifest.left_out,
        checkpoints=job.checkpoints,
        progress=appending(job.progress),
    )
    if facts is not None:
        write_json(job.metrics, PolicyMetrics(facts=facts))
        shutil.rmtree(job.checkpoints)


def _check(of: Base) -> None:
    from training.jobs.models import weights_digest

    if weights_digest(Path(of.folder)) != of.weights:
        raise TrainingError(f"The model in {of.folder} is not the one that the job was made for: start it again.")
