import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from gateway.ids import new_uuid7
from gateway.log.commands import log_app
from gateway.log.connection import connect
from gateway.log.frames import Entry, Kind
from gateway.log.records import CandidateRecord, Comparison, Feedback, Interaction, encode
from gateway.log.sink import RedisSink
from gateway.log.source import find_source
from gateway.log.tail import as_json, clean, feedback_text, interaction_text, late_feedback_text
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb

HOSTILE = "[bold red]x[/] \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eevil\u2066 a\nb\tc \x00\x7f\ud800"


def hostile() -> tuple[Interaction, Feedback]:
    candidate = CandidateRecord(0, {"role": "assistant", "content": HOSTILE}, "stop", 1, reward_error=HOSTILE)
    record = interaction(
        model=HOSTILE,
        degraded=HOSTILE,
        error=HOSTILE,
        candidates=[candidate],
        messages=[{"role": "user", "content": HOSTILE}],
    )
    return record, thumb(record.id, user=HOSTILE, comment=HOSTILE, tags=[HOSTILE])


def send(server: RedisServer, *records: Interaction | Feedback) -> None:
    entries = [
        Entry(Kind.INTERACTION if isinstance(record, Interaction) else Kind.FEEDBACK, encode(record))
        for record in records
    ]

    async def ship() -> None:
        async with connect(server.url) as redis:
            await RedisSink(redis, SHARD).send(entries)

    asyncio.run(ship())


def bestow_log(*arguments: str) -> Result:
    return CliRunner().invoke(log_app, list(arguments))


def test_escapes_and_controls_are_taken_out() -> None:
    assert clean(HOSTILE) == "[bold red]x[/] red evil a b c"


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    cleaned = clean(text)
    assert all(char.isprintable() or char in "\u200c\u200d" or not char.isascii() for char in cleaned)
    assert not set(cleaned) & set("\x1b\x9b\n\r\u202e\u2028")


def test_hostile_text_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    record, vote = hostile()
    console = Console(force_terminal=True, color_system=None, soft_wrap=True, markup=False, highlight=False)
    for text in (interaction_text(record, [vote]), late_feedback_text(vote), feedback_text(vote)):
        console.print(text)
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x9b\x07\x00\u202e\u2066")
    assert "[bold red]x[/]" in shown
    line = as_json(interaction(model="\x9b\u202e\x1b\U000e0041é"), [])
    assert line.isprintable()
    assert json.loads(line)["interaction"]["model"] == "\x9b\u202e\x1b\U000e0041é"


def test_tail_shows_candidates_choice_verdicts_and_feedback(redis_server: RedisServer) -> None:
    record = interaction(degraded="reward_unavailable")
    send(
        redis_server, interaction(), record, thumb(record.id), thumb(record.id, False, user="bob", comment="too short")
    )
    result = bestow_log("tail", "-n", "1", "--redis", redis_server.url)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert record.id in lines[0]
    assert "degraded: reward_unavailable" in lines[0]
    assert "What is the capital of France?" in lines[2]
    assert lines[3].startswith("    #0      -0.300  safe")
    assert lines[4].startswith("  > #1      -0.050  safe")
    assert "unsafe: violence" in lines[5]
    assert lines[6] == "  👍 by ada"
    assert lines[7] == '  👎 by bob "too short"'
    assert "\x1b" not in result.stdout


def test_tail_as_json_is_one_object_a_line(redis_server: RedisServer) -> None:
    record = interaction()
    vote = thumb(record.id)
    send(redis_server, interaction(), record, vote)
    result = bestow_log("tail", "--json", "--redis", redis_server.url)
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["feedback"] == []
    assert second["interaction"]["id"] == record.id
    assert [one["id"] for one in second["feedback"]] == [vote.id]


def test_following_prints_late_feedback_beside_its_interactions_id(redis_server: RedisServer) -> None:
    first, second = interaction(), interaction()
    send(redis_server, first)
    # Started by a shell in the background, this process ignores Ctrl-C, and so would its child.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from gateway.log.commands import log_app; log_app()"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(
        [*command, "tail", "-f", "--redis", redis_server.url], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        assert first.id in process.stdout.readline()
        send(redis_server, thumb(first.id, False))
        deadline = time.monotonic() + 10
        while "feedback: 👎 by ada" not in (line := process.stdout.readline()):
            assert time.monotonic() < deadline
        assert first.id in line
        send(redis_server, second)
        while second.id not in process.stdout.readline():
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


def test_get_finds_one_interaction(redis_server: RedisServer) -> None:
    record = interaction()
    send(redis_server, interaction(), record, interaction(), thumb(record.id))
    result = bestow_log("get", record.id, "--json", "--redis", redis_server.url)
    assert json.loads(result.stdout)["interaction"]["id"] == record.id
    as_response = bestow_log("get", record.id.replace("chatcmpl-", "resp_"), "--json", "--redis", redis_server.url)
    assert as_response.stdout == result.stdout
    unknown = bestow_log("get", interaction().id, "--redis", redis_server.url)
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("There is no interaction chatcmpl-")
    malformed = bestow_log("get", "[bold]x", "--redis", redis_server.url)
    assert malformed.exit_code == 1
    assert "not the id" in malformed.stderr


def test_stats_counts_outcomes_and_thumbs(redis_server: RedisServer) -> None:
    refused = interaction(outcome="refused_prompt", candidates=[], chosen=None)
    record = interaction()
    send(redis_server, record, record, refused, thumb(record.id), thumb(record.id, False))
    result = bestow_log("stats", "--redis", redis_server.url)
    assert "interactions  3 entries" in result.stdout
    assert "delivered 1, refused_prompt 1" in result.stdout
    assert "👍 1, 👎 1" in result.stdout
    assert "duplicates  1, unreadable 0" in result.stdout


def test_stats_tells_what_was_picked_by_its_place(redis_server: RedisServer) -> None:
    records = [interaction(comparison=Comparison([2, 1], "best", 0.1, 1.0)) for _ in range(3)]
    pick: dict[str, Any] = {"kind": "preference", "value": 2, "candidate": 2, "over": 1, "shown": [2, 1]}
    first, second, third = (thumb(one.id, **pick) for one in records)
    changed = msgspec.structs.replace(second, id=new_uuid7(), candidate=1, over=2)
    tie = msgspec.structs.replace(third, value="tie")
    bob = msgspec.structs.replace(first, id=new_uuid7(), user="bob")
    back = msgspec.structs.replace(bob, id=new_uuid7(), retracted=True)
    send(redis_server, *records, first, second, changed, tie, bob, back)
    result = bestow_log("stats", "--redis", redis_server.url)
    said = next(line for line in result.stdout.splitlines() if "comparisons" in line)
    assert "3 shown; picked first 1, second 1, tie 1, both bad 0; first in 50.0% (" in said
    assert "1 of 2)" in said
    shown = bestow_log("get", records[2].id, "--redis", redis_server.url).stdout
    assert "compared #2 with #1" in shown and "preference: tie candidate 2 over 1" in shown


@pytest.mark.parametrize("command", [["tail"], ["get", interaction().id], ["stats"]])
def test_without_redis_there_is_one_plain_sentence(command: list[str], stopped_redis: RedisServer) -> None:
    address = stopped_redis.url.replace("redis://", "redis://:secret@")
    result = bestow_log(*command, "--redis", address)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "does not answer" in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", ["tail", "stats"])
def test_an_empty_log_is_one_plain_sentence(command: str, redis_server: RedisServer) -> None:
    result = bestow_log(command, "--redis", redis_server.url)
    assert (result.exit_code, result.stderr) == (1, "Nothing has been logged yet in bestow:{log-0}:interactions.\n")


def test_the_address_comes_from_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = bestow_log("tail")
    assert missing.exit_code == 1
    assert "--redis" in missing.stderr
    Path("bestow.yaml").write_text("redis: {url: 'redis://there:1'}\nlog: {shard: eu}\n")
    assert (find_source(None, None, None).url, find_source(None, None, None).shard) == ("redis://there:1", "eu")
    Path(".bestow").mkdir()
    Path(".bestow/run.yaml").write_text("redis: {port: 7001}\n")
    assert find_source(None, None, None).url == "redis://127.0.0.1:7001/0"
    assert find_source(Path("bestow.yaml"), "redis://mine:2", None).shard == "eu"
    assert find_source(None, "redis://mine:2", "us").shard == "us"
    wrong = bestow_log("tail", "--redis", "nonsense")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("command", ["tail", "get", "stats"])
def test_help_teaches_by_example(command: str) -> None:
    result = bestow_log(command, "--help")
    assert result.exit_code == 0
    assert f"bestow log {command}" in result.stdout
