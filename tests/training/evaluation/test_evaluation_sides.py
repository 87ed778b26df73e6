"""How the two sides are named, and what of them is in a result's name."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from training.errors import TrainingError
from training.evaluation.result import Asked, SetFacts
from training.evaluation.settings import SamplingSettings
from training.evaluation.sides import Named, Side, plain, read_side


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("demo", Named("demo")),
        ("demo:careful", Named("demo:careful")),
        ("demo,n=1", Named("demo", 1)),
        ("demo:careful,n=4@https://host:8/v1", Named("demo:careful", 4, "https://host:8/v1")),
        ("llama3:8b@http://host/v1", Named("llama3:8b", None, "http://host/v1")),
        ("demo+policy-v2", Named("demo", policy="policy-v2")),
        ("demo:careful+policy-v2,n=1@http://host/v1", Named("demo:careful", 1, "http://host/v1", "policy-v2")),
    ],
)
def test_a_side_is_a_model_a_profile_how_many_and_where(text: str, named: Named) -> None:
    assert read_side(text) == named


@pytest.mark.parametrize("text", ["", "outputs.json", "demo,n=x", "demo@host", "a,b", "demo+", "+v2", "a+b+c"])
def test_what_names_nobody_is_told(text: str) -> None:
    with pytest.raises(TrainingError, match=r"MODEL\[:PROFILE\]"):
        read_side(text)


def test_a_file_that_exists_is_a_side(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    path.write_text("[]")
    assert read_side(str(path)) == path


def test_the_plain_side_is_one_sample_of_the_same() -> None:
    assert plain(Named("demo:careful", 8, "http://x", "p-v2")) == Named("demo:careful", 1, "http://x", "p-v2")


def test_a_colon_is_a_profile_only_where_no_model_is_called_so() -> None:
    assert Named("demo:careful").split(["demo"]) == ("demo", "careful")
    assert Named("llama3:8b").split(["llama3:8b"]) == ("llama3:8b", None)
    with pytest.raises(TrainingError, match="There is no model 'other' here; there is demo"):
        Named("other").split(["demo"])


ASKED = Asked.of(
    SetFacts(name="set", sha256="0" * 64, prompts=2, turns=2),
    Side(model="m", policy="policy@1", profile="default@1"),
    Side(answers="1" * 64, file="gpt4.json"),
    SamplingSettings(),
)


def test_what_a_file_and_a_set_are_called_does_not_change_what_was_asked() -> None:
    renamed = replace(ASKED, set=replace(ASKED.set, name="other"), b=replace(ASKED.b, file="moved.json"))
    assert renamed.id == ASKED.id


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, set=replace(ASKED.set, sha256="2" * 64)),
        replace(ASKED, a=replace(ASKED.a, policy="policy@2")),
        replace(ASKED, a=replace(ASKED.a, profile="default@2")),
        replace(ASKED, a=replace(ASKED.a, n=1)),
        replace(ASKED, b=replace(ASKED.b, answers="3" * 64)),
        replace(ASKED, seed=1),
        replace(ASKED, samples=2),
        replace(ASKED, max_tokens=64),
    ],
)
def test_all_that_changes_answers_changes_the_name(other: Asked) -> None:
    assert other.id != ASKED.id


def test_the_name_is_the_same_for_ever() -> None:
    """A change of this digest would part every result that exists from those to come."""
    assert ASKED.id.startswith("04812d1307f7")
