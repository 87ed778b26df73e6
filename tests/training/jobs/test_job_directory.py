"""A job's directory: what is in it, what goes wrong with it, and how it is waited for. No model is trained."""

from pathlib import Path

import msgspec
import pytest

from training.errors import TrainingError
from training.jobs.contract import Base, Failed, Input, Job, JobManifest, Place, alone, write_json
from training.jobs.following import follow
from training.jobs.progress import Step
from training.jobs.run import run_job


def made(folder: Path, base: str = "/models/policy", processes: int = 1) -> Job:
    job = Job(folder)
    job.inputs.mkdir(parents=True)
    (job.inputs / "train.parquet").write_bytes(b"rows")
    rows = Input("inputs/train.parquet", "0" * 64, 1)
    manifest = JobManifest(
        kind="reward", settings={}, seed=0, base=Base(base, "ab"), inputs={"train": rows}, processes=processes
    )
    write_json(job.manifest_file, manifest)
    return job


def step(number: int) -> Step:
    return Step(number, 9, 0.5, 1.0, None)


def told(job: Job, *steps: Step) -> None:
    job.out.mkdir(exist_ok=True)
    with job.progress.open("ab") as opened:
        opened.write(b"".join(msgspec.json.encode(one) + b"\n" for one in steps))


def test_a_job_is_named_by_all_but_where_its_base_lies(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", base="/elsewhere/policy")
    assert one.manifest().id == other.manifest().id
    assert msgspec.structs.replace(one.manifest(), seed=1).id != one.manifest().id


def test_a_done_job_is_left_as_it_is(tmp_path: Path) -> None:
    job = made(tmp_path / "job")
    write_json(job.metrics, {"done": True})
    job.manifest_file.write_text("this is not read")
    before = {path: path.read_bytes() for path in sorted(job.folder.rglob("*")) if path.is_file()}
    run_job(job)
    assert {path: path.read_bytes() for path in before} == before


def test_a_failure_is_a_sentence_in_the_directory(tmp_path: Path) -> None:
    job = made(tmp_path / "job", processes=4)
    with pytest.raises(TrainingError, match="made for 4"):
        run_job(job)
    assert "made for 4" in msgspec.json.decode(job.failed.read_bytes(), type=Failed).error
    with pytest.raises(TrainingError, match="no training job"):
        run_job(Job(tmp_path / "nothing"))


def test_an_input_that_was_changed_is_refused(tmp_path: Path) -> None:
    job = made(tmp_path / "job")
    with pytest.raises(TrainingError, match="input train"):
        job.checked_input("train", job.manifest().inputs["train"])


def test_progress_is_read_by_whole_lines_and_begins_again_with_a_new_attempt(tmp_path: Path) -> None:
    job = made(tmp_path / "job")
    assert job.progress_after(Place()) == ([], Place())
    told(job, step(1), step(2))
    with job.progress.open("ab") as opened:
        opened.write(b'{"step": 3, "ste')
    steps, place = job.progress_after(Place())
    assert steps == [step(1), step(2)]
    with job.progress.open("ab") as opened:
        opened.write(b'ps": 9, "loss": 0.5, "seconds": 1.0, "to_go": null}\n')
    assert job.progress_after(place)[0] == [step(3)]
    old = job.progress.rename(job.out / "old.jsonl")  # so that its inode is not given away again
    told(job, step(2))
    assert job.progress_after(place)[0] == [step(2)]
    assert old.exists()


def test_following_tells_all_steps_and_ends_with_the_job(tmp_path: Path) -> None:
    job, seen = made(tmp_path / "job"), list[Step]()
    told(job, step(1))

    def sleep(_: float) -> None:
        told(job, step(2))
        write_json(job.metrics, {})

    follow(job, lambda: None, seen.append, sleep)
    assert seen == [step(1), step(2)]


def test_following_says_why_a_job_failed(tmp_path: Path) -> None:
    job = made(tmp_path / "job")
    with pytest.raises(TrainingError, match="it went away"):
        follow(job, lambda: "it went away", lambda _: None)
    write_json(job.failed, Failed("The rows are bad."))
    with pytest.raises(TrainingError, match=r"^The rows are bad\.$"):
        follow(job, lambda: "it went away", lambda _: None)


def test_all_processes_of_an_attempt_wait_for_another_attempt(tmp_path: Path) -> None:
    job = made(tmp_path / "job")
    waited = 0

    def sleep(_: float) -> None:
        nonlocal waited
        waited += 1
        with alone(job, 0, "this attempt"):
            assert (job.out / "lock").read_text() == "this attempt"

    with alone(job, 0, "another attempt"):
        pass
    with alone(job, 1, "this attempt", sleep):
        assert waited == 1
    write_json(job.metrics, {})
    with alone(job, 1, "a third", sleep):  # nothing is left to wait for
        assert waited == 1
