"""Whole gateways with releases on their way, in front of fake workers and a real Redis."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.release.assignment import arm_of
from gateway.release.controller import ReleaseController
from gateway.release.route import unit_of
from gateway.release.state import Canary
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.api.test_admin_keys import call
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer

RELEASES = "/admin/v1/releases"
M = f"{RELEASES}/m"
# Stages go by as soon as users are there; comparisons are made from the first.
QUICK = {"stages": [0.5, 1.0], "min_users": 1, "min_votes": 2, "min_hours": 0, "min_days": 0, "poll_s": 0.05}


def adapter(number: int = 2, **fields: Any) -> dict[str, Any]:
    """A bundle as it is submitted."""
    weights = {"policy": f"policy@{number}", "served_as": f"policy-v{number}", "path": f"/adapters/{number}"}
    return {"release": number, **weights, **fields}


@asynccontextmanager
async def releasing(
    redis: RedisServer,
    folder: Path,
    *workers: FakeWorker,
    settings: Mapping[str, Any] | None = None,
    scorers: FakeScorers | None = None,
    profile: dict[str, Any] | None = None,
) -> AsyncIterator["Releasing"]:
    """A gateway whose further workers, already served, are added. settings: of `release`, over QUICK."""
    first = workers[0] if workers else FakeWorker(lenient=True)
    async with running_gateway(
        folder,
        first,
        scorers,
        redis_url=redis.url,
        release=QUICK | dict(settings or {}),
        log={"flush_ms": 5},
        **(profile or {"n": 1, "reward": None, "safety": None}),
    ) as gateway:
        for other in workers[1:]:
            assert (await call(gateway, "POST", "/admin/v1/workers", json={"policy": "policy", "url": other.url}))[
                0
            ] == 201
        await gateway.service.pools["policy"].check()
        yield Releasing(gateway)


class Releasing:
    """What the tests ask of a gateway."""

    def __init__(self, gateway: Harness) -> None:
        self.gateway = gateway

    @property
    def controller(self) -> ReleaseController:
        controller: ReleaseController = self.gateway.app.state.controller
        return controller

    async def submit(self, bundle: dict[str, Any], expected: int = 202) -> Any:
        status, body = await call(self.gateway, "POST", M, json={"bundle": bundle, "reason": "try it"})
        assert status == expected, body
        return body

    async def do(self, what: str, expected: int = 200, **body: Any) -> Any:
        status, answer = await call(self.gateway, "POST", f"{M}/{what}", json={"reason": f"we {what}", **body})
        assert status == expected, answer
        return answer

    async def seen(self) -> dict[str, Any]:
        status, body = await call(self.gateway, "GET", M)
        assert status == 200, body
        return dict(body)

    async def phase(self) -> str | None:
        challenger = (await self.seen())["challenger"]
        return str(challenger["phase"]) if challenger else None

    async def acts(self) -> list[str]:
        """Oldest first."""
        return [move["act"] for move in (await self.seen())["moves"]][::-1]

    @property
    def canary(self) -> Canary:
        canary = self.controller.releases.state.of("m").canary
        assert canary is not None
        return canary

    async def ask(self, user: str) -> tuple[str, str]:
        """The policy by the receipt, and the id."""
        status, headers, body = await self.gateway.chat("hi", user=user, max_tokens=8)
        assert status == 200, body
        return str(headers["x-bestow-policy"]), str(body["id"])

    async def vote(self, user: str, up: bool) -> str:
        """Ask and vote; the policy that answered."""
        policy, identifier = await self.ask(user)
        body = {"id": identifier, "kind": "thumbs", "value": up, "user": user}
        async with self.gateway.session.post("/v1/feedback", json=body) as reply:
            assert reply.status == 202, await reply.text()
        return policy

    def arm(self, user: str) -> str | None:
        """Whose it is, by the canary and the hash alone."""
        hashed = self.gateway.service.signer.hash_user(user)
        return arm_of(self.canary, self.gateway.service.config.release, unit_of("default", hashed))


def people(count: int, start: int = 0) -> Sequence[str]:
    return [f"user-{number}" for number in range(start, start + count)]
