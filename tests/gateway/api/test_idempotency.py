import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes import FakeWorker
from tests.gateway.harness import Harness, running_gateway


async def send(gateway: Harness, key: str, text: str = "hi", **fields: Any) -> tuple[int, Any, bytes]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    headers = {"idempotency-key": key}
    async with gateway.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
        return reply.status, reply.headers, await reply.read()


async def test_a_repeated_key_gets_the_same_answer_without_sampling_again(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        first = await send(gateway, "k1")
        again = await send(gateway, "k1")
        other = await send(gateway, "k2")
        assert len(gateway.worker.requests) == 2
    assert first[2] == again[2]
    assert again[1]["x-bestow-replayed"] == "true"
    assert "x-bestow-replayed" not in first[1]
    assert again[1]["x-request-id"] == first[1]["x-request-id"] == json.loads(first[2])["id"]
    assert json.loads(other[2])["id"] != json.loads(first[2])["id"]


async def test_streams_are_replayed_byte_for_byte(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        first = await send(gateway, "k", stream=True)
        again = await send(gateway, "k", stream=True)
        assert len(gateway.worker.requests) == 1
    assert first[2] == again[2]
    assert first[2].endswith(b"data: [DONE]\n\n")
    assert again[1]["content-type"].startswith("text/event-stream")


async def test_two_at_once_share_one_answer(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(delays_s=(0.2,))) as gateway:
        found = await asyncio.gather(*(send(gateway, "k") for _ in range(4)))
        assert len(gateway.worker.requests) == 1
        assert len(gateway.interactions) == 1
    assert len({body for _, _, body in found}) == 1
    assert gateway.metric("bestow_idempotency_total", outcome="joined") == 3


async def test_a_retry_after_the_client_gave_up_gets_the_first_answer(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(delays_s=(0.5,))) as gateway:
        timeout = aiohttp.ClientTimeout(total=0.1)
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        try:
            async with gateway.session.post(
                "/v1/chat/completions", json=body, headers={"idempotency-key": "k"}, timeout=timeout
            ):
                raise AssertionError("it answered too early")
        except TimeoutError:
            pass
        status, headers, _ = await send(gateway, "k")
        assert len(gateway.worker.requests) == 1
    assert (status, headers["x-bestow-replayed"]) == (200, "true")
    assert [one.outcome for one in gateway.interactions] == ["delivered"]


async def test_a_key_names_one_request(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await send(gateway, "k")
        status, headers, body = await send(gateway, "k", "something else")
    assert status == 400
    assert json.loads(body)["error"]["code"] == "idempotency_key_reused"
    assert headers["x-should-retry"] == "false"


async def test_a_failed_request_may_be_tried_again_with_its_key(tmp_path: Path) -> None:
    worker = FakeWorker(error=(500, {"message": "boom"}))
    async with running_gateway(tmp_path, worker) as gateway:
        assert (await send(gateway, "k"))[0] == 502
        worker.error = None
        assert (await send(gateway, "k"))[0] == 200


async def test_a_broken_stream_may_be_tried_again(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["it is fine and <break>"], word_s=0.01)
    async with running_gateway(tmp_path, worker, stream_mode="first", stream_window=4) as gateway:
        _, _, broken = await send(gateway, "k", stream=True)
        worker.texts = ["all is well"]
        _, _, whole = await send(gateway, "k", stream=True)
    assert b"worker_error" in broken
    assert whole.endswith(b"data: [DONE]\n\n")


async def test_an_empty_or_long_key_is_a_400(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for key in ("", "x" * 256):
            status, _, body = await send(gateway, key)
            assert (status, json.loads(body)["error"]["param"]) == (400, "idempotency-key")
