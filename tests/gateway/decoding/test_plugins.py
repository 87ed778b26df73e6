"""Strategies of other packages: installed as pip does it, served by a whole gateway, listed by the command line."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.decoding.registry import NoStrategy, installed, names, strategy
from gateway.errors import ConfigError
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.api.test_admin_keys import call
from tests.gateway.harness import running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/strategy_plugin"
PlugIn = Callable[[str, str], None]

# The best reward is that of the longest; the fakes count a token a word.
TEXTS = ["a b c d e", "a b c d", "a", "a b"]

RUNS = """
from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.strategy import Strategy

async def run(task, sampler, judge, progress):
    {body}

STRATEGY = Strategy("it", "Does it.", run)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, really installed; from a copy, since a build leaves files beside its source."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(folder / "site"), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Puts a folder on the path, for this test alone: nothing that was loaded from it stays."""
    before = set(sys.modules)
    yield monkeypatch.syspath_prepend
    strategy.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("plugged_") or name == "shortest_good":
            del sys.modules[name]


@pytest.fixture
def plug_in(tmp_path: Path, fresh: Callable[[Path], None]) -> PlugIn:
    """Installs a strategy of this name and source, as an installer would leave it."""
    folder = tmp_path / "plugins"

    def install(name: str, source: str) -> None:
        info = folder / f"a_{name}-0.5.dist-info"
        info.mkdir(parents=True)
        (folder / f"plugged_{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a-{name}\nVersion: 0.5\n")
        (info / "entry_points.txt").write_text(f"[bestow.strategies]\n{name} = plugged_{name}:STRATEGY\n")
        fresh(folder)

    return install


def scorers(**more: Any) -> FakeScorers:
    return FakeScorers(**{"rewards": {text: 5 - 0.2 * at for at, text in enumerate(TEXTS)}, **more})


def test_the_example_is_short_and_its_own_tests_pass(tmp_path: Path) -> None:
    assert len((EXAMPLE / "shortest_good.py").read_text().splitlines()) < 100
    copy = shutil.copytree(EXAMPLE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), str(copy)],
        capture_output=True,
        text=True,
        check=False,
        cwd=copy,
    )
    assert done.returncode == 0, done.stdout


async def test_the_installed_example_serves_and_the_record_tells_how(
    site: Path, fresh: Callable[[Path], None], tmp_path: Path
) -> None:
    fresh(site)
    options: dict[str, Any] = {"strategy": "shortest_good", "options": {"margin": 0.5}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers(), **options) as gateway:
        status, _, body = await gateway.chat(n=2)
        [record] = gateway.interactions
    assert status == 200
    # Rewards 5, 4.8, 4.6 and 4.4: the third is within the margin, and shorter than those before it.
    assert [choice["message"]["content"] for choice in body["choices"]] == [TEXTS[2], TEXTS[0]]
    assert (body["guidance"]["strategy"], body["guidance"]["chosen"]) == ("shortest_good", 2)
    assert (record.strategy, record.delivered) == ("shortest_good", [2, 0])
    assert [one.propensity for one in record.candidates] == [0.0, 0.0, 1.0, 0.0]
    assert record.selection is not None and record.selection.kl_bound == pytest.approx(1.386294, abs=1e-6)


async def test_what_is_unsafe_is_passed_over_by_the_example_too(
    site: Path, fresh: Callable[[Path], None], tmp_path: Path
) -> None:
    fresh(site)
    fake = scorers(unsafe=frozenset({TEXTS[2]}))
    options: dict[str, Any] = {"strategy": "shortest_good", "options": {"margin": 9}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **options) as gateway:
        _, _, body = await gateway.chat()
        fake.unsafe = frozenset(TEXTS)
        _, _, refused = await gateway.chat()
    assert body["choices"][0]["message"]["content"] == TEXTS[3]
    assert refused["guidance"]["refused"] == "candidates"


async def test_a_profile_is_set_to_it_and_back_while_everything_runs(
    site: Path, fresh: Callable[[Path], None], tmp_path: Path, redis_server: RedisServer
) -> None:
    fresh(site)
    worker = FakeWorker(texts=TEXTS)
    async with running_gateway(tmp_path, worker, scorers(), redis_url=redis_server.url) as gateway:
        profile = "/admin/v1/profiles/default"

        async def put(version: int, **settings: Any) -> tuple[int, dict[str, Any]]:
            body = {"version": version, "settings": {"n": 4, "min_n": 4, **settings}}
            return await call(gateway, "PUT", profile, json=body)

        for options, said in (
            ({"margin": -1}, "options.margin: Input should be greater than or equal to 0"),
            ({"margin": "wide"}, "options.margin: Input should be a valid number"),
            ({"margins": 1}, "options.margins: shortest_good has no such option (it has margin)"),
        ):
            status, body = await put(1, strategy="shortest_good", options=options)
            assert status == 400 and said in body["error"]["message"]
        status, body = await put(1, strategy="shortest_bad")
        assert status == 400
        assert "no strategy 'shortest_bad' (there is best_of_n" in body["error"]["message"]
        assert "shortest_good" in body["error"]["message"]
        status, body = await put(1, strategy="shortest_good", reward=None)
        assert status == 400 and "shortest_good needs reward" in body["error"]["message"]

        status, body = await put(1, strategy="shortest_good", options={"margin": 0.3})
        assert (status, body["settings"]["options"]) == (200, {"margin": 0.3})
        answer = (await gateway.chat())[2]
        assert (answer["choices"][0]["message"]["content"], answer["guidance"]["profile"]) == (TEXTS[1], "default@2")
        assert (await call(gateway, "POST", f"{profile}/revert", json={}))[0] == 200
        answer = (await gateway.chat())[2]
        assert (answer["choices"][0]["message"]["content"], answer["guidance"]["strategy"]) == (TEXTS[0], "best_of_n")


BROKEN = {
    "absent": ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
    "raises": ("raise ValueError('not today')", "ValueError: not today"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "empty": ("", "AttributeError"),
    "no_strategy": (
        "async def STRATEGY(task, sampler, judge, progress): ...",
        "is no gateway.decoding.strategy.Strategy",
    ),
    "no_options": (RUNS.format(body="...").replace("run)", "run, options=dict)"), "no class of gateway.decoding"),
}


def test_one_that_cannot_be_loaded_says_why_and_breaks_no_other(plug_in: PlugIn) -> None:
    for name, (source, _) in BROKEN.items():
        plug_in(name, source)
    plug_in("works", RUNS.format(body="return await best_of_n(task, sampler, judge, progress)"))
    # One that takes a name of ours is never asked.
    plug_in("best_of_n", "raise ValueError('best_of_n is ours')")
    for name, (_, why) in BROKEN.items():
        with pytest.raises(NoStrategy) as raised:
            strategy(name)
        assert why in str(raised.value) and name in str(raised.value)
    assert strategy("works").about == "Does it."
    assert strategy("best_of_n").name == "best_of_n"
    found = {one.name: one for one in installed()}
    assert list(found) == names() and names().count("best_of_n") == 1
    assert {name for name, one in found.items() if one.reason} == set(BROKEN)
    assert (found["works"].package, found["best_of_n"].package) == ("a-works 0.5", None)


async def test_a_gateway_does_not_start_with_one_that_it_cannot_load(plug_in: PlugIn, tmp_path: Path) -> None:
    plug_in("raises", BROKEN["raises"][0])
    with pytest.raises(ConfigError, match=r"profiles\.default.*not today"):
        async with running_gateway(tmp_path, strategy="raises"):
            pass


@pytest.mark.parametrize(
    "body",
    [
        "1 / (task.n - 3); return await best_of_n(task, sampler, judge, progress)",
        "return None if task.n == 3 else await best_of_n(task, sampler, judge, progress)",
    ],
)
async def test_one_that_fails_while_it_runs_is_a_500_that_is_logged_and_the_others_go_on(
    body: str, plug_in: PlugIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plug_in("it", RUNS.format(body=body))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers(), strategy="it", min_n=1) as gateway:
        with caplog.at_level(logging.ERROR):
            status, _, answer = await gateway.chat(guidance={"n": 3})
        assert (status, answer["error"]["type"]) == (500, "server_error")
        for hidden in ("Traceback", "division", "plugged_it", "ZeroDivisionError", "NoneType"):
            assert hidden not in json.dumps(answer)
        [record] = gateway.interactions
        assert (record.outcome, record.status, record.strategy) == ("failed", 500, "it")
        assert any(one.exc_info for one in caplog.records)
        assert gateway.metric("bestow_outcomes_total", model="m", outcome="failed") == 1
        assert (await gateway.chat())[0] == 200


async def test_one_that_would_deliver_what_the_guard_flagged_delivers_nothing(plug_in: PlugIn, tmp_path: Path) -> None:
    plug_in(
        "it",
        RUNS.format(
            body="from dataclasses import replace; found = await best_of_n(task, sampler, judge, progress); "
            "return replace(found, order=tuple(range(len(found.judged))))"
        ),
    )
    fake = scorers(unsafe=frozenset({TEXTS[0]}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, strategy="it") as gateway:
        status, _, answer = await gateway.chat()
        [record] = gateway.interactions
    assert (status, record.outcome, record.error) == (500, "failed", "RuntimeError")
    assert TEXTS[0] not in json.dumps(answer)


def command(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "strategies", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(Path.cwd())])},
    )


def test_the_command_lists_what_is_installed_and_shows_one_with_its_options(site: Path) -> None:
    listed = command(path=site).stdout.splitlines()
    assert listed[0].split() == ["NAME", "FROM", "ABOUT"]
    assert listed[1].split()[:3] == ["best_of_n", "built", "in"]
    assert listed[-1].split()[:3] == ["shortest_good", "bestow-shortest-good", "1.0.0"]
    shown = command("shortest_good", path=site).stdout
    assert "shortest_good (bestow-shortest-good 1.0.0): Samples n candidates and delivers the shortest" in shown
    assert "needs a reward: the profile names a scorer that ranks" in shown
    assert "margin   number, at least 0, at most 100; default 0.3\n      How much less reward" in shown
    [found] = json.loads(command("shortest_good", "--json", path=site).stdout)
    assert (found["package"], found["needs"], found["streams"]) == ("bestow-shortest-good 1.0.0", ["reward"], False)
    assert found["options"]["margin"]["default"] == 0.3
    assert "It has no options." in command("best_of_n", path=site).stdout
    unknown = command("worst_of_n", path=site)
    assert unknown.returncode == 2 and "worst_of_n" in unknown.stderr and "Traceback" not in unknown.stderr


def test_the_command_says_why_one_cannot_be_used_and_lists_the_others(plug_in: PlugIn, tmp_path: Path) -> None:
    plug_in("raises", BROKEN["raises"][0])
    done = command(path=tmp_path / "plugins")
    assert done.returncode == 0 and "best_of_n" in done.stdout
    assert "the strategy 'raises' of plugged_raises:STRATEGY cannot be loaded: ValueError: not today" in done.stdout
    alone = command("raises", path=tmp_path / "plugins")
    assert alone.returncode == 1 and "not today" in alone.stdout
