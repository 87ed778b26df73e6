"""The odd bodies of `tests/corpus.py` on the real stack: none is a 5xx, and none harms vLLM."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.corpus import Odd, odd_fields, raw_bodies, wrong_fields
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from tests.e2e.test_schemathesis import quick
from tests.gateway.api.test_errors import check_error

MODEL = "bestow-demo"
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi there"}]},
    "/v1/completions": {"prompt": "hi there"},
    "/v1/responses": {"input": "hi there"},
    "/tokenize": {"prompt": "hi there"},
    "/detokenize": {"tokens": [1, 2]},
    "/v1/embeddings": {"input": "hi there"},
}


@pytest.fixture(scope="module")
def gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with second_gateway(stack, tmp_path_factory.mktemp("fuzz"), quick) as url:
        yield url


def odd_bodies(path: str) -> list[Odd]:
    good = {"model": MODEL, **GOOD[path]}
    fields = [*wrong_fields(good, list(good)), *odd_fields(good)]
    if path.startswith("/v1/") and path != "/v1/embeddings":
        for name, body in odd_fields({**good, "stream": True}):
            fields.append((f"streamed {name}", body))
        for name, body in odd_fields({**good, "guidance": {"stream_mode": "first"}, "stream": True}):
            fields.append((f"live {name}", body))
    return [*raw_bodies(good), *(Odd(name, json.dumps(body).encode()) for name, body in fields)]


@pytest.mark.parametrize("path", GOOD)
async def test_no_odd_body_is_a_5xx_or_harms_the_worker(gateway: str, stack: Stack, path: str) -> None:
    gate = asyncio.Semaphore(6)
    wrong: list[str] = []

    async with aiohttp.ClientSession(gateway) as session:

        async def one(odd: Odd) -> None:
            headers = {"content-type": "application/json", **odd.headers}
            async with gate, session.post(path, data=odd.body, headers=headers) as reply:
                answer = await reply.read()
                if reply.status >= 500 or (b'data: {"error"' in answer and b'"server_error"' in answer):
                    wrong.append(f"{reply.status} {odd.name}: {answer[-300:]!r}")
                elif reply.status >= 400:
                    check_error(answer)

        await asyncio.gather(*(one(odd) for odd in odd_bodies(path)))
        assert wrong == []
        async with session.get(f"{stack.worker_url}/health") as reply:
            assert reply.status == 200
        async with session.post(path, json={"model": MODEL, **GOOD[path]}) as reply:
            # The demo policy embeds nothing.
            assert reply.status == (404 if path == "/v1/embeddings" else 200)
