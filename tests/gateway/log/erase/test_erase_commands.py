import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from gateway.config import load
from gateway.log import audit
from gateway.log.connection import connect
from gateway.log.erase.commands import erase_app, hold_app
from gateway.log.keys import interactions_key
from gateway.log.records import Interaction
from gateway.signing import signer_of
from tests.gateway.log.archive.archiving import archive, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import said
from tests.gateway.log.log_samples import SHARD, interaction

T = TypeVar("T")


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer) -> Path:
    path = tmp_path / "bestow.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "redis": {"url": redis_server.url}}))
    (tmp_path / "feedback.secret").write_text("a secret of these tests")
    return path


def erase(config: Path, *arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(erase_app, [*arguments, "--config", str(config)], input=given)


def hold(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(hold_app, [*arguments, "--config", str(config)])


def on_redis(server: RedisServer, work: Callable[[Redis], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with connect(server.url) as redis:
            return await work(redis)

    return asyncio.run(run())


def interactions_in(server: RedisServer) -> int:
    """In Redis, not in the archive."""

    async def count(redis: Redis) -> int:
        return int(await redis.xlen(interactions_key(SHARD)))

    return on_redis(server, count)


@pytest.fixture
def answers(config: Path, redis_server: RedisServer, tmp_path: Path) -> list[Interaction]:
    """Of ada, one archived and one not, and one of bob; with a comment of ada's on each."""
    signer = signer_of(load(config))
    records = [interaction(user=signer.hash_user(user)) for user in ("ada", "ada", "bob")]

    async def fill(redis: Redis) -> None:
        for number, record in enumerate(records):
            await send(redis, record, said("ada", record))
            if number == 0:
                await archive(redis, store_in(tmp_path))

    on_redis(redis_server, fill)
    return records


def test_a_dry_run_counts_and_changes_nothing(
    config: Path, redis_server: RedisServer, answers: list[Interaction]
) -> None:
    found = erase(config, "--user", "ada", "--dry-run")
    assert found.exit_code == 0, found.output
    assert "1 in interactions, 1 in feedback, 1 in votes, 2 in archive" in found.stdout
    assert interactions_in(redis_server) == 2
    assert "Nothing was ever ordered" in erase(config, "--list").stdout


def test_it_asks_and_erases_and_shows_a_receipt(
    config: Path, redis_server: RedisServer, answers: list[Interaction]
) -> None:
    refused = erase(config, "--user", "ada", given="n\n")
    assert (refused.exit_code, "Nothing was erased." in refused.stderr) == (1, True)
    done = erase(config, "--user", "ada", "--reason", "asked for it", given="y\n")
    assert done.exit_code == 0, done.output
    assert "erased   2 in archive, 2 in streams, 1 in votes" in done.stdout
    assert "gateways 0 of 0" in done.stdout
    assert interactions_in(redis_server) == 1
    listed = erase(config, "--list").stdout
    assert "done" in listed
    assert "asked for it" in listed
    again = erase(config, "--user", "ada", "--yes")
    assert again.exit_code == 0
    assert "erased   no records" in again.stdout


def test_a_person_can_be_named_as_the_log_names_them(
    config: Path, redis_server: RedisServer, answers: list[Interaction]
) -> None:
    done = erase(config, "--user-hash", str(answers[2].user), "--yes")
    assert done.exit_code == 0, done.output
    assert interactions_in(redis_server) == 1
    assert "1 in interactions" in erase(config, "--user", "ada", "--dry-run").stdout


def test_a_hold_stops_it_visibly_and_a_replay_ends_it(
    config: Path, redis_server: RedisServer, answers: list[Interaction]
) -> None:
    added = hold(config, "add", "--user", "ada", "--reason", "case 17")
    identifier = added.stdout.split()[0]
    assert "case 17" in hold(config, "list").stdout
    stopped = erase(config, "--user", "ada", "--yes")
    assert stopped.exit_code == 1
    assert f"The hold {identifier}" in stopped.stdout
    assert "(held)" in stopped.stdout
    assert interactions_in(redis_server) == 2
    removed = hold(config, "remove", identifier, "--reason", "case closed")
    assert "1 orders to erase waited for it" in removed.stdout
    assert "Nothing is held." in hold(config, "list").stdout
    assert "taken off" in hold(config, "list", "--all").stdout
    replayed = erase(config, "--replay", "--yes")
    assert replayed.exit_code == 0, replayed.output
    assert "(done)" in replayed.stdout
    assert interactions_in(redis_server) == 1


def test_every_order_and_hold_is_in_the_audit_log_and_names_nobody(
    config: Path, redis_server: RedisServer, answers: list[Interaction]
) -> None:
    identifier = hold(config, "add", "--tenant", "acme", "--reason", "audit").stdout.split()[0]
    hold(config, "remove", identifier)
    erase(config, "--user", "ada", "--yes")
    erase(config, "--replay", "--yes")

    async def noted(redis: Redis) -> list[bytes]:
        return [data async for _, data in audit.entries(redis, SHARD)]

    entries = on_redis(redis_server, noted)
    decoded = [audit.decode(data) for data in entries]
    assert [entry.action for entry in decoded if entry] == ["hold", "release", "erase", "erase"]
    assert not any(str(answers[0].user).encode() in data for data in entries)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name the person"),
        (["--user", "ada", "--user-hash", "0" * 32], "Name the person"),
        (["--user", ""], "--user is empty"),
        (["--user-hash", "ada"], "--user-hash has 32 hexadecimal digits"),
        (["--user", "ada", "--reason", "x" * 2000], "--reason may have 1000 characters"),
        (["--replay", "--user", "ada"], "leave --user out"),
    ],
)
def test_what_cannot_be_done_is_one_plain_sentence(config: Path, arguments: list[str], says: str) -> None:
    result = erase(config, *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert says in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "--reason", "x"], "Name what is held"),
        (["add", "--user", "ada", "--interaction", "chatcmpl-1", "--reason", "x"], "Name what is held"),
        (["add", "--interaction", "7", "--reason", "x"], "is not the id of an answer"),
        (["add", "--tenant", "acme", "--reason", ""], "--reason must have"),
        (["remove", "nothing"], "There is no hold 'nothing' in force"),
    ],
)
def test_holds_that_cannot_be_are_one_plain_sentence(config: Path, arguments: list[str], says: str) -> None:
    result = hold(config, *arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert says in result.stderr


def test_without_a_secret_or_a_redis_it_is_one_plain_sentence(config: Path, redis_server: RedisServer) -> None:
    redis_server.kill()
    away = erase(config, "--user", "ada", "--yes")
    assert (away.exit_code, len(away.stderr.strip().splitlines())) == (1, 1)
    assert "does not answer" in away.stderr
    (config.parent / "feedback.secret").unlink()
    unknown = erase(config, "--user", "ada", "--yes")
    assert (unknown.exit_code, len(unknown.stderr.splitlines())) == (1, 1)
    assert "feedback.secret cannot be read" in unknown.stderr


@pytest.mark.parametrize("app", [erase_app, hold_app])
def test_help_teaches_by_example(app: Any) -> None:
    shown = CliRunner().invoke(app, ["--help"] if app is erase_app else ["add", "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.stdout
