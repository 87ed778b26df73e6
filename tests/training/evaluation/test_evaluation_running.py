"""An evaluation from prompts to result, in front of a fake gateway: patience, failures, going on, turns, judges."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.log.own_requests import is_own
from scorers.contract import Score, ScoreRequest, ScorerInfo
from tests.fakes import FakeChat, serve
from tests.gateway.harness import running_gateway
from tests.training.evaluation.answering import Bars, item
from training.errors import TrainingError
from training.evaluation.answers import Answer, Which, seed_of
from training.evaluation.asking import Asker, find_side
from training.evaluation.items import Item, PromptSet
from training.evaluation.judges import Comparison
from training.evaluation.result import Asked, Result, read_result
from training.evaluation.running import Readers, Work, evaluate, facts_of, judge, side_of_file
from training.evaluation.scoring import opened
from training.evaluation.servers import Server
from training.evaluation.settings import RunSettings, SamplingSettings
from training.evaluation.sides import Named, Side
from training.jsonl import Lines, only_one

ITEMS = tuple(item(f"p{number}", f"Question {number}?", category=f"c{number % 2}") for number in range(12))
TURNS = tuple(item(f"t{number}", f"First {number}?", f"Second {number}?") for number in range(3))
HOW, HARD = SamplingSettings(), RunSettings(at_once=3)
PLAIN = Named("m", 1)
LENGTH = ScorerInfo("length", "reward", "value", "length@1", False, 1000)


@dataclass
class ByLength:
    """A reward model that likes long answers."""

    info: ScorerInfo = LENGTH
    requests: list[ScoreRequest] = field(default_factory=list)

    async def score(self, request: ScoreRequest) -> list[Score]:
        self.requests.append(request)
        return [Score(value=float(len(str(one["content"])))) for one in request.candidates]


@dataclass
class Alphabetic:
    """A judge that prefers what comes first in the alphabet, and 0.1 for the first position."""

    version: str = "alphabetic@1"
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def compare(self, messages: Sequence[dict[str, Any]], a: str, b: str) -> Comparison:
        self.asked.append((a, b))
        return Comparison(0.95, 0.85) if a < b else Comparison(0.15, 0.05)


@dataclass
class Naps:
    """How long a server was waited for."""

    slept: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def echo(body: dict[str, Any]) -> str:
    """The plain side says less."""
    asked = body["messages"][-1]["content"]
    return f"Re {asked}" if body["guidance"].get("n") == 1 else f"An answer to {asked}"


def last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@dataclass
class Run:
    result: Result
    work: Work
    bars: Bars


async def run(
    fake: FakeChat,
    folder: Path,
    items: tuple[Item, ...] = ITEMS,
    *,
    readers: Readers | None = None,
    naps: Naps | None = None,
    b: Named | Mapping[str, Sequence[str]] = PLAIN,
    how: SamplingSettings = HOW,
    hard: RunSettings = HARD,
) -> Run:
    prompts = PromptSet("set", items)
    async with aiohttp.ClientSession() as session:
        server = Server(f"{fake.url}/v1", session, patience_s=hard.patience_s, sleep=naps or Naps())
        sides: dict[Which, Asker | Mapping[str, Sequence[str]]] = {"a": await find_side(Named("m"), server)}
        sides["b"] = await find_side(b, server) if isinstance(b, Named) else b
        facts = [one.side if isinstance(one, Asker) else side_of_file(Path("x.json"), one) for one in sides.values()]
        asked = Asked.of(facts_of(prompts), facts[0], facts[1], how)
        bars = Bars()
        work = Work(folder, items, how.samples, hard, bars)
        result = await evaluate(prompts, asked, sides, how, readers or Readers(rewards=[ByLength()]), work, "set")
    return Run(result, work, bars)


async def test_both_sides_are_asked_judged_and_written(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)
    async with serve(fake):
        done = await run(fake, tmp_path, readers=Readers(judges=[Alphabetic()], rewards=[ByLength()]))
    judged, rewarded = done.result.measures
    assert (judged.by, rewarded.by) == ("alphabetic@1", "length@1")
    assert judged.win_rate.value == pytest.approx(0.9) and judged.position_bias is not None
    assert judged.position_bias.value == pytest.approx(0.1)
    assert rewarded.win_rate.value == 1.0 and rewarded.win_rate.count == 12
    assert done.result.a.answers == done.result.b.answers == 12
    assert read_result(tmp_path) == done.result
    assert done.bars.asked == [("answers", 24), ("judge alphabetic@1", 12), ("scorer length@1", 24)]
    assert done.bars.made == 60
    assert (tmp_path / "answers.jsonl").stat().st_mode & 0o077 == 0


async def test_requests_say_what_they_are_and_go_behind_everybody(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)
    async with serve(fake):
        await run(fake, tmp_path)
    asked = [body for body in fake.requests if last(body) != "Hello."]
    assert all(body["metadata"] == {"purpose": "bestow evaluate"} for body in fake.requests)
    assert all(body["service_tier"] == "flex" for body in fake.requests)
    assert all(body["guidance"]["comparison"] is False for body in asked)
    assert sorted(body["guidance"].get("n", 0) for body in asked) == [0] * 12 + [1] * 12
    # Noise is never shared: not by prompts, and not by the two sides of one.
    assert len({body["seed"] for body in asked}) == 24


async def test_who_is_turned_away_comes_back_and_nobody_is_dropped(tmp_path: Path) -> None:
    turned: set[str] = set()

    def busy(body: dict[str, Any]) -> str | tuple[int, dict[str, Any], dict[str, str]]:
        key = f"{last(body)}{body['seed']}"
        if last(body) == "Hello." or key in turned:
            return echo(body)
        turned.add(key)
        return 429, {"message": "too many", "code": "rate_limit_exceeded"}, {"Retry-After": "7"}

    fake, naps = FakeChat(says=busy), Naps()
    async with serve(fake):
        done = await run(fake, tmp_path, naps=naps)
    assert done.result.a.failed == done.result.b.failed == 0
    assert naps.slept == [7.0] * 24


async def test_patience_ends_and_then_it_is_a_failure_that_is_counted(tmp_path: Path) -> None:
    def away(body: dict[str, Any]) -> str | tuple[int, dict[str, Any], dict[str, str]]:
        return (503, {"message": "no worker is up"}, {}) if last(body) == "Question 3?" else echo(body)

    fake, naps = FakeChat(says=away), Naps()
    hard = RunSettings(at_once=3, patience_s=20, max_failed=0.5)
    async with serve(fake):
        done = await run(fake, tmp_path, naps=naps, hard=hard)
    assert (done.result.a.failed, done.result.b.failed) == (1, 1)
    [measure] = done.result.measures
    assert measure.missing == 1 and measure.win_rate.count == 11
    assert sum(naps.slept) <= 2 * 20 and max(naps.slept) > 4
    [failed] = [one for one in done.work.answers.all if one.outcome == "failed" and one.side == "a"]
    assert failed.error == "no worker is up."


async def test_too_many_failures_end_it_and_the_same_again_goes_on(tmp_path: Path) -> None:
    broken = True

    def sometimes(body: dict[str, Any]) -> str | tuple[int, dict[str, Any], dict[str, str]]:
        if broken and last(body) in ("Question 1?", "Question 2?"):
            return 400, {"message": "the prompt does not fit", "code": "context_length_exceeded"}, {}
        return echo(body)

    fake = FakeChat(says=sometimes)
    async with serve(fake):
        with pytest.raises(TrainingError, match=r"4 of 24 answers are missing.*the prompt does not fit"):
            await run(fake, tmp_path)
        assert read_result(tmp_path).measures[0].missing == 2
        broken = False
        fake.requests.clear()
        done = await run(fake, tmp_path)
    assert sorted({last(body) for body in fake.requests}) == ["Hello.", "Question 1?", "Question 2?"]
    assert done.result.a.failed == 0 and done.result.measures[0].missing == 0
    assert done.result.a.answers == 12


async def test_a_run_that_was_killed_goes_on_and_ends_in_the_same_answers(tmp_path: Path) -> None:
    fake = FakeChat(says=lambda body: f"{echo(body)} {body['seed']}")
    async with serve(fake):
        (tmp_path / "whole").mkdir()
        whole = await run(fake, tmp_path / "whole", TURNS)
        lines = (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
        cut = tmp_path / "cut"
        cut.mkdir()
        # Some conversations are whole, some have a first turn, and the last line was being written.
        (cut / "answers.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:20])
        fake.requests.clear()
        again = await run(fake, cut, TURNS)
    assert len([body for body in fake.requests if last(body) != "Hello."]) == len(lines) - 5
    texts = [{place: one.text for place, one in run.work.answered.items()} for run in (whole, again)]
    assert texts[0] == texts[1]
    assert again.result.measures[0].win_rate == whole.result.measures[0].win_rate
    assert again.result.id == whole.result.id


async def test_each_side_goes_on_from_its_own_answers(tmp_path: Path) -> None:
    fake, reward, judge_ = FakeChat(says=echo), ByLength(), Alphabetic()
    async with serve(fake):
        done = await run(fake, tmp_path, TURNS, readers=Readers(judges=[judge_], rewards=[reward]))
    second = [body for body in fake.requests if last(body).startswith("Second 0")]
    before = {body["guidance"].get("n", 0): body["messages"][1]["content"] for body in second}
    assert before == {0: "An answer to First 0?", 1: "Re First 0?"}
    # The reward model reads each conversation as it was; a judge reads from the second turn on what was said since.
    asked = [[one["content"] for one in request.messages] for request in reward.requests]
    assert ["First 0?", "Re First 0?", "Second 0?"] in asked
    assert (
        "[assistant]\nAn answer to First 0?\n\n[user]\nSecond 0?\n\n[assistant]\nAn answer to Second 0?",
        "[assistant]\nRe First 0?\n\n[user]\nSecond 0?\n\n[assistant]\nRe Second 0?",
    ) in judge_.asked
    assert done.result.measures[0].win_rate.prompts == 3 and done.result.measures[0].win_rate.count == 6
    assert set(done.result.measures[1].by_turn) == {"1", "2"}


async def test_nobody_goes_on_talking_after_a_block(tmp_path: Path) -> None:
    def blocks(body: dict[str, Any]) -> str | tuple[int, dict[str, Any], dict[str, str]]:
        if last(body) == "First 1?" and body["guidance"].get("n") != 1:
            return 400, {"message": "the prompt was blocked", "code": "content_blocked"}, {}
        return echo(body)

    fake = FakeChat(says=blocks)
    async with serve(fake):
        done = await run(fake, tmp_path, TURNS)
    outcomes = [done.work.answered["a", "t1", 0, turn].outcome for turn in (0, 1)]
    assert outcomes == ["blocked", "blocked"] and done.result.a.failed == 0
    assert done.result.measures[0].by_prompt["t1"] == 0.0


async def test_a_refusal_is_told_from_an_answer(tmp_path: Path) -> None:
    receipt = {"policy": "policy@1", "profile": "default@1", "refused": "prompt"}
    fake = FakeChat(says=echo, receipt=receipt, finish="content_filter")
    async with serve(fake):
        done = await run(fake, tmp_path)
    assert done.result.a.refused is not None and done.result.a.refused.value == 1.0
    assert done.result.measures[0].win_rate.count == 12


async def test_answers_of_fewer_candidates_than_the_profile_says_are_asked_again_then_told(tmp_path: Path) -> None:
    receipt = {"policy": "policy@1", "profile": "default@1", "degraded": "load"}
    fake, naps = FakeChat(says=echo, receipt=receipt), Naps()
    async with serve(fake):
        done = await run(fake, tmp_path, ITEMS[:2], naps=naps)
    assert len(fake.requests) == 2 + 4 * 5 and len(naps.slept) == 4 * 4
    assert done.result.a.short == 2 and "fewer candidates" in done.result.warnings[0]


async def test_another_version_in_the_middle_ends_it(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)

    def promoted(body: dict[str, Any]) -> str:
        if last(body) == "Question 4?":
            fake.receipt = {"policy": "policy@2", "profile": "default@1"}
        return echo(body)

    fake.says = promoted
    async with serve(fake):
        with pytest.raises(TrainingError, match="policy@1 through default@1 was asked, and now policy@2"):
            await run(fake, tmp_path)


async def test_a_file_of_answers_is_a_side_and_what_it_lacks_is_missing(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)
    answers = {one.id: ["x" * 60] for one in ITEMS[1:]}
    async with serve(fake):
        done = await run(fake, tmp_path, b=answers, hard=RunSettings(max_failed=0.1))
    assert len([body for body in fake.requests if last(body) != "Hello."]) == 12
    assert done.result.b.failed == 1 and done.result.measures[0].win_rate.value == 0.0
    assert done.result.asked.b.file == "x.json" and len(done.result.asked.b.answers) == 64


async def test_several_samples_of_a_prompt_have_noise_of_their_own(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)
    async with serve(fake):
        done = await run(fake, tmp_path, how=SamplingSettings(samples=3, max_tokens=9, temperature=0.5))
    asked = [body for body in fake.requests if last(body) != "Hello."]
    assert len({body["seed"] for body in asked}) == 72
    assert all(body["max_tokens"] == 9 and body["temperature"] == 0.5 for body in asked)
    assert (done.result.measures[0].win_rate.prompts, done.result.measures[0].win_rate.count) == (12, 36)


async def test_another_judge_reads_the_same_answers_and_nothing_is_sampled(tmp_path: Path) -> None:
    fake = FakeChat(says=echo)
    async with serve(fake):
        first = await run(fake, tmp_path)
        sampled = len(fake.requests)
        work = Work(tmp_path, Lines(tmp_path / "set.jsonl", Item).all, 1, RunSettings(), Bars())
        found = await judge(first.result.asked, Readers(judges=[Alphabetic()]), work, "set")
    assert len(fake.requests) == sampled
    assert [one.by for one in found.measures] == ["alphabetic@1", "length@1"]
    assert found.id == first.result.id and found.measures[1] == first.result.measures[0]


async def test_another_server_gets_no_field_that_it_does_not_know(tmp_path: Path) -> None:
    fake = FakeChat(says=lambda body: f"Re {last(body)}", ours=False)
    async with serve(fake), aiohttp.ClientSession() as session:
        asker = await find_side(Named("m", url=f"{fake.url}/v1"), Server(f"{fake.url}/v1", session))
        with pytest.raises(TrainingError, match="no Bestow gateway"):
            await find_side(Named("m", 1, fake.url), Server(f"{fake.url}/v1", session))
        with pytest.raises(TrainingError, match="There is no model 'other'"):
            await find_side(Named("other"), Server(f"{fake.url}/v1", session))
    assert asker.side == Side(model="m", url=f"{fake.url}/v1") and not fake.requests


async def test_a_refused_key_ends_it_at_once() -> None:
    fake = FakeChat(says=echo)
    async with serve(fake, key="right"), aiohttp.ClientSession() as session:
        with pytest.raises(TrainingError, match="refuses the key"):
            await find_side(Named("m"), Server(f"{fake.url}/v1", session, key="wrong"))
        assert (await find_side(Named("m"), Server(f"{fake.url}/v1", session, key="right"))).side.policy == "policy@1"


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(TrainingError, match="Another run is at work"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_line_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"side": "c"}\n')
    with pytest.raises(TrainingError, match="line 1 cannot be read"):
        Lines(path, Answer)


async def test_a_gateway_logs_an_evaluation_as_its_own_and_answers_by_its_profile(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "gateway") as gateway, aiohttp.ClientSession() as session:
        server = Server(f"{gateway.url}/v1", session)
        items = tuple(item(f"p{number}") for number in range(4))
        prompts = PromptSet("set", items)
        a, b = [await find_side(named, server) for named in (Named("m:default"), Named("m", 1))]
        asked = Asked.of(facts_of(prompts), a.side, b.side, HOW)
        folder = tmp_path / "result"
        folder.mkdir()
        work = Work(folder, items, 1, RunSettings(), Bars())
        result = await evaluate(prompts, asked, {"a": a, "b": b}, HOW, Readers(rewards=[ByLength()]), work, "set")
        logged = gateway.interactions
    assert len(logged) == 2 + 2 * 4 and all(map(is_own, logged)) and {one.tier for one in logged} == {"flex"}
    # The gateway's scorer likes length too: the best of four is "three", the plain sample "one".
    assert result.measures[0].win_rate.value == 1.0
    assert (result.asked.a.policy, result.asked.a.profile, result.asked.b.n) == ("policy@1", "default@1", 1)
    assert {one.sampled for one in work.answers.all if one.side == "a"} == {4}


async def test_a_scorer_must_fit_what_it_is_named_for() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TrainingError, match="no folder, and where scorers run is not known"):
            async with opened("reward", "reward", None, session):
                pass


def test_seeds_depend_on_nothing_but_what_is_asked() -> None:
    assert (
        seed_of(0, "a", "p", 0, 0)
        == int.from_bytes(hashlib.sha256(b"evaluate\x000\x00a\x00p\x000\x000").digest()[:4]) >> 1
    )
    assert seed_of(0, "a", "p", 0, 0) != seed_of(0, "b", "p", 0, 0)
