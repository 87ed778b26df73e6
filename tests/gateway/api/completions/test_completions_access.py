"""Who may use the endpoints that take a model beside chat and responses."""

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.access.cache import cache_file, save
from gateway.access.caller import Scope
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from tests.fakes import FakeWorker
from tests.gateway.harness import Harness, running_gateway

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "m", "prompt": "x"},
    "/v1/embeddings": {"model": "m", "input": "x"},
    "/tokenize": {"model": "m", "prompt": "x"},
    "/detokenize": {"model": "m", "tokens": [1]},
}
CALLERS: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "able": ("garden", ("chat",)),
    "scopeless": ("garden", ("feedback",)),
    "modelless": ("kitchen", ("chat",)),
}


def made_keys(data_dir: Path) -> dict[str, str]:
    """A key of each caller, known to a gateway that starts in this folder."""
    made = {
        name: make_key(name=name, tenant=tenant, scopes=scopes, expires=None, created_by="test", now=time.time())
        for name, (tenant, scopes) in CALLERS.items()
    }
    tenants = {"garden": Tenant("garden", models=("m",)), "kitchen": Tenant("kitchen", models=())}
    save(cache_file(data_dir), Snapshot(1, {record.id: record for record, _ in made.values()}, tenants))
    return {name: key for name, (_, key) in made.items()}


async def post(gateway: Harness, path: str, key: str | None) -> tuple[int, str | None]:
    """(status, error's code)"""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with gateway.session.post(path, json=REQUESTS[path], headers=headers) as reply:
        return reply.status, (await reply.json()).get("error", {}).get("code")


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_key_a_scope_and_a_model_of_ones_own_are_needed(tmp_path: Path, path: str) -> None:
    keys = made_keys(tmp_path)
    async with running_gateway(tmp_path, FakeWorker(embeds=True)) as gateway:
        assert (await post(gateway, path, None))[0] == 401
        assert await post(gateway, path, keys["scopeless"]) == (403, "insufficient_scope")
        assert await post(gateway, path, keys["modelless"]) == (404, "model_not_found")
        assert gateway.worker.requests == []
        assert (await post(gateway, path, keys["able"]))[0] == 200
        assert {record.tenant for record in gateway.interactions} <= {"garden"}
        salt = gateway.service.signer.cache_salt("garden")
        assert [request["cache_salt"] for request in gateway.worker.requests] == [salt] * path.startswith("/v1/")
