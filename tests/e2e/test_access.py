"""API keys as a user meets them: `bestow keys`, a gateway process of its own on the real stack, OpenAI's client."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from openai import OpenAI

from tests.e2e.stack import Stack, written_config
from tests.ports import free_ports

# Keys of another database: the stack's own gateway stays as open as the other tests expect it.
DATABASE = 5


@pytest.fixture
def config_file(stack: Stack, tmp_path: Path) -> Path:
    """The stack's configuration for another gateway, with its own data directory, port and keys."""
    config: dict[str, Any] = written_config(stack)
    config["data_dir"] = str(tmp_path / "data")
    config["gateway"] = {"port": free_ports(1)[0]}
    config["redis"] = {"url": stack.redis_url.rpartition("/")[0] + f"/{DATABASE}"}
    path = tmp_path / "bestow.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def gateway(config_file: Path) -> Iterator[str]:
    """Its address."""
    url = f"http://127.0.0.1:{yaml.safe_load(config_file.read_text())['gateway']['port']}"
    log = config_file.with_suffix(".log")
    with log.open("wb") as file:
        command = [sys.executable, "-m", "gateway", "--config", str(config_file)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while not ready(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def bestow(config_file: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "gateway.cli", *arguments, "--json", "--config", str(config_file)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ask(url: str, key: str) -> str:
    with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120) as client:
        answer = client.chat.completions.create(
            model="bestow-demo", messages=[{"role": "user", "content": "How do I boil an egg?"}], max_tokens=8
        )
    return answer.id


def refusal(url: str, key: str) -> str:
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(url, key)
    assert refused.value.response.headers["www-authenticate"] == "Bearer"
    return str(refused.value.code)


def within(seconds: float, url: str, key: str, code: str) -> float:
    """How long it took until this key was refused with this code."""
    begun = time.monotonic()
    while True:
        answer = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
        took = time.monotonic() - begun
        if answer.status_code == 401 and answer.json()["error"]["code"] == code:
            return took
        assert took < seconds, answer.text
        time.sleep(0.02)


def test_from_open_to_this_machine_to_keys_tenants_and_revocation(config_file: Path) -> None:
    with gateway(config_file) as url:
        ask(url, "none needed")
        assert "open to this machine, and to no other" in config_file.with_suffix(".log").read_text()

        admin = bestow(config_file, "keys", "create", "--name", "me", "--scope", "admin")
        within(2, url, "none needed", "invalid_api_key")
        assert refusal(url, "none needed") == "invalid_api_key"
        bestow(config_file, "tenants", "set", "shop", "--model", "bestow-demo")
        bearer = {"authorization": f"Bearer {admin['key']}"}
        made = httpx.post(f"{url}/admin/v1/keys", json={"name": "shop", "tenant": "shop"}, headers=bearer).json()

        mine, theirs = ask(url, admin["key"]), ask(url, made["key"])
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {made['key']}"}) as shop:
            vote = {"kind": "thumbs", "value": True}
            assert shop.post("/v1/feedback", json={**vote, "id": theirs}).status_code == 202
            assert shop.post("/v1/feedback", json={**vote, "id": mine}).status_code == 404
            assert shop.get("/admin/v1/keys").status_code == 403

        bestow(config_file, "keys", "revoke", made["id"])
        assert within(2, url, made["key"], "revoked_api_key") < 2
        assert refusal(url, made["key"]) == "revoked_api_key"
        assert httpx.get(f"{url}/readyz").status_code == 200

    # The same keys after a restart, and now other machines may be served.
    config = yaml.safe_load(config_file.read_text())
    config["gateway"]["host"] = "0.0.0.0"
    config_file.write_text(yaml.safe_dump(config))
    with gateway(config_file) as url:
        ask(url, admin["key"])
        assert refusal(url, made["key"]) == "revoked_api_key"
        assert httpx.get(f"{url}/v1/models").json()["error"]["code"] == "missing_api_key"


def test_other_machines_are_not_served_without_a_key(config_file: Path) -> None:
    config = yaml.safe_load(config_file.read_text())
    config["gateway"]["host"] = "0.0.0.0"
    # A database without keys, whichever test ran first.
    config["redis"]["url"] = config["redis"]["url"].rpartition("/")[0] + f"/{DATABASE + 1}"
    config_file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "gateway", "--config", str(config_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "there are no API keys" in done.stderr and "bestow keys create --name NAME --scope admin" in done.stderr
    assert len(done.stderr.splitlines()) == 1
