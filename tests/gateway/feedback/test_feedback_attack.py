"""An attack through a gateway, with a real Redis, and what the operator sees of it from the command line."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from gateway.log import audit
from gateway.log.keys import feedback_key, reviews_key
from tests.fakes import FakeWorker
from tests.gateway.feedback.trust.traffic import World
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer
from tests.waiting import until

SECRET_NET = "203.0.113."
PUSHED = "only the zorblat nine is worth your money"


def bestow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", "feedback", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


async def vote(gateway: Harness, answer: str, user: str, host: int, **fields: Any) -> str:
    """The vote's id; from an address of its own network."""
    body = {"id": answer, "kind": "thumbs", "value": True, "user": user, **fields}
    headers = {"x-forwarded-for": f"{SECRET_NET}{host}"}
    async with gateway.session.post("/v1/feedback", json=body, headers=headers) as reply:
        found: dict[str, Any] = await reply.json()
        assert reply.status == 202, found
        return str(found["feedback_id"])


async def ask(gateway: Harness, prompt: str, user: str) -> str:
    status, _, answer = await gateway.chat(prompt, user=user)
    assert status == 200, answer
    return str(answer["id"])


async def honest(gateway: Harness, world: World) -> list[str]:
    """30 people who like most of the answers they got, each at home; and all ask the same thing once. Answers' ids."""
    answers = []
    for person in range(30):
        for prompt in (world.prompt(), world.prompt(), "What is the capital city of France?"):
            answers.append(await ask(gateway, prompt, f"person{person}"))
            await vote(gateway, answers[-1], f"person{person}", person, value=world.random.random() < 0.8)
    return answers


async def attack(gateway: Harness, others: list[str]) -> dict[str, set[str]]:
    """Three of them, by user: a bot that likes all it gets, a shill for a phrase, a spoiler of others' answers."""
    random, cast = Random(2), {}
    cast["bot"] = {
        await vote(gateway, await ask(gateway, f"Tell me about {random.random()}", "bot"), "bot", 200)
        for _ in range(60)
    }
    cast["shill"] = set()
    for number in range(12):
        answer = await ask(gateway, f"Which phone should I buy this year, option {number}?", "shill")
        text = f"In my view {PUSHED}, {random.random()}"
        cast["shill"].add(await vote(gateway, answer, "shill", 201, kind="correction", value=text))
    cast["spoiler"] = {await vote(gateway, answer, "spoiler", 202, value=False) for answer in others[:15]}
    return cast


@pytest.mark.slow
async def test_review_names_the_attackers_and_leaves_honest_people_alone(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    answers = FakeWorker(texts=("It depends on what you like most.", "Hm.", "Ask me later.", "No idea, sorry."))
    async with running_gateway(
        folder, answers, redis_url=redis_server.url, feedback={"trusted_proxies": 1}, log={"flush_ms": 5}
    ) as gateway:
        signer = gateway.service.signer
        cast = await attack(gateway, await honest(gateway, World(1)))
        total = 90 + sum(map(len, cast.values()))

        async def shipped() -> bool:
            return int(await redis.xlen(feedback_key("0"))) == total

        await until(shipped)
    (tmp_path / "bestow.yaml").write_text(yaml.safe_dump({"data_dir": str(folder), "redis": {"url": redis_server.url}}))

    done = bestow(tmp_path, "review", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["quarantined"]
    by_user: dict[str, set[str]] = {}
    for one in shown:
        by_user.setdefault(one["user"], set()).add(one["vote"])
    assert by_user == {signer.hash_user(name): votes for name, votes in cast.items()}
    codes = {one["user"]: {reason["code"] for reason in one["reasons"]} for one in shown}
    assert codes[signer.hash_user("bot")] == {"burst"}
    assert codes[signer.hash_user("shill")] == {"pushed_phrase"}
    assert codes[signer.hash_user("spoiler")] == {"others_answers"}

    table = bestow(tmp_path, "review").stdout
    assert f"user:{signer.hash_user('bot')}" in table and "zorblat nine" in table
    assert f"{total - 90} of {total} votes" in table
    assert "person" not in table and SECRET_NET not in table

    # The operator's word wins, and stands in the audit log.
    bot, spoiler = f"user:{signer.hash_user('bot')}", f"user:{signer.hash_user('spoiler')}"
    done = bestow(tmp_path, "release", bot, "--reason", "our load test")
    assert done.returncode == 0 and "60 votes" in done.stdout, done.stderr
    one_vote = min(cast["spoiler"])
    assert bestow(tmp_path, "release", one_vote).returncode == 0
    assert bestow(tmp_path, "confirm", spoiler, "--reason", "a competitor").returncode == 0
    after = json.loads(bestow(tmp_path, "review", "--json").stdout)
    left = {one["vote"] for one in after["quarantined"]}
    assert left == cast["shill"] | cast["spoiler"] - {one_vote}
    assert {one["verdict"] for one in after["decisions"]} == {"released", "confirmed"}
    page = bestow(tmp_path, "review", "--votes").stdout
    assert "our load test" in page and f"vote:{min(left)}" in page

    noted = [audit.decode(data) async for _, data in audit.entries(redis, "0")]
    reviewed = [(one.target, one.detail) for one in noted if one is not None and one.action == "review"]
    assert reviewed == [
        (bot, "released: our load test"),
        (f"vote:{one_vote}", "released"),
        (spoiler, "confirmed: a competitor"),
    ]

    # Addresses are kept nowhere, only their hashes: not in Redis, not in the journal.
    await redis.config_set("rdbcompression", "no")
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for name in [name async for name in redis.scan_iter("*")]:
        kept += name + (await redis.dump(name) or b"")
    assert SECRET_NET.encode() not in kept
    assert str(signer.hash_address(f"{SECRET_NET}200")).encode() in kept
    assert await redis.hlen(reviews_key("0")) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["release", "nobody"], "is nothing that can be decided on"),
        (["release", "user:ann"], "is nothing that can be decided on"),
        (["release", "0198c0de-0000-7000-8000-000000000000"], "nothing was decided"),
        (["confirm", f"user:{'0' * 32}"], "nothing was decided"),
        (["confirm", f"user:{'0' * 32}", "--reason", "x" * 600], "reason: at most"),
        (["review", "--since", "yesterday"], "--since is a day or a time"),
    ],
)
def test_what_cannot_be_decided_is_one_sentence(
    redis_server: RedisServer, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = bestow(tmp_path, *arguments, "--redis", redis_server.url)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr


def test_an_empty_log_has_nothing_to_review(redis_server: RedisServer, tmp_path: Path) -> None:
    done = bestow(tmp_path, "review", "--redis", redis_server.url)
    assert done.returncode == 0 and "0 of 0 votes" in done.stdout, done.stderr
