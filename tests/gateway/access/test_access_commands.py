"""`bestow keys` and `bestow tenants`, as a person and as a program use them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.log.conftest import RedisServer

CONFIG = """
redis: {{url: "{url}"}}
policies: {{p: {{model: somewhere}}}}
profiles: {{default: {{reward: null, safety: null}}}}
models: {{m: {{policy: p}}}}
"""


def bestow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def folder(redis_server: RedisServer, tmp_path: Path) -> Path:
    (tmp_path / "bestow.yaml").write_text(CONFIG.format(url=redis_server.url))
    return tmp_path


def as_json(*arguments: str, cwd: Path) -> Any:
    done = bestow(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_is_made_shown_once_listed_rotated_and_revoked(folder: Path) -> None:
    done = bestow("keys", "create", "--name", "me", "--scope", "admin", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "It is the first: from now on every call to a gateway needs a key" in done.stdout
    [key] = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("bk_")]
    identifier = key.split("_")[1]

    listed = bestow("keys", "list", cwd=folder)
    assert identifier in listed.stdout and key.split("_")[2] not in listed.stdout

    rotated = as_json("keys", "rotate", identifier, "--grace", "1h", cwd=folder)
    assert (rotated["name"], rotated["scopes"]) == ("me", ["admin"]) and rotated["key"] != key
    statuses = {one["id"]: one["status"] for one in as_json("keys", "list", cwd=folder)}
    assert statuses == {identifier: "retiring", rotated["id"]: "active"}

    assert "is revoked" in bestow("keys", "revoke", identifier, cwd=folder).stdout
    listed = bestow("keys", "list", cwd=folder)
    assert "1 revoked or expired not shown" in listed.stdout
    assert "revoked" in bestow("keys", "list", "--all", cwd=folder).stdout
    [mine] = [one for one in as_json("keys", "list", cwd=folder) if one["id"] == rotated["id"]]
    assert mine["created_by"].startswith("cli")


def test_what_is_kept_of_a_tenant_is_set_option_by_option(folder: Path) -> None:
    done = bestow("tenants", "set", "clinic", "--no-media", "--share", "0.5", "--redact", "nothing", cwd=folder)
    assert "Stored: no media, 50% of its interactions, without any redaction; training: none." in done.stdout
    kept = as_json("tenants", "set", "clinic", "--training", "tenant", "--redact", "default", cwd=folder)["log"]
    assert kept == {
        "store": True, "share": 0.5, "prompts": None, "media": False, "redact": None, "training": "tenant",
        "retain_days": None,
    }  # fmt: skip
    done = bestow("tenants", "set", "clinic", "--retain-days", "30", cwd=folder)
    assert "50% of its interactions, for 30 days; training" in done.stdout
    assert as_json("tenants", "set", "clinic", "--retain-days", "0", cwd=folder)["log"]["retain_days"] is None
    assert "Nothing of it is stored." in bestow("tenants", "set", "clinic", "--no-store", cwd=folder).stdout


def test_tenants_are_set_listed_and_deleted(folder: Path) -> None:
    assert [one["name"] for one in as_json("tenants", "list", cwd=folder)] == ["default"]
    shop = as_json("tenants", "set", "shop", "--model", "m", "--tier", "priority", cwd=folder)
    assert (shop["models"], shop["tier"]) == (["m"], "priority")
    key = as_json("keys", "create", "--name", "shop", "--tenant", "shop", "--expires", "90d", cwd=folder)
    assert (key["tenant"], key["scopes"]) == ("shop", ["chat", "feedback"])
    [line] = [one for one in bestow("tenants", "list", cwd=folder).stdout.splitlines() if one.startswith("shop")]
    assert line.split() == ["shop", "m", "all", "priority", "1"]
    refused = bestow("tenants", "delete", "shop", cwd=folder)
    assert refused.returncode == 1 and key["id"] in refused.stderr
    as_json("keys", "revoke", key["id"], cwd=folder)
    assert as_json("tenants", "delete", "shop", cwd=folder)["deleted"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["keys", "create", "--name", "x", "--tenant", "nobody"], "there is no tenant 'nobody'"),
        (["keys", "create", "--name", "x", "--expires", "never"], "neither a duration"),
        (["keys", "revoke", "aaaaaaaaaa"], "there is no API key with the id"),
        (["keys", "revoke", "bk_aaaaaaaaaa_secret"], "by its id alone"),
        (["tenants", "set", "t", "--model", "x"], "there is no model 'x' (there is m)"),
        (["tenants", "set", "t", "--tier", "gold"], "there is no class 'gold' (there is flex, default, priority)"),
        (["keys", "list", "--redis", "redis://127.0.0.1:1"], "does not answer"),
        (["keys", "list", "--redis", "127.0.0.1"], "not an address of Redis"),
        (["keys", "list", "--config", "none.yaml"], "There is no configuration file"),
    ],
)
def test_what_is_wrong_is_one_plain_sentence(folder: Path, arguments: list[str], reason: str) -> None:
    done = bestow(*arguments, cwd=folder)
    assert done.returncode == 1 and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_configuration_it_says_what_to_name(tmp_path: Path) -> None:
    done = bestow("keys", "list", cwd=tmp_path)
    assert done.returncode == 1 and "--redis" in done.stderr


@pytest.mark.parametrize("command", [["keys"], ["keys", "create"], ["keys", "rotate"], ["tenants"], ["tenants", "set"]])
def test_every_command_explains_itself(command: list[str], tmp_path: Path) -> None:
    done = bestow(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage" in done.stdout
