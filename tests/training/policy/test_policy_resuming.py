"""A policy's job that is killed and started again gives the weights of one that was not."""

import shutil
import signal
import time
from pathlib import Path
from subprocess import Popen

import msgspec
import pytest

from tests.training.jobs.test_job_resuming import start, started
from tests.training.reward.small_world import pairs, thumbs
from training.errors import TrainingError
from training.jobs.contract import Base, Job, Place
from training.jobs.run import run_job
from training.policy.job import PolicyMetrics, prepare_job
from training.policy.settings import PolicySettings
from training.policy.trainer import Facts, PolicyRows, train

__all__ = ["started"]
pytestmark = pytest.mark.usefixtures("one_thread")  # as the processes have
ROWS = {"kto": PolicyRows(thumbs=thumbs(120)), "dpo": PolicyRows(pairs=pairs(120))}


def prepared(
    folder: Path, base: Path, method: str = "kto", models: dict[str, Path] | None = None, **settings: object
) -> Job:
    of = PolicySettings.model_validate({"method": method, "batch": 4, "rate": 3e-3, "save_every": 3, **settings})
    return prepare_job(ROWS[method], base, of, 0, folder / "jobs", models=models, snapshot="ab" * 32)


def finish(job: Job) -> Facts:
    """Does the rest of it in this process."""
    run_job(job)
    assert not job.checkpoints.exists()
    return msgspec.json.decode(job.metrics.read_bytes(), type=PolicyMetrics).facts


def killed(job: Job, started: list["Popen[bytes]"]) -> None:
    process = start(job, started)
    while process.poll() is None and not list(job.checkpoints.glob("checkpoint-*/complete.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not job.is_done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("method", "lora"),
    [
        ("kto", True),
        pytest.param("dpo", True, marks=pytest.mark.slow),
        pytest.param("dpo", False, marks=pytest.mark.slow),
    ],
)
def test_a_killed_job_goes_on_and_gives_the_same_weights(
    tiny: Path, tmp_path: Path, started: list["Popen[bytes]"], method: str, lora: bool
) -> None:
    job = prepared(tmp_path, tiny, method, lora=lora)
    undisturbed = Job(tmp_path / "undisturbed")
    shutil.copytree(job.folder, undisturbed.folder)
    killed(job, started)
    found, wanted = finish(job), finish(undisturbed)
    assert found.weights == wanted.weights
    assert found.learning == wanted.learning and found.points == wanted.points == [8, 15, 22, 30]
    assert contents(job.points) == contents(undisturbed.points)
    assert contents(job.model) == contents(undisturbed.model)
    first = job.progress_after(Place())[0][0]
    assert first.step > 3, "it began at the beginning"


@pytest.mark.slow
def test_so_does_one_that_is_held_to_another_version(tiny: Path, tmp_path: Path, started: list["Popen[bytes]"]) -> None:
    version = tmp_path / "first/model"
    train(ROWS["dpo"], tiny, PolicySettings(method="dpo", batch=4, rate=3e-3, max_steps=4), 0, version)
    job = prepared(tmp_path, tiny, models={"start": version, "anchor": version})
    undisturbed = Job(tmp_path / "undisturbed")
    shutil.copytree(job.folder, undisturbed.folder)
    killed(job, started)
    assert finish(job).weights == finish(undisturbed).weights
    assert contents(job.model) == contents(undisturbed.model)


def test_a_job_is_the_same_wherever_its_models_lie_and_another_with_other_models(tiny: Path, tmp_path: Path) -> None:
    job = prepared(tmp_path, tiny)
    moved = shutil.copytree(tiny, tmp_path / "moved")
    assert prepared(tmp_path, moved).folder == job.folder
    assert job.manifest().base.folder == str(moved)
    manifest = job.manifest()
    assert msgspec.structs.replace(manifest, models={"start": Base("/here", "ab")}).id != manifest.id
    assert (
        msgspec.structs.replace(manifest, models={"start": Base("/here", "ab")}).id
        == msgspec.structs.replace(manifest, models={"start": Base("/there", "ab")}).id
    )


def test_a_model_that_has_changed_is_refused(tiny: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny, tmp_path / "policy")
    job = prepared(tmp_path, base)
    with (base / "model.safetensors").open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(TrainingError, match="not the one"):
        run_job(job)


def test_a_job_without_rows_is_refused(tiny: Path, tmp_path: Path) -> None:
    rows = PolicyRows(pairs=pairs(2, weight=0.0), left_out={"not for policies": 3})
    with pytest.raises(TrainingError, match=r"no rows that dpo .*3 not for policies; 2 of weight 0"):
        prepare_job(rows, tiny, PolicySettings(method="dpo"), 0, tmp_path)
    assert list(tmp_path.iterdir()) == []
