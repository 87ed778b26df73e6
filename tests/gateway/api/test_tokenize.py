from pathlib import Path
from typing import Any

from tests.fakes import FakeWorker
from tests.gateway.harness import Harness, running_gateway


async def post(gateway: Harness, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.post(path, json=body) as reply:
        return reply.status, await reply.json()


async def test_texts_and_conversations_are_tokenized_by_the_models_worker(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(max_model_len=321)) as gateway:
        status, body = await post(gateway, "/tokenize", model="m", prompt="one two three")
        assert (status, body) == (200, {"count": 3, "max_model_len": 321, "tokens": []})
        messages = [{"role": "user", "content": "one two"}]
        _, body = await post(gateway, "/tokenize", model="m", messages=messages)
        assert body["count"] == 2
        status, body = await post(gateway, "/detokenize", model="m", tokens=[5, 6])
        assert (status, body) == (200, {"prompt": "t5 t6"})
        assert gateway.interactions == []


async def test_what_cannot_be_asked_is_refused_by_name(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for path, body, status, param in (
            ("/tokenize", {"model": "m"}, 400, "prompt"),
            ("/tokenize", {"model": "m", "prompt": "x", "messages": []}, 400, "prompt"),
            ("/tokenize", {"prompt": "x"}, 400, "model"),
            ("/tokenize", {"model": "zzz", "prompt": "x"}, 404, "model"),
            ("/tokenize", {"model": "m", "messages": [], "chat_template": "{{x}}"}, 400, "chat_template"),
            ("/detokenize", {"model": "m", "tokens": ["x"]}, 400, "tokens[0]"),
            ("/detokenize", {"model": "m"}, 400, "tokens"),
        ):
            found, answer = await post(gateway, path, **body)
            assert (found, answer["error"]["param"]) == (status, param), body
