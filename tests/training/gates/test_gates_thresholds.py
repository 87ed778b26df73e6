"""The file of thresholds: it is what the code says, each key is explained, and what it does not know is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from training.errors import TrainingError
from training.gates.thresholds import SHIPPED, Thresholds, load_thresholds, written


def test_the_shipped_file_is_up_to_date() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == written(Thresholds()), "run python -m training.gates.thresholds"
    assert load_thresholds(None) == Thresholds()


def test_every_key_is_in_it_with_its_sentence() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    joined = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    for name, description in _keys(Thresholds):
        assert f"{name}:" in text
        assert description in joined


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("policy:\n  kl: 4\n  suites:\n    unsafe: 0.02\n")
    found = load_thresholds(path)
    assert (found.policy.kl, found.policy.suites.unsafe, found.policy.gap) == (4, 0.02, Thresholds().policy.gap)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy:\n  klx: 4\n", "policy.klx"),
        ("alpha: 0.9\n", "alpha"),
        ("policy: 3\n", "policy"),
        ("- 1\n", "the file"),
        ("a: [\n", "no YAML"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=said):
        load_thresholds(path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        load_thresholds(tmp_path / "none.yaml")


def test_it_can_be_read_back_as_it_is_kept_in_a_report() -> None:
    kept = Thresholds().model_dump(mode="json")
    assert Thresholds.model_validate(yaml.safe_load(yaml.safe_dump(kept))) == Thresholds()


def _keys(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        yield name, field.description or ""
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner)
