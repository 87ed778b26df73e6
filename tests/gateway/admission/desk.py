"""An `Admission` on a pool that a test makes as large, and as busy, as it likes."""

import asyncio
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.admission.admission import Admission, Place
from gateway.admission.capacity import Capacity
from gateway.admission.metrics import AdmissionMetrics
from gateway.admission.tiers import Tier


class Desk:
    """capacity, lag_s: what the admission sees; to be changed by `becomes`, or in silence. Made in a running loop."""

    def __init__(self, places: int = 10, *, max_waiting: int = 100, max_wait_s: float = 10.0) -> None:
        self.capacity = Capacity(places=places, running=0, others=0.0, waiting=0.0, kv_usage=None)
        self.lag_s = 0.0
        self.registry = CollectorRegistry()
        self.admission = Admission(
            "policy",
            lambda: self.capacity,
            lambda: self.lag_s,
            AdmissionMetrics(self.registry),
            max_waiting=max_waiting,
            max_wait_s=max_wait_s,
        )

    def becomes(self, **changes: Any) -> None:
        """The pool reports."""
        self.capacity = replace(self.capacity, **changes)
        self.admission.changed()

    async def admit(
        self, least: int = 1, n: int | None = None, *, tier: Tier = "default", tenant: str = "t", deadline: float = 1e9
    ) -> Place:
        return await self.admission.admit(tier, tenant, least if n is None else n, least, deadline)

    async def ask(self, least: int = 1, n: int | None = None, **how: Any) -> "asyncio.Task[Place]":
        """One who asks, and may be waiting now."""
        task = asyncio.create_task(self.admit(least, n, **how))
        await asyncio.sleep(0)
        return task

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"bestow_admission_{name}", {"policy": "policy", **labels}) or 0.0

    @property
    def held(self) -> int:
        return self.admission._held


async def settle() -> None:
    """Let everybody run who can."""
    for _ in range(5):
        await asyncio.sleep(0)
