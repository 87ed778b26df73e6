"""`bestow train label` from outside: a snapshot, a writer over HTTP, judges that follow a law or are real models."""

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from typer.testing import CliRunner

from scorers.judge.prompt import PAIR_LABELS
from tests.scorers.judge.models import make_judge
from tests.training.judging.sets import by_length, candidates, law_judge, pair, sigmoid
from tests.training.snapshots import write_snapshot
from training.commands import train_app
from training.data.layout import open_snapshot
from training.data.rows import Demonstration, Preference
from training.errors import TrainingError
from training.judging import running


@pytest.fixture
def lawful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge that is opened likes the longer answer, and the first position a little."""
    monkeypatch.setattr(running, "open_judge", lambda *_, **__: law_judge(by_length(0.3)))


def labelled(snapshot: str, home: Path, *more: str, judge: Path = Path("law")) -> str:
    (home / "bestow.yaml").write_text(f"data_dir: {home / 'data'}\n")
    result = CliRunner().invoke(
        train_app,
        ["label", snapshot, "--judge", str(judge), "--config", str(home / "bestow.yaml"), *more],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return result.output


def rows() -> list[Any]:
    of_people = [pair(f"person {number}", f"good {number}", f"bad {number}") for number in range(6)]
    calibrating = [
        msgspec.structs.replace(row, side=msgspec.structs.replace(row.side, split="calibration")) for row in of_people
    ]
    return [*calibrating, *(candidates(f"row {number}", [f"one {number}", f"three {number}"]) for number in range(30))]


@pytest.mark.usefixtures("lawful")
def test_a_judges_rows_lie_beside_peoples_and_are_told_apart(tmp_path: Path) -> None:
    base = write_snapshot(tmp_path / "snapshot", rows())
    said = labelled(base.url, tmp_path)
    [place] = re.findall(r"^path +(\S+)$", said, re.MULTILINE)
    made = open_snapshot(place)
    assert made.manifest.id != base.manifest.id
    assert [file for file in made.manifest.files if not file.path.startswith("ai/")] == base.manifest.files
    assert list(made.rows(Preference, "calibration")) == list(base.rows(Preference, "calibration"))
    found = list(made.rows(Preference, "train"))
    assert len(found) == 30 and {row.side.source for row in found} == {"ai_preference"}
    assert all(row.chosen[0]["content"].startswith("three") for row in found)
    assert all(row.side.user is None and row.margin == pytest.approx(2 * sigmoid(1.0) - 1, abs=1e-6) for row in found)
    assert re.search(r"^pairs +30 labelled", said, re.MULTILINE)
    assert "the judge says what people say in 1.00 of 6" in said
    again = labelled(base.url, tmp_path)
    assert place in again, "the same question has the same answer, under the same name"
    with pytest.raises(TrainingError, match="has a judge's rows already"):
        labelled(place, tmp_path)


@pytest.mark.usefixtures("lawful")
def test_wrong_words_are_told_in_one_sentence(tmp_path: Path) -> None:
    base = write_snapshot(tmp_path / "snapshot", rows())
    for more, said in (
        (["--choose", "best"], "random or close"),
        (["--split", "test"], "train or holdout"),
        (["--revise", "3"], "needs --writer"),
    ):
        with pytest.raises(TrainingError, match=said):
            labelled(base.url, tmp_path, *more)
    empty = write_snapshot(tmp_path / "empty", rows()[:6])
    with pytest.raises(TrainingError, match="There is nothing to label"):
        labelled(empty.url, tmp_path)


def test_a_real_model_is_asked_and_told_of_where_it_is_no_judge(tmp_path: Path) -> None:
    base = write_snapshot(tmp_path / "snapshot", rows()[-3:])
    with pytest.raises(TrainingError, match="no folder /nowhere"):
        labelled(base.url, tmp_path, judge=Path("/nowhere"))
    # It answers with the labels, and by chance: what it says hangs on the position.
    judge = make_judge(tmp_path / "judge", PAIR_LABELS)
    with pytest.raises(TrainingError, match=r"No verdict counts \(changes_with_position 3\)"):
        labelled(base.url, tmp_path, judge=judge)


@pytest.mark.usefixtures("lawful")
async def test_revisions_are_written_over_http_and_say_whose_they_are_not(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "demo", "owned_by": "bestow"}]})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        bodies.append(body)
        content = f"written anew, and longer {len(bodies)}"
        return web.json_response({"choices": [{"finish_reason": "stop", "message": {"content": content}}]})

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [socket] = site._server.sockets  # type: ignore[union-attr]
    try:
        base = write_snapshot(tmp_path / "snapshot", rows())
        url = f"http://127.0.0.1:{socket.getsockname()[1]}/v1"
        more = ("--pairs", "0", "--revise", "12", "--writer", url)
        said = await asyncio.to_thread(labelled, base.url, tmp_path, *more)
    finally:
        await runner.cleanup()
    [place] = re.findall(r"^path +(\S+)$", said, re.MULTILINE)
    made = list(open_snapshot(place).rows(Demonstration, "train"))
    assert len(made) == 12 and {row.side.source for row in made} == {"ai_revision"}
    assert all(row.completion[0]["content"].startswith("written anew") for row in made)
    assert len(bodies) == 24
    assert {body["metadata"]["purpose"] for body in bodies} == {"bestow train label"}
