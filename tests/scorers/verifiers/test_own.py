"""A check of others, from a distribution that is really installed: found, given its options, held to its time."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from scorers.contract import Score, ScoreRequest, ServedScorer
from scorers.errors import BadScoreRequest, Overloaded, ScorerUnavailable
from scorers.model_path import LoadError
from scorers.verifiers.loading import describe_checks
from scorers.verifiers.own import SLOTS
from tests.scorers.verifiers.checking import USER, score, verifier

# `haiku` is the example of scorers/verifiers/own.py.
MODULE = '''\
"""Checks of ours for Bestow."""

import threading
from fractions import Fraction

from scorers.verifiers.case import CannotScore, Case, Verdict

go_on = threading.Event()
begun = threading.Semaphore(0)


def haiku(case: Case, *, lines: int = 3) -> Verdict:
    """1 where the answer has as many lines as a haiku, else 0."""
    if case.candidate.get("tool_calls"):
        raise CannotScore("A tool call is no poem.")
    found = len(case.text.splitlines())
    return Verdict(float(found == lines), {"lines": found})


async def later(case: Case, *, word: str) -> bool:
    return word in case.text


def says(case: Case) -> object:
    match case.text:
        case "crash":
            raise KeyError("secret detail")
        case "leave":
            raise SystemExit
        case "stop":
            raise StopIteration
        case "time":
            raise TimeoutError
        case "wait":
            begun.release()
            go_on.wait(30)
            return 0.5
        case "nan":
            return float("nan")
        case "words":
            return "good"
        case "parts":
            return Verdict(1.0, {"a": float("inf")})
        case "third":
            return Fraction(1, 4)
    return case.reference == case.text


def two_cases(case: Case, other: Case) -> float:
    return 1.0


def unreadable(case: Case, *, of: "Nowhere") -> float:
    return 1.0


number = 7
'''
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tiny-checks"
version = "1.0"

[tool.setuptools]
py-modules = ["tiny_checks"]

[project.entry-points."bestow.verifiers"]
haiku = "tiny_checks:haiku"
later = "tiny_checks:later"
says = "tiny_checks:says"
two_cases = "tiny_checks:two_cases"
unreadable = "tiny_checks:unreadable"
number = "tiny_checks:number"
gone = "tiny_checks:gone"
exact = "tiny_checks:haiku"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the distribution is installed in."""
    source = tmp_path_factory.mktemp("source")
    (source / "tiny_checks.py").write_text(MODULE)
    (source / "pyproject.toml").write_text(PROJECT)
    folder = tmp_path_factory.mktemp("site")
    flags = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *flags, "--target", str(folder), str(source)], check=True, timeout=120
    )
    return folder


@pytest.fixture(autouse=True)
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)


def ask(scorer: ServedScorer, *texts: str, **request: Any) -> Any:
    return scorer.score(ScoreRequest("it", [USER], [{"content": text} for text in texts], **request))


def test_a_check_gets_its_options_and_its_parts_come_back() -> None:
    assert score(verifier("haiku"), "a\nb\nc") == Score(value=1.0, parts={"lines": 3.0})
    assert score(verifier("haiku", lines=2), "a\nb\nc") == Score(value=0.0, parts={"lines": 3.0})


def test_a_check_may_be_async_and_return_a_truth() -> None:
    assert score(verifier("later", word="sun"), "the sun") == Score(value=1.0)


def test_a_check_sees_the_reference() -> None:
    assert score(verifier("says"), "42", reference="42").value == 1.0
    assert score(verifier("says"), "third").value == 0.25


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crash", "KeyError"),
        ("leave", "RuntimeError"),
        ("stop", "RuntimeError"),
        ("time", "TimeoutError"),
        ("nan", "nan where a finite number is due"),
        ("words", "str where a finite number is due"),
        ("parts", "parts that are no finite numbers"),
    ],
)
async def test_a_failure_is_its_candidates_error_alone(text: str, says: str) -> None:
    bad, good = await ask(verifier("says"), text, "42", reference="42")
    assert bad.value is None
    assert says in bad.error and "secret" not in bad.error
    assert good == Score(value=1.0)


def test_a_check_says_itself_that_it_cannot_score() -> None:
    assert score(verifier("haiku"), {"tool_calls": [{}]}) == Score(error="A tool call is no poem.")


def test_an_answer_it_cannot_read_is_unreadable() -> None:
    image = score(verifier("haiku"), {"content": [{"type": "image_url"}]})
    assert image.unreadable and image.value is None


async def test_one_that_takes_too_long_is_an_error_and_the_others_score() -> None:
    import tiny_checks  # type: ignore[import-not-found]  # noqa: PLC0415  # installed by this test

    tiny_checks.go_on.clear()
    scorer = verifier("says", timeout_s=0.2)
    slow, good = await ask(scorer, "wait", "42", reference="42")
    assert slow == Score(error="The check took longer than 0.2 s.")
    assert good == Score(value=1.0)
    tiny_checks.go_on.set()


async def test_when_too_many_overrun_none_is_begun_until_they_end() -> None:
    import tiny_checks  # noqa: PLC0415

    tiny_checks.go_on.clear()
    scorer = verifier("says", timeout_s=0.2)
    assert {one.error for one in await ask(scorer, *["wait"] * SLOTS)} == {"The check took longer than 0.2 s."}
    with pytest.raises(ScorerUnavailable, match="overrun"):
        await ask(scorer, "42")
    tiny_checks.go_on.set()
    threads = [one for one in threading.enumerate() if one.name == "it"]
    await asyncio.gather(*(asyncio.to_thread(one.join) for one in threads))
    await asyncio.sleep(0)
    assert await ask(scorer, "42", reference="42") == [Score(value=1.0)]


async def test_a_cancelled_request_frees_its_places() -> None:
    import tiny_checks  # noqa: PLC0415

    tiny_checks.go_on.clear()
    scorer = verifier("says", limit=2)
    task = asyncio.ensure_future(ask(scorer, "wait", "wait"))
    await asyncio.to_thread(tiny_checks.begun.acquire)
    assert scorer.waiting == 2
    with pytest.raises(Overloaded):
        await ask(scorer, "42")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scorer.waiting == 0
    tiny_checks.go_on.set()


async def test_it_scores_answers_only() -> None:
    with pytest.raises(BadScoreRequest, match="candidates"):
        await ask(verifier("haiku"))
    with pytest.raises(BadScoreRequest, match="at most 1"):
        await ask(verifier("haiku", limit=1), "a", "b")


@pytest.mark.parametrize(
    ("check", "options", "says"),
    [
        ("haiku", {"lines": "many"}, "scorers.it.options.lines: Input should be a valid integer"),
        ("haiku", {"verses": 3}, "scorers.it.options.verses: haiku has no such option; it has lines."),
        ("later", {}, "scorers.it.options.word: Field required."),
        ("two_cases", {}, "must take one argument, the case"),
        ("unreadable", {"of": 1}, "has no signature that can be read: name 'Nowhere' is not defined."),
        ("number", {}, "The check number (tiny_checks:number) is no function."),
        ("gone", {}, "The check gone (tiny_checks:gone) cannot be imported: "),
        ("sonnet", {}, "scorers.it.check: there is no check 'sonnet'; there is exact, numeric, regex"),
    ],
)
def test_what_cannot_be_served_is_told_when_it_loads(check: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError) as caught:
        verifier(check, **options)
    assert says in str(caught.value)


def test_a_built_in_check_keeps_its_name() -> None:
    assert score(verifier("exact"), "a", reference="a").parts == {"extracted": 1.0}


def test_installed_checks_are_described_with_their_options() -> None:
    found = {check.name: check for check in describe_checks()}
    assert found["haiku"].about == "1 where the answer has as many lines as a haiku, else 0."
    [lines] = found["haiku"].options
    assert (lines.name, lines.type, lines.default) == ("lines", "whole number", "3")
    [word] = found["later"].options
    assert word.default is None
    assert "cannot be imported" in found["gone"].about
    assert found["exact"].about.startswith("1 where the answer equals")
