"""Real vLLM servers of local models, for tests and benchmarks of scorers: of a classifier or of a language model."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.config import EngineConfig, PolicyConfig
from tests.e2e.chaos.workers import RealWorker
from tests.ports import free_ports

CLASSIFY = ("--runner", "pooling")
"""For a sequence classifier: `/classify`."""

STEPS = (*CLASSIFY, "--pooler-config", '{"task": "token_classify"}')
"""For a classifier whose answer is wanted at each token: `/pooling`."""

GENERATE = ("--runner", "generate")
"""For a language model: `/v1/completions`, `/generative_scoring`."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model and how vLLM is to serve it. name: what it is called there."""

    model: Path
    args: Sequence[str] = CLASSIFY
    name: str = "scorer"


@contextmanager
def vllm_servers(*served: Served, folder: Path) -> Iterator[list[RealWorker]]:
    """A server of each, ready, in float32 and on a free port; they end, whole process groups, with the block.

    They start side by side, each on a core of its own while there are cores. Their logs go into `folder`.
    """
    cores = sorted(os.sched_getaffinity(0))
    workers = []
    for index, (one, port) in enumerate(zip(served, free_ports(len(served)), strict=True)):
        engine = EngineConfig(args=["--dtype", "float32", *one.args])
        policy = PolicyConfig(model=str(one.model), engine=engine)
        log = folder / f"vllm-{one.name}-{port}.log"
        workers.append(RealWorker(one.name, policy, port, cores[index % len(cores)], log))

    async def all_ready() -> None:
        await asyncio.gather(*(worker.until_ready() for worker in workers))

    try:
        for worker in workers:
            worker.start()
        asyncio.run(all_ready())
        yield workers
    finally:
        for worker in workers:
            worker.close()
