"""A whole gateway on a Redis Cluster: all that it keeps there, and the commands that read it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gateway.log.connection import connect
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.archive.archiving import archive, store_in
from tests.gateway.log.redis_fleets import Cluster
from tests.waiting import until

# The test archives by hand.
QUIET = {"archive": {"every_s": 3600}}


async def call(gateway: Harness, method: str, path: str, **options: Any) -> Any:
    async with gateway.session.request(method, path, **options) as reply:
        found = await reply.json()
        assert reply.status < 300, found
        return found


async def bestow(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_everything_that_a_gateway_keeps_in_redis_works_in_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    headers = {"idempotency-key": "once"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        running_gateway(tmp_path / "a", redis_url=cluster.url, log=QUIET) as one,
        running_gateway(tmp_path / "b", redis_url=cluster.url, log=QUIET) as other,
    ):
        # Profiles, and a shadow scorer's sums.
        settings = (await call(one, "GET", "/admin/v1/profiles/default"))["settings"]
        change = {"version": 1, "settings": {**settings, "n": 2, "min_n": 2}}
        await call(one, "PUT", "/admin/v1/profiles/default", json=change)
        await until(lambda: _sampled(other, 2))
        # Idempotency keys and stored responses, from another gateway than the one that made them.
        first = await call(one, "POST", "/v1/chat/completions", json=body, headers=headers)
        again = await call(other, "POST", "/v1/chat/completions", json=body, headers=headers)
        assert again["id"] == first["id"]
        made = await call(one, "POST", "/v1/responses", json={"model": "m", "input": "hi"})
        following = {"model": "m", "input": "and then?", "previous_response_id": made["id"]}
        assert (await call(other, "POST", "/v1/responses", json=following))["previous_response_id"] == made["id"]
        # Records and votes, in the streams and archived.
        await call(one, "POST", "/v1/feedback", json={"id": first["id"], "kind": "thumbs", "value": True})
        assert await one.service.log.drained(15)
        assert await other.service.log.drained(15)
        async with connect(cluster.url) as redis:
            await archive(redis, store_in(tmp_path / "a"))
        told = await call(one, "GET", f"/v1/feedback/{first['id']}")
        assert [vote["value"] for vote in told["data"]] == [True] and not told["partial"]
        await call(one, "POST", "/v1/chat/completions", json=body)
        assert await one.service.log.drained(15)
        assert (await call(one, "GET", "/readyz"))["log"]["redis"] == "ready"
        # Commands; the first key closes the door, so they come last.
        assert "interactions" in await bestow("log", "stats", "--redis", cluster.url)
        [line] = (await bestow("log", "tail", "--redis", cluster.url, "--json", "-n", "1")).splitlines()
        assert json.loads(line)["interaction"]["model"] == "m"
        key = json.loads(await bestow("keys", "create", "--name", "x", "--redis", cluster.url, "--json"))
        await until(lambda: _refused(other))
        headers = {"authorization": f"Bearer {key['key']}"}
        assert await call(other, "POST", "/v1/chat/completions", json=body, headers=headers)


async def _sampled(gateway: Harness, count: int) -> bool:
    return bool((await gateway.chat())[2]["guidance"]["sampled"] == count)


async def _refused(gateway: Harness) -> bool:
    return (await gateway.chat())[0] == 401
