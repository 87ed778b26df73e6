from pathlib import Path

from training.demo.readme import BEGIN, END, ROWS, table, with_table

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_readme_shows_the_figures_of_the_committed_models() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert with_table(text) == text, "run `python -m training.demo.readme --write`"


def test_the_table_has_a_row_a_figure() -> None:
    assert len(table().splitlines()) == len(ROWS) + 2
