"""`python -m training.jobs.run JOBDIR`: does a job, whatever launched it; see `training.jobs.contract`.

Done jobs are left as they are. With several processes (`accelerate launch`) each calls this; the first writes.
Exit codes: 0 done, 1 failed (the sentence is on stderr and in out/failed.json).
"""

import os
import sys
from pathlib import Path

from training.errors import TrainingError
from training.jobs.contract import Failed, Job, alone, write_json
from training.policy.job import train_policy
from training.reward.job import train_reward

_TRAINS = {"reward": train_reward, "policy": train_policy}


def run_job(job: Job) -> None:
    """Raises TrainingError, also when it was written to out/failed.json."""
    rank = int(os.environ.get("RANK", "0"))
    with alone(job, rank, _attempt()):
        if job.is_done:
            return
        if rank == 0:
            job.failed.unlink(missing_ok=True)
        try:
            manifest = job.manifest()
            _check_processes(manifest.processes)
            _TRAINS[manifest.kind](job, manifest)
        except TrainingError as error:
            write_json(job.failed, Failed(str(error)))
            raise
        except Exception as error:
            sentence = f"The training failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
            write_json(job.failed, Failed(sentence))
            raise


def _attempt() -> str:
    """What the processes of one launch have in common."""
    return " ".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"))


def _check_processes(wanted: int) -> None:
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if running != wanted:
        raise TrainingError(
            f"The job is made for {wanted} process(es) and runs with {running}, on which its result depends: set "
            "`processes` in the runner's settings to the number that it starts."
        )


def main() -> int:
    if len(sys.argv) != 2:
        print("Usage: python -m training.jobs.run JOBDIR", file=sys.stderr)
        return 2
    try:
        run_job(Job(Path(sys.argv[1])))
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
