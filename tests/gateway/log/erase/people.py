"""People who leave records everywhere, erasing them, and looking for what is left of them."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow.parquet as pq
from redis.asyncio import Redis

from gateway.api.idempotency import _Stored
from gateway.api.responses.store import ResponseStore, StoredResponse
from gateway.config import LogConfig
from gateway.ids import COMPLETION_PREFIX, new_uuid7
from gateway.log.archive.archiver import keeping
from gateway.log.archive.lock import ArchiverLock
from gateway.log.erase.erasing import Eraser, Receipt, order_erasure, taken
from gateway.log.erase.ledger import Ledger
from gateway.log.erase.orders import Order
from gateway.log.records import CandidateRecord, Feedback, Interaction, ScoreRecord, ShadowScores, plain
from gateway.log.segment import load
from gateway.signing import Signer
from tests.gateway.log.log_samples import SHARD, interaction, settings

SIGNER = Signer(b"the secret of these tests", 3600)


def hashed(user: str) -> str:
    found = SIGNER.hash_user(user)
    assert found is not None
    return found


def asked(user: str, number: int = 0, size: int = 0) -> Interaction:
    """A request whose prompt and answer hold the user's marks."""
    answer = CandidateRecord(0, {"role": "assistant", "content": f"answer-for-{user}-{number}"}, "stop", 3)
    messages = [{"role": "user", "content": f"prompt-of-{user}-{number}" + " and so on" * (size // 10)}]
    return interaction(user=hashed(user), messages=messages, candidates=[answer], chosen=0, delivered=[0])


def said(user: str, of: Interaction, text: str = "comment") -> Feedback:
    """A comment that holds the user's mark."""
    value = f"{text}-by-{user}"
    return Feedback(new_uuid7(), of.id, time.time(), "comment", value, user=hashed(user))


def shadowed(of: Interaction) -> ShadowScores:
    return ShadowScores(new_uuid7(), of.id, time.time(), "other@1", "default@1", None, {0: ScoreRecord(0.5)})


def marks(user: str) -> list[bytes]:
    """Whatever would be a trace of them."""
    return [hashed(user).encode(), *(f"{what}{user}".encode() for what in ("prompt-of-", "answer-for-", "-by-"))]


async def cache(redis: Redis, of: Interaction, user: str) -> None:
    """What is kept of an answer for continuing it and for repeated requests."""
    uuid = of.id.removeprefix(COMPLETION_PREFIX)
    token = SIGNER.feedback_token(of.id, of.user, of.created, tenant=of.tenant)
    response = {
        "id": f"resp_{uuid}",
        "user": user,
        "output": [{"id": f"msg_{uuid}", "text": f"answer-for-{user}"}],
        "guidance": {"feedback_token": token},
    }
    stored = StoredResponse(of.tenant, [], [{"id": f"item_{uuid}", "text": f"prompt-of-{user}"}], response)
    assert await ResponseStore(redis, 600).put(uuid, stored) == "stored"
    body = msgspec.json.encode({"id": of.id, "content": f"answer-for-{user}", "guidance": {"feedback_token": token}})
    kept = _Stored("f" * 64, 200, [(b"x-request-id", of.id.encode())], body)
    await redis.set(f"bestow:{{idempotency}}:{of.id}", msgspec.msgpack.encode(kept), ex=600)


def log_settings(**changes: Any) -> LogConfig:
    return settings(**changes)


def ledger_of(redis: Redis, folder: Path, **changes: Any) -> Ledger:
    return Ledger(redis, settings(**changes), folder)


async def order(redis: Redis, folder: Path, user: str, **changes: Any) -> Order:
    return await order_erasure(
        redis, settings(**changes), folder, "default", hashed(user), by="test", now=time.time(), reason="asked for it"
    )


async def carry_out(redis: Redis, folder: Path, wait_s: float = 15.0, **changes: Any) -> list[Receipt]:
    lock = ArchiverLock(redis, SHARD, new_uuid7())
    await taken(lock, lambda _: None)
    async with keeping(lock):
        eraser = Eraser(
            redis, settings(**changes), folder, lock, hash_user=SIGNER.hash_user, clock=time.time, wait_s=wait_s
        )
        return await eraser.carry_out()


async def erase(redis: Redis, folder: Path, user: str, **changes: Any) -> Receipt:
    """Order it and carry it out."""
    placed = await order(redis, folder, user, **changes)
    return next(one for one in await carry_out(redis, folder, **changes) if one.order.id == placed.id)


async def traces(redis: Redis | None, folders: Iterable[Path], needles: Sequence[bytes]) -> list[str]:
    """Where any of the needles is: in a file as it is, in what a compressed file holds, or in a key."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            contents = [path.name.encode(), path.read_bytes()]
        except FileNotFoundError:  # Redis, or a gateway, has deleted it meanwhile.
            continue
        if path.suffix == ".parquet":
            contents += [repr(pq.read_table(path).to_pylist()).encode()]
        if path.suffix == ".seg" and (segment := load(path)) is not None:
            contents += [_plain(one.entry.payload) for one in segment.walk() if one.entry is not None]
        found += [f"{path}: {needle!r}" for needle in needles if any(needle in content for content in contents)]
    if redis is not None:
        async for key in redis.scan_iter(count=1000):
            data = key + (await cast(Any, redis.dump(key)) or b"")
            found += [f"{key!r}: {needle!r}" for needle in needles if needle in data]
    return found


def _plain(payload: bytes) -> bytes:
    with suppress(ValueError):
        return plain(payload)
    return payload
