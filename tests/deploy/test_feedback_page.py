"""docs/feedback.md: its commands run as they stand, its snippet verifies what a webhook sends."""

import asyncio
import base64
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import parse
from gateway.feedback.webhook_message import headers_of
from gateway.log.records import Feedback
from tests.gateway.harness import running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

PAGE = (Path(__file__).parents[2] / "docs/feedback.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="no curl or no jq on the path")
async def test_the_commands_run(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_gateway(tmp_path / "data", redis_url=redis_server.url) as gateway:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            "\n".join(blocks("bash")),
            cwd=tmp_path,
            env={**os.environ, "BESTOW": gateway.url, "KEY": "none-is-needed", "MODEL": "m"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        assert '["thumbs",false]' in output
        assert '["flag","hallucination"]' in output
        assert '["rating",7]' not in output
        assert '{"accepted":1,"failed":1}' in output
        assert '[2,"value: a rating is a whole number from 1 to 8"]' in output
        votes = [record for record in gateway.accepted if isinstance(record, Feedback)]
        assert {vote.user for vote in votes} == {gateway.service.signer.hash_user(name) for name in ("ann", "bob")}


def test_the_configuration_is_right(tmp_path: Path) -> None:
    for block in blocks("yaml"):
        parse(yaml.safe_load(block))


def test_the_snippet_verifies_a_webhook() -> None:
    found: dict[str, Any] = {}
    [snippet] = blocks("python")
    exec(snippet, found)
    secret, other = b"x" * 24, b"y" * 24
    text = f"whsec_{base64.b64encode(secret).decode()}"
    headers = headers_of("id", b"{}", [other, secret], time.time())
    assert found["verified"](headers, b"{}", text)
    assert not found["verified"](headers, b"{ }", text)
    assert not found["verified"](headers_of("id", b"{}", [other], time.time()), b"{}", text)
    assert not found["verified"](headers_of("id", b"{}", [secret], time.time() - 3600), b"{}", text)
