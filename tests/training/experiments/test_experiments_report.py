import json
import math
from pathlib import Path

import pytest

from training.demo.statistics import Figure
from training.experiments.report import (
    LEAST_SEEDS,
    README,
    Options,
    band,
    drawing,
    over_seeds,
    run,
    table,
    told,
    write_drawing,
    write_results,
    write_section,
)


def test_the_interval_over_seeds_is_students() -> None:
    found = over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    # t(0.975, 4) = 2.776445, s = sqrt(2.5).
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (found.value, found.n, found.of) == (3.0, 5, "seeds")
    assert [found.low, found.high] == pytest.approx([3 - half, 3 + half])
    with pytest.raises(ValueError, match="two values"):
        over_seeds([1.0])


def test_a_section_takes_the_place_of_the_one_that_is_there(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n\n<!-- experiment:a -->\nold\n<!-- /experiment:a -->\n\nThe end.\n")
    write_section("a", "First", "new", readme)
    write_section("b", "Second", "more", readme)
    text = readme.read_text()
    assert "old" not in text
    assert text.startswith("# Title\n\n<!-- experiment:a -->\n\n### First\n\nnew\n\n<!-- /experiment:a -->\n\nThe end.")
    assert text.endswith("<!-- experiment:b -->\n\n### Second\n\nmore\n\n<!-- /experiment:b -->\n")
    write_section("b", "Second", "more", readme)
    assert readme.read_text() == text


def test_a_section_without_an_end_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- experiment:a -->\nold\n")
    with pytest.raises(ValueError, match="without"):
        write_section("a", "First", "new", readme)
    assert readme.read_text() == "<!-- experiment:a -->\nold\n"


def test_the_readme_has_a_place_for_each_experiment() -> None:
    text = README.read_text(encoding="utf-8")
    for name in ("learning-curve", "selection-bias", "goodhart", "poisoning", "rollback"):
        assert f"make experiment-{name}`" in text
        assert text.index(f"<!-- experiment:{name} -->") < text.index(f"<!-- /experiment:{name} -->")


def test_results_are_sorted_rounded_and_plain_json(tmp_path: Path) -> None:
    found = {"b": [Figure(1 / 3, 0.1, 0.5, 5, "seeds", 0)], "a": math.nan, "3": (1, True, "text")}
    path = write_results("some", found, tmp_path)
    kept = json.loads(path.read_text())
    figure = {"high": 0.5, "low": 0.1, "n": 5, "of": "seeds", "seed": 0, "value": 0.3333}
    assert kept == {"3": [1, True, "text"], "a": None, "b": [figure]}
    assert list(kept) == sorted(kept)


def test_a_plot_is_small_and_the_same_again(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        drawn, [left, right] = drawing(2)
        for axes in (left, right):
            band(
                axes,
                [1, 2, 3],
                [Figure(value, value - 1, value + 1, 5, "seeds", 0) for value in (1, 4, 2)],
                "one",
                "C0",
            )
        contents.append(write_drawing("some", drawn, tmp_path).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"\x89PNG")
    assert len(contents[0]) < 150_000


def test_tables_are_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert told(Figure(0.5, 0.25, 0.75, 5, "seeds", 0)) == "0.50 (0.25 to 0.75)"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], Options()),
        (["--seeds", "7", "--write"], Options(seeds=7, write=True)),
        (["--quick", "--seeds", "2"], Options(seeds=2, quick=True)),
    ],
)
def test_options_come_from_the_command_line(
    arguments: list[str], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["experiment", *arguments])
    given: list[Options] = []
    run(given.append, None)
    assert given == [options]


@pytest.mark.parametrize("arguments", [["--seeds", "1"], ["--write", "--quick"], ["--write", "--seeds", "3"]])
def test_too_few_seeds_are_not_published(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["experiment", *arguments])
    with pytest.raises(SystemExit) as ended:
        run(lambda options: None, None)
    assert ended.value.code == 2
    assert str(LEAST_SEEDS) in capsys.readouterr().err or "--seeds" in arguments
