import asyncio
import json
from pathlib import Path
from typing import Any

from tests.fakes import EMBEDDING, EMBEDDING_BASE64, FakeWorker
from tests.gateway.api.completions.test_completions import eventually
from tests.gateway.harness import Harness, running_gateway


async def embed(gateway: Harness, **fields: Any) -> tuple[int, str]:
    async with gateway.session.post("/v1/embeddings", json={"model": "m", "input": "hi", **fields}) as reply:
        return reply.status, await reply.text()


async def test_the_workers_numbers_come_back_as_it_wrote_them_under_the_public_name(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(embeds=True)) as gateway:
        status, text = await embed(gateway, input=["a", "b"], dimensions=2)
        [sent] = gateway.worker.requests
        counted = gateway.metric("bestow_requests_total", route="/v1/embeddings", model="m", status="200")
        assert gateway.interactions == []
    assert status == 200
    assert text.count(EMBEDDING) == 2
    body = json.loads(text)
    assert (body["model"], body["object"], len(body["data"])) == ("m", "list", 2)
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert (sent["model"], sent["input"], sent["dimensions"]) == ("policy", ["a", "b"], 2)
    assert sent["cache_salt"]
    assert counted == 1


async def test_base64_passes_untouched_and_other_encodings_are_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(embeds=True)) as gateway:
        _, text = await embed(gateway, encoding_format="base64")
        assert EMBEDDING_BASE64 in text
        status, text = await embed(gateway, encoding_format="bytes")
        assert (status, json.loads(text)["error"]["param"]) == (400, "encoding_format")


async def test_a_model_that_only_chats_is_a_clear_404(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, text = await embed(gateway)
        error = json.loads(text)["error"]
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "does not make embeddings" in error["message"]


async def test_a_model_that_says_so_itself_is_the_same_404(tmp_path: Path) -> None:
    worker = FakeWorker(embeds=True, error=(501, {"message": "no embeddings", "type": "NotImplementedError"}))
    async with running_gateway(tmp_path, worker) as gateway:
        status, text = await embed(gateway)
    assert (status, json.loads(text)["error"]["code"]) == (404, "model_not_found")


async def test_the_clients_mistakes_are_400s_and_unknown_models_404s(tmp_path: Path) -> None:
    worker = FakeWorker(embeds=True, error=(400, {"message": "too long", "param": "input", "code": 400}))
    async with running_gateway(tmp_path, worker) as gateway:
        status, text = await embed(gateway)
        assert (status, json.loads(text)["error"]["message"]) == (400, "too long")
        assert (await embed(gateway, input=[]))[0] == 400
        assert (await embed(gateway, model="zzz"))[0] == 404
        async with gateway.session.post("/v1/embeddings", data=b" " * 20_000_000) as reply:
            assert reply.status == 413


async def test_a_client_that_goes_away_ends_the_workers_work(tmp_path: Path) -> None:
    worker = FakeWorker(embeds=True, stalls=True)
    async with running_gateway(tmp_path, worker) as gateway:
        request = asyncio.create_task(embed(gateway))
        await eventually(lambda: worker.running == 1)
        request.cancel()
        await eventually(lambda: worker.running == 0)


async def test_a_worker_that_takes_too_long_is_a_504_and_stays_up(tmp_path: Path) -> None:
    worker = FakeWorker(embeds=True, stalls=True)
    async with running_gateway(tmp_path, worker, gateway={"request_timeout_s": 0.3}) as gateway:
        status, text = await embed(gateway)
        assert (status, json.loads(text)["error"]["code"]) == (504, "deadline_exceeded")
        assert gateway.service.pools["policy"].workers[0].up
