"""Two gateways that share two real vLLM workers and a Redis, and releases of adapters on their way to users."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.config import Config, dump, parse
from gateway.release.assignment import arm_of
from gateway.release.route import unit_of
from gateway.release.state import RELEASES, Arm, Canary
from gateway.signing import Signer, load_secret
from tests.e2e.chaos.workers import RealWorker
from tests.gateway.gateway_process import GatewayProcess
from tests.gateway.log.conftest import RedisServer
from tests.ports import free_port

POLICY = "demo-policy"
MODEL = "m"
QUESTION = [{"role": "user", "content": "How do I keep a houseplant healthy?"}]
WITHIN_S = 120.0


def configured(
    folder: Path, weights: str, workers: list[RealWorker], redis: RedisServer, release: dict[str, Any]
) -> GatewayProcess:
    """A gateway that has not started. All have one secret, so that users are the same to all."""
    folder.mkdir()
    save(cache_file(folder), Snapshot())
    port = free_port()
    config: Config = parse(
        {
            "data_dir": str(folder),
            "gateway": {"port": port, "drain_delay_s": 0, "feedback_secret_file": str(folder.parent / "secret")},
            "redis": {"url": redis.url},
            "log": {"flush_ms": 5},
            "policies": {POLICY: {"model": weights, "workers": [{"url": worker.url} for worker in workers]}},
            "profiles": {"default": {"n": 1, "reward": None, "safety": None}},
            "models": {MODEL: {"policy": POLICY, "profile": "default"}},
            "release": {"poll_s": 0.25, "min_users": 1_000_000, "stages": [0.5, 1.0], "hold_back": 0.3, **release},
        }
    )
    (folder / "bestow.yaml").write_text(dump(config))
    command = (sys.executable, "-m", "gateway", "--config", str(folder / "bestow.yaml"))
    return GatewayProcess(f"http://127.0.0.1:{port}", folder, command)


@dataclass
class Said:
    """One answer, and the version that its receipt names."""

    user: str
    policy: str
    text: str
    id: str
    url: str


@dataclass
class World:
    """gateways: at their addresses. texts: by version, what it says to the question, greedily."""

    gateways: list[GatewayProcess]
    workers: list[RealWorker]
    redis: Redis
    session: aiohttp.ClientSession
    signer: Signer
    config: Config
    adapters: dict[int, Path]
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.gateways[0].url

    async def call(self, method: str, path: str, body: Any = None, *, url: str | None = None) -> tuple[int, Any]:
        async with self.session.request(method, (url or self.url) + path, json=body) as reply:
            return reply.status, await reply.json()

    async def release(self, *, url: str | None = None) -> dict[str, Any]:
        status, found = await self.call("GET", f"/admin/v1/releases/{MODEL}", url=url)
        assert status == 200, found
        return dict(found)

    async def do(self, what: str, *, url: str | None = None, **body: Any) -> dict[str, Any]:
        status, found = await self.call("POST", f"/admin/v1/releases/{MODEL}{what}", {"reason": "e2e", **body}, url=url)
        assert status < 300, found
        return dict(found)

    async def submit(self, number: int) -> None:
        label, name = f"{POLICY}@{number}", f"{POLICY}-v{number}"
        bundle = {"release": number, "policy": label, "served_as": name, "path": str(self.adapters[number])}
        await self.do("", bundle=bundle)

    async def until_phase(self, phase: str | None, *, url: str | None = None, within_s: float = WITHIN_S) -> None:
        async def there() -> bool:
            challenger = (await self.release(url=url))["challenger"]
            return (challenger["phase"] if challenger else None) == phase

        await until_true(there, within_s, self.log)

    async def canary(self) -> Canary:
        canary = (await RELEASES.read(self.redis)).of(MODEL).canary
        assert canary is not None
        return canary

    def arm(self, canary: Canary, user: str) -> Arm | None:
        return arm_of(canary, self.config.release, unit_of("default", self.signer.hash_user(user)))

    async def ask(self, user: str, *, url: str | None = None, **fields: Any) -> Said | int:
        """The answer, or the status where there is none."""
        body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 12, "user": user, **fields}
        at = url or self.url
        async with self.session.post(f"{at}/v1/chat/completions", json=body) as reply:
            found = await reply.json()
            if reply.status != 200:
                return reply.status
            text = found["choices"][0]["message"]["content"]
            return Said(user, reply.headers["x-bestow-policy"], text, found["id"], at)

    async def answer(self, user: str, **fields: Any) -> Said:
        said = await self.ask(user, **fields)
        assert isinstance(said, Said), said
        return said

    async def vote(self, said: Said, up: bool) -> None:
        body = {"id": said.id, "kind": "thumbs", "value": up, "user": said.user}
        status, found = await self.call("POST", "/v1/feedback", body, url=said.url)
        assert status == 202, found

    def true(self, said: Said) -> bool:
        """Whether the version that the receipt names says this."""
        return self.texts[said.policy] == said.text

    @property
    def log(self) -> str:
        return "\n".join(gateway.log[-3000:] for gateway in self.gateways)


async def until_true(condition: Callable[[], Any], within_s: float = WITHIN_S, log: str = "") -> float:
    """How many seconds it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        if await condition():
            return loop.time() - began
        assert loop.time() - began < within_s, f"it did not happen within {within_s:g} s\n{log}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def world(
    folder: Path, weights: str, workers: list[RealWorker], adapters: dict[int, Path], count: int = 2, **release: Any
) -> AsyncIterator[World]:
    """Fresh gateways and a fresh Redis; the workers have none of the adapters in the end."""
    secret = load_secret(folder / "secret", create=True)
    server = RedisServer(folder / "redis")
    server.start()
    gateways = [configured(folder / f"gateway-{number}", weights, workers, server, release) for number in range(count)]
    redis = Redis.from_url(server.url)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as session:
            for gateway in gateways:
                await gateway.start()
            config = parse({"release": {"stages": [0.5, 1.0], "hold_back": 0.3, **release}})
            one = World(gateways, workers, redis, session, Signer(secret, 3600), config, adapters)
            try:
                yield one
            finally:
                for worker in workers:
                    for number in adapters:
                        with suppress(aiohttp.ClientError):
                            name = {"lora_name": f"{POLICY}-v{number}"}
                            await session.post(f"{worker.url}/v1/unload_lora_adapter", json=name)
    finally:
        for gateway in gateways:
            if gateway.process is not None and gateway.process.returncode is None:
                gateway.process.kill()
                await gateway.process.wait()
        await redis.aclose()
        server.kill()
