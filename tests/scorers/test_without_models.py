"""A scorer server that runs no model starts, and scores, on a machine without torch and transformers."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from scorers.client import ScorerClient
from scorers.contract import ScoreRequest
from tests.ports import free_port
from tests.scorers.guards.moderation_fake import NAMES, FakeModeration, serving
from tests.scorers.test_process import command

# Python imports it at its own start, before anything else.
NO_TORCH = """\
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tokenizers", "vllm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""


async def start(words: list[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.PIPE)


async def test_verifiers_patterns_and_moderation_need_no_model_library(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    absent = await start([sys.executable, "-c", "import torch"], environment)
    assert "No module named 'torch'" in (await absent.communicate())[1].decode()
    async with serving(FakeModeration()) as endpoint, aiohttp.ClientSession() as session:
        config = tmp_path / "bestow.yaml"
        config.write_text(
            "scorers:\n"
            "  answer: {kind: verifier, check: numeric}\n"
            "  form: {kind: verifier, check: json_schema}\n"
            "  words: {kind: patterns, patterns: {weapons: [grenade]}}\n"
            f"  outside: {{kind: moderation, endpoint: {{url: {endpoint}}}}}\n"
        )
        port = free_port()
        process = await start(command(config, "--port", str(port)), environment)
        url = f"http://127.0.0.1:{port}"
        try:
            async with asyncio.timeout(60):
                while True:
                    try:
                        if (await session.get(f"{url}/readyz")).status == 200:
                            break
                    except aiohttp.ClientError:
                        pass
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            client = ScorerClient(url, session)
            assert {info.id: info.gives for info in await client.scorers()} == {
                "answer": "value",
                "form": "value",
                "words": "categories",
                "outside": "categories",
            }
            user = {"role": "user", "content": "Where is the grenade?"}
            right, wrong = [{"content": "It is 42."}, {"content": "41"}]
            scores = (await client.score(ScoreRequest("answer", [user], [right, wrong], reference="42"), 5.0)).scores
            assert [score.value for score in scores] == [1.0, 0.0]
            form = {"type": "json_object"}
            scores = (await client.score(ScoreRequest("form", [user], [wrong], response_format=form), 5.0)).scores
            assert [score.value for score in scores] == [0.0]
            assert (await client.score(ScoreRequest("words", [user]), 5.0)).scores[0].categories == {"weapons": 1.0}
            verdict = (await client.score(ScoreRequest("outside", [user]), 5.0)).scores[0].categories
            assert verdict == dict.fromkeys(NAMES, 0.01)
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 20)
