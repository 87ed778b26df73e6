"""Nothing of vLLM's is reachable through the gateway but what is served here on purpose."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from tests.gateway.harness import Harness, running_gateway

# vLLM 0.32: every route under vllm/entrypoints but the OpenAI ones that Bestow serves. Administration and development,
# LoRA, profiling, weights, elastic and fault-tolerant serving, SageMaker, pooling, rendering, other providers' formats.
VLLM = (
    "/abort_requests", "/classify", "/cohere/v2/chat", "/cohere/v2/chat/render", "/collective_rpc",
    "/fault_tolerance/apply", "/fault_tolerance/status", "/finish_weight_update", "/generative_scoring",
    "/get_world_size", "/health", "/inference/v1/abort_requests", "/inference/v1/generate",
    "/init_weight_transfer_engine", "/invocations", "/is_paused", "/is_scaling_elastic_ep", "/is_sleeping",
    "/kv_event_sources", "/load", "/pause", "/ping", "/pooling", "/ready", "/release_kv_cache_memory", "/rerank",
    "/reset_encoder_cache", "/reset_mm_cache", "/reset_prefix_cache", "/resume", "/scale_elastic_ep", "/score",
    "/server_info", "/shutdown_weight_transfer_engine", "/sleep", "/start_draft_weight_update", "/start_profile",
    "/start_weight_update", "/static", "/static/swagger-ui.css", "/stop_profile", "/tokenizer_info",
    "/update_weight_version", "/update_weights", "/v1/audio/transcriptions", "/v1/audio/translations",
    "/v1/chat/completions/batch", "/v1/chat/completions/derender", "/v1/chat/completions/render",
    "/v1/completions/derender", "/v1/completions/render", "/v1/load_lora_adapter", "/v1/messages",
    "/v1/messages/count_tokens", "/v1/messages/render", "/v1/realtime", "/v1/rerank", "/v1/score", "/v1/systemone",
    "/v1/unload_lora_adapter", "/v2/embed", "/v2/rerank", "/version", "/wake_up", "/weight_checker", "/weight_info",
    "/v1/tokenize", "/v1/detokenize",
)  # fmt: skip

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE")

TRICKS = (
    "//sleep", "/sleep/", "/./sleep", "/v1/../sleep", "/v1/%2e%2e/sleep", "/v1/%2E%2E/sleep", "/%73leep", "/sleep%00",
    "/sleep?level=1", "/sleep;x", "/SLEEP", "/v1/chat/completions/../../../sleep", "/v1/chat/completions/%2e%2e/sleep",
    "/v1%2Fload_lora_adapter", "/v1//load_lora_adapter", "/v1/load_lora_adapter/", "/V1/load_lora_adapter",
    "/v1/models/../load_lora_adapter", "/v1/models/%2e%2e/load_lora_adapter", "/v1/models/..%2fload_lora_adapter",
    "/v1/embeddings/../../sleep", "/tokenize/../sleep", "/tokenize/", "/v1/completions/", "/v1/embeddings/", "\\sleep",
    "http://127.0.0.1/sleep", "/v1/responses/../../sleep", "/%2fsleep", "/v1/./../sleep",
)  # fmt: skip


async def answer_to(gateway: Harness, method: str, target: str) -> tuple[int, bytes]:
    """(status, body) of a request whose target is sent as it stands: clients tidy it up."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    writer.write(head.encode())
    answer = await reader.read()
    writer.close()
    head_part, _, body = answer.partition(b"\r\n\r\n")
    return int(head_part.split()[1]), body


def check_shape(status: int, body: bytes, method: str) -> None:
    """OpenAI's error shape; HEAD has no body."""
    if method == "HEAD":
        assert body == b""
        return
    error = msgspec.json.decode(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")
    assert error["message"]


async def test_vllms_other_endpoints_are_404s_whatever_the_method(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for path in VLLM:
            for method in METHODS:
                status, body = await answer_to(gateway, method, path)
                assert status == 404, (method, path, body)
                check_shape(status, body, method)
        assert gateway.worker.requests == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_spelling_of_a_path_reaches_them(tmp_path: Path, method: str) -> None:
    async with running_gateway(tmp_path) as gateway:
        for target in TRICKS:
            status, body = await answer_to(gateway, method, target)
            assert status in (400, 404, 405), (target, status, body)
            if body != b"Invalid HTTP request received.":  # The HTTP parser's own, before there is a request.
                assert msgspec.json.decode(body)["error"]["type"] == "invalid_request_error", target
        assert gateway.worker.requests == []
