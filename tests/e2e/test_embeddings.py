"""Embeddings through the gateway, from a vLLM worker that makes them: the only other vLLM of a test session."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from gateway.config import EngineConfig, PolicyConfig
from gateway.launch.machine import look
from gateway.launch.parts import worker_part
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import PROJECT, READY_WITHIN_S, Stack
from tests.openai_spec.validators import validate
from tests.ports import free_ports

pytestmark = pytest.mark.slow

MODEL = "embedder"
SERVED = "embedding-policy"
TEXTS = ["How do I keep a houseplant healthy?", "The best time to water a garden"]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM, making vectors of the demo policy's last hidden state."""
    [port] = free_ports(1)
    engine = EngineConfig(port=port, args=["--runner", "pooling", "--convert", "embed"])
    policy = PolicyConfig(model=str(PROJECT / "training/demo/models/policy"), engine=engine)
    part = worker_part(SERVED, policy, look(), shared=True)
    log_file = tmp_path_factory.mktemp("embedder") / "vllm.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            part.command,
            env={**os.environ, **part.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not healthy(part.address):
            in_time = process.poll() is None and time.monotonic() < deadline
            assert in_time, f"the embedding worker did not start:\n{log_file.read_text()[-4000:]}"
            time.sleep(0.5)
        yield part.address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            # The engine outlives its server where that one was killed.
            subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=False, stderr=subprocess.DEVNULL)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def url(worker: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that has the embedding model beside the stack's."""

    def change(config: dict[str, Any]) -> None:
        config["policies"][SERVED] = {"model": "demo", "workers": [{"url": worker}]}
        config["models"][MODEL] = {"policy": SERVED, "profile": "default"}

    with second_gateway(stack, tmp_path_factory.mktemp("embeddings"), change) as second:
        yield second


@pytest.mark.parametrize(
    "fields",
    [
        {"input": TEXTS[0]},
        {"input": TEXTS, "encoding_format": "float"},
        {"input": TEXTS, "encoding_format": "base64"},
        {"input": [261, 285, 81], "truncate_prompt_tokens": 2},
        {"input": [[261, 285], [81, 1247, 5]], "user": "ann"},
    ],
)
def test_an_answer_is_the_workers_own_but_for_the_models_name(url: str, worker: str, fields: dict[str, Any]) -> None:
    bare = httpx.post(f"{worker}/v1/embeddings", json={"model": SERVED, **fields}, timeout=60).json()
    reply = httpx.post(f"{url}/v1/embeddings", json={"model": MODEL, **fields}, timeout=60)
    ours = reply.json()
    assert reply.status_code == 200
    assert ours["model"] == MODEL
    assert ours["data"] == bare["data"]
    assert ours["usage"] == {key: value for key, value in bare["usage"].items() if value is not None}
    assert ours.keys() == {key for key, value in bare.items() if value is not None}
    if fields.get("encoding_format") != "base64":
        validate("CreateEmbeddingResponse", ours)


def test_the_official_client_which_asks_for_base64_gets_the_same_numbers(url: str) -> None:
    plain = httpx.post(f"{url}/v1/embeddings", json={"model": MODEL, "input": TEXTS}, timeout=60).json()
    with OpenAI(base_url=f"{url}/v1", api_key="none needed", max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input=TEXTS)
    assert [one.index for one in answer.data] == [0, 1]
    for one, other in zip(answer.data, plain["data"], strict=True):
        assert one.embedding == pytest.approx(other["embedding"], abs=1e-6)
    assert len(answer.data[0].embedding) == 128
    assert answer.data[0].embedding != answer.data[1].embedding


def test_what_cannot_be_embedded_is_a_clear_error(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="none needed", max_retries=0) as client:
        with pytest.raises(NotFoundError, match="does not make embeddings") as caught:
            client.embeddings.create(model="bestow-demo", input="x")
        assert caught.value.code == "model_not_found"
        with pytest.raises(BadRequestError):
            client.embeddings.create(model=MODEL, input="x", dimensions=7)
        with pytest.raises(BadRequestError):
            client.embeddings.create(model=MODEL, input="word " * 5000)
