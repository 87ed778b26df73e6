"""One worker of a policy, and what this gateway knows of it."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from gateway.workers.breaker import CircuitBreaker
from gateway.workers.client import ServedModel, WorkerClient
from gateway.workers.load import WorkerLoad

Source = Literal["file", "dns", "admin"]
State = Literal["up", "down", "draining"]


@dataclass(slots=True, eq=False)
class Worker:
    """up: it serves the policy and has its adapters; reason: why not. draining: it gets nothing new.

    leaving: it goes once nothing runs on it. version: vLLM's. models: what it serves, adapters included, by id.
    misses: health questions in a row that it did not answer. unready: it answers, and cannot load its adapters.
    alias: of other weights than the policy's own with which it was started, `policy-vN`; it answers for nothing else.
    """

    client: WorkerClient
    source: Source
    breaker: CircuitBreaker
    up: bool = False
    reason: str = "not asked yet"
    draining: bool = False
    leaving: bool = False
    version: str | None = None
    models: dict[str, ServedModel] = field(default_factory=dict)
    misses: int = 0
    unready: bool = False
    alias: str | None = None
    load: WorkerLoad = field(default_factory=WorkerLoad)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = f"w-{hashlib.blake2b(self.client.url.encode(), digest_size=4).hexdigest()}"

    @property
    def name(self) -> str:
        """For the operator's log, never for clients."""
        return self.client.url.removeprefix("http://").removeprefix("https://")

    @property
    def state(self) -> State:
        if self.draining or self.leaving:
            return "draining"
        return "up" if self.up else "down"

    @property
    def takes_new(self) -> bool:
        return self.up and not (self.draining or self.leaving)
