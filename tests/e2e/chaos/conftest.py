from collections.abc import Iterator

import pytest

from tests.e2e.chaos.workers import RealWorker, start_workers
from tests.e2e.stack import Stack
from tests.ports import free_ports


@pytest.fixture(scope="session")
def workers(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealWorker]]:
    """Two vLLM workers on the demo policy, beside the stack's own."""
    policy = stack.config.policies["demo-policy"]
    running = start_workers("demo-policy", policy, free_ports(2), tmp_path_factory.mktemp("workers"))
    try:
        yield running
    finally:
        for worker in running:
            worker.close()
