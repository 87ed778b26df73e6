"""`bestow train evaluate`: what it says, what it refuses, and results side by side."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from tests.fakes import FakeChat, serve
from tests.training.evaluation.test_evaluation_running import echo
from training.commands import train_app
from training.errors import TrainingError
from training.evaluation.commands import check_comparable
from training.evaluation.intervals import Estimate
from training.evaluation.result import Result, read_result, write_result

ANSWERS = [{"id": f"p{number}", "answers": ["short" if number % 3 else "a rather long answer"]} for number in range(12)]
PROMPTS = [{"id": f"p{number}", "prompt": f"Question {number}?", "category": f"c{number % 2}"} for number in range(12)]


@pytest.fixture
def server() -> Iterator[FakeChat]:
    """A gateway in a thread of its own: the command has an event loop too."""
    fake, ready, ended = FakeChat(says=echo), threading.Event(), threading.Event()

    async def until_ended() -> None:
        async with serve(fake):
            ready.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(until_ended(),))
    thread.start()
    assert ready.wait(30)
    yield fake
    ended.set()
    thread.join(30)


def files(folder: Path) -> tuple[Path, Path]:
    prompts, answers = folder / "asked.jsonl", folder / "answers.jsonl"
    prompts.write_text("\n".join(map(json.dumps, PROMPTS)))
    answers.write_text("\n".join(map(json.dumps, ANSWERS)))
    return prompts, answers


def called(*words: str) -> str:
    done = CliRunner().invoke(train_app, ["evaluate", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def evaluated(server: FakeChat, folder: Path) -> tuple[str, Path]:
    """Judged by the same server, whose verdict here is always the first letter: nobody wins by that."""
    prompts, answers = files(folder)
    judge = f"j@{server.url}/v1"
    server.models = ("m", "j")
    server.says = lambda body: "A" if body["model"] == "j" else echo(body)
    out = folder / "results"
    said = called(f"m@{server.url}/v1", str(answers), "--prompts", str(prompts), "--judge", judge, "--out", str(out))
    [found] = out.glob("asked-*")
    return said, found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_evaluation_leaves_a_folder_with_all_of_it_and_a_table(server: FakeChat, nowhere: Path) -> None:
    said, folder = evaluated(server, nowhere)
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "answers.jsonl", "asked.json", "lengths.png", "result.json", "scores.jsonl",
        "set.jsonl", "verdicts.jsonl", "win_rates.png"
    }  # fmt: skip
    assert (folder / "win_rates.png").read_bytes().startswith(b"\x89PNG")
    result = read_result(folder)
    assert folder.name == f"asked-{result.id[:12]}"
    [measure] = result.measures
    assert measure.win_rate.value == 0.5 and measure.position_bias is not None and measure.position_bias.value == 1.0
    assert "A wins (ties half)" in said and "50.0%" in said and str(result.asked.b) == "answers.jsonl"

    asked = len(server.requests)
    assert evaluated(server, nowhere)[1] == folder
    # Who is served is asked again, and nothing else: the answers and the verdicts are there.
    assert len(server.requests) == asked + 1
    assert "A wins (ties half)" in called("show", str(folder))


def test_results_of_one_set_are_compared_prompt_by_prompt(server: FakeChat, nowhere: Path) -> None:
    _, folder = evaluated(server, nowhere)
    first = read_result(folder)
    better = nowhere / "better"
    better.mkdir()
    [measure] = first.measures
    won = replace(measure, by_prompt=dict.fromkeys(measure.by_prompt, 1.0), win_rate=Estimate(1.0, 0.8, 1.0, 12, 12))
    write_result(better, replace(first, id="f" * 64, measures=[won]))
    said = called("compare", str(folder), str(better))
    assert "ffffffffffff" in said and "+50.0%" in said


def test_results_of_different_sets_are_not_compared(server: FakeChat, nowhere: Path) -> None:
    first = read_result(evaluated(server, nowhere)[1])
    other: Result = replace(first, asked=replace(first.asked, set=replace(first.asked.set, sha256="0" * 64)))
    with pytest.raises(TrainingError, match="only results of the same set can be compared"):
        check_comparable(first, other)
    check_comparable(first, first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m"], "either --prompts FILE or --snapshot"),
        (["m", "--prompts", "demo-questions"], "Nobody judges"),
        (["m", "--prompts", "nothing", "--judge", "j"], "no set of that name"),
        (["m", "--prompts", "demo-questions", "--judge", "j"], "neither .bestow/run.yaml nor bestow.yaml"),
        (["show", "nothing"], "is no result"),
        (["compare", "nothing"], "is no result"),
        (["judge", "nothing", "--judge", "j"], "is no result"),
    ],
)
def test_what_cannot_be_done_is_told_with_what_to_do(words: list[str], said: str, nowhere: Path) -> None:
    with pytest.raises(TrainingError, match=said):
        CliRunner().invoke(train_app, ["evaluate", *words], catch_exceptions=False)


def test_a_result_whose_set_was_changed_is_not_judged_again(server: FakeChat, nowhere: Path) -> None:
    _, folder = evaluated(server, nowhere)
    (folder / "set.jsonl").write_text("")
    with pytest.raises(TrainingError, match="not the set that was asked"):
        CliRunner().invoke(
            train_app, ["evaluate", "judge", str(folder), "--judge", f"j@{server.url}"], catch_exceptions=False
        )


def test_help_teaches_with_examples() -> None:
    assert "--prompts demo-questions --reward-model reward" in called("--help")
    assert "MODEL[:PROFILE][+WEIGHTS][,n=N][@http://host:port/v1]" in "".join(called("run", "--help").split())
