"""A job's folder from its manifest and its inputs: made once, and gone on with where it is there already."""

import shutil
from pathlib import Path

from training.jobs.contract import Job, JobManifest, write_json


def placed(manifest: JobManifest, scratch: Path, folder: Path) -> Job:
    """The job in `folder`, under a name that says all that decides what comes of it. scratch: has its inputs."""
    job = Job(folder / manifest.id[:12])
    if job.manifest_file.is_file():
        known = job.manifest()
        if (known.base, known.models) != (manifest.base, manifest.models):  # the same weights, but they lie elsewhere
            write_json(job.manifest_file, manifest)
        return job
    shutil.rmtree(job.folder, ignore_errors=True)
    job.inputs.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(scratch / "inputs", job.inputs)
    write_json(job.manifest_file, manifest)  # last: a folder without it is no job
    return job


def why_none(left_out: dict[str, int]) -> str:
    """For the end of a sentence that says that there are no rows."""
    return f" ({'; '.join(f'{count} {reason}' for reason, count in left_out.items())})" if left_out else ""
