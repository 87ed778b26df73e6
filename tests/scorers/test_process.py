"""`python -m scorers` as its users start it, and what importing the client costs."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from scorers.client import ScorerClient
from scorers.contract import ScoreRequest
from scorers.tls import trusting
from tests.certificates import Authority
from tests.ports import free_port
from tests.scorers.models import CONTROL


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "scorers", "--config", str(config), *more]


def run(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, *more), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def server(
    reward_folder: Path, safety_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
    config = tmp_path_factory.mktemp("server") / "bestow.yaml"
    config.write_text(
        f"gateway: {{port: 1}}\nscorers:\n  reward: {{kind: reward, model: {reward_folder}}}\n"
        f"  safety: {{kind: safety, model: {safety_folder}, version: 2}}\n"
        "  elsewhere: {kind: reward, model: x, url: http://10.0.0.1:1}\n"
    )
    port = free_port()
    process = subprocess.Popen(command(config, "--port", str(port)), stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                break
        except httpx.TransportError:
            assert process.poll() is None
        time.sleep(0.1)
    yield url, process, config
    if process.poll() is None:
        process.kill()
    process.communicate()


async def test_a_real_server_scores_and_judges(server: tuple[str, subprocess.Popen[str], Path]) -> None:
    user = {"role": "user", "content": "".join(CONTROL)}
    async with aiohttp.ClientSession() as session:
        client = ScorerClient(server[0], session)
        assert {info.id: info.version for info in await client.scorers()} == {
            "reward": "reward@1",
            "safety": "safety@2",
        }
        [score] = (await client.score(ScoreRequest("reward", [user], [{"content": "Hi"}]), 5.0)).scores
        assert score.value is not None
        [verdict] = (await client.score(ScoreRequest("safety", [user]), 5.0)).scores
        assert verdict.categories is not None
        assert set(verdict.categories) == {"violence", "self-harm"}


def test_a_taken_port_is_told_in_a_sentence(server: tuple[str, subprocess.Popen[str], Path]) -> None:
    port = server[0].rpartition(":")[2]
    done = run(server[2], "--port", port)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Port {port} on 127.0.0.1 is taken: stop what uses it, or choose another with --port."
    ]


def test_a_stopped_server_ends_well_and_its_log_is_short(server: tuple[str, subprocess.Popen[str], Path]) -> None:
    process = server[1]
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=15)
    assert process.returncode == 0
    lines = log.splitlines()
    assert len(lines) == 4
    assert "loaded reward:" in lines[1]
    assert "on cpu, float32, packed, beginnings shared" in lines[1]


def test_a_missing_folder_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(one_scorer(tmp_path, f"{tmp_path}/nowhere"), "--port", "0")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"The scorer reward cannot be served. There is no folder {tmp_path}/nowhere with a model in it."
    ]


def test_a_model_that_fails_to_load_ends_the_server_with_a_sentence(tmp_path: Path) -> None:
    code = """
import sys, types
def load(*_):
    raise RuntimeError("no weights\\nin it")
sys.modules["scorers.reward"] = types.ModuleType("scorers.reward")
sys.modules["scorers.reward"].load = load
from scorers.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["--config", str(one_scorer(tmp_path, "a/model")), "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["The scorer reward cannot be served. no weights in it"]


def one_scorer(folder: Path, model: str) -> Path:
    config = folder / "bestow.yaml"
    config.write_text(f"scorers:\n  reward: {{kind: reward, model: {model}}}\n")
    return config


def test_a_missing_configuration_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path / "no.yaml")
    assert done.returncode == 2
    assert done.stderr.strip() == f"There is no configuration file {tmp_path}/no.yaml."


def test_help_teaches() -> None:
    done = run(Path("x"), "--help")
    assert done.returncode == 0
    assert "curl" in done.stdout
    assert "kind: safety" in done.stdout


def test_what_the_gateway_imports_is_small() -> None:
    code = (
        "import sys, scorers.client, scorers.contract, scorers.errors, scorers.settings\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'fastapi', 'numpy', 'gateway', 'training'} "
        "& set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_key_or_certificate_that_cannot_be_read_is_told_before_anything_is_loaded(
    reward_folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "bestow.yaml"
    for setting, said in (
        ("api_key_file: none", "scorer_server.api_key_file: there is no file none."),
        ("api_key_env: NOT_SET_HERE", "scorer_server.api_key_env: the environment variable NOT_SET_HERE is not set."),
        ("tls_cert_file: none", "scorer_server.tls_cert_file: there is no file none."),
    ):
        config.write_text(
            f"scorers: {{reward: {{kind: reward, model: {reward_folder}}}}}\nscorer_server: {{{setting}}}\n"
        )
        done = run(config)
        assert (done.returncode, done.stderr.splitlines()) == (2, [said])


def test_a_server_with_a_key_and_a_certificate_serves_https_to_those_who_hold_it(
    reward_folder: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue()
    (tmp_path / "key").write_text("k-0815\n")
    config = tmp_path / "bestow.yaml"
    config.write_text(
        f"scorers: {{reward: {{kind: reward, model: {reward_folder}}}}}\n"
        f"scorer_server: {{api_key_file: {tmp_path}/key, tls_cert_file: {issued.cert_file}, "
        f"tls_key_file: {issued.key_file}}}\n"
    )
    port = free_port()
    process = subprocess.Popen(command(config, "--port", str(port)), stderr=subprocess.PIPE, text=True)
    try:
        tls = trusting("ca_file", authority.ca_file)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=tls, timeout=5) as http:
            for _ in range(200):
                with contextlib.suppress(httpx.TransportError):
                    if http.get("/healthz").status_code == 200:
                        break
                assert process.poll() is None
                time.sleep(0.1)
            assert http.get("/v1/scorers").status_code == 401
            assert http.get("/v1/scorers", headers={"authorization": "Bearer k-0815"}).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/healthz")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "listening on https://" in said and "k-0815" not in said
