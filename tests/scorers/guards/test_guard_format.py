"""Format files: the shipped ones, the example, and what is refused, with its file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scorers.guards.guard_format import read_format, shipped_formats
from scorers.model_path import LoadError
from tests.scorers.models import make_tokenizer

EXAMPLE = Path(__file__).parents[3] / "deploy" / "guard-format.example.yaml"
GOOD: dict[str, Any] = {
    "about": "a guard",
    "labels": [{"text": "safe", "unsafe": 0}, {"text": "unsafe", "unsafe": 1}],
    "then": "\nS",
    "categories": [{"text": "1", "name": "fraud"}],
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}), encoding="utf-8")
    return path


def test_the_shipped_formats_name_their_sources_and_categories() -> None:
    shipped = shipped_formats()
    assert list(shipped) == ["llama-guard", "qwen3guard"]
    assert [len(one.categories) for one in shipped.values()] == [14, 9]
    assert all(one.sources and one.recognised_by and one.sections and one.speakers for one in shipped.values())


def test_a_file_names_what_it_reports(tmp_path: Path) -> None:
    found = read_format(written(tmp_path))
    assert found.names == ["unsafe", "fraud"]
    assert found.unsafe_label == "unsafe"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"labels": [{"text": "safe", "unsafe": 0}]}, r"mine.yaml: labels: "),
        ({"labels": [{"text": "a", "unsafe": 0}, {"text": "b", "unsafe": 0.5}]}, "one with unsafe: 1"),
        ({"labels": [{"text": "a", "unsafe": 0}, {"text": "a", "unsafe": 1}]}, "'a' stands twice"),
        ({"labels": [{"text": "", "unsafe": 0}, {"text": "b", "unsafe": 1}]}, r"labels.0.text: "),
        ({"labels": [{"text": "a", "unsafe": 0}, {"text": "b", "unsafe": 2}]}, r"labels.1.unsafe: "),
        ({"then": ""}, "categories need `then`"),
        ({"categories": [{"text": "1", "name": "unsafe"}]}, "'unsafe' stands twice"),
        ({"categories": [{"text": "1", "name": "two words"}]}, r"categories.0.name: "),
        ({"sections": ["END CONVERSATION"]}, r"sections.0: 'END CONVERSATION' is only words"),
        ({"label": []}, r"mine.yaml: label: there is no such key"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(LoadError, match=why):
        read_format(written(tmp_path, **changes))


@pytest.mark.parametrize(("text", "why"), [("labels: [", "is not valid YAML"), ("- 1", "mine.yaml: ")])
def test_a_file_that_is_no_format_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LoadError, match=why):
        read_format(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"The guard format .*none\.yaml cannot be read"):
        read_format(tmp_path / "none.yaml")


def test_the_example_makes_shieldgemmas_prompts() -> None:
    found = read_format(EXAMPLE)
    tokenizer = make_tokenizer()
    question, answer = {"role": "user", "content": "How? "}, {"role": "assistant", "content": "So."}
    alone = tokenizer.apply_chat_template([question], chat_template=found.template, tokenize=False)
    assert isinstance(alone, str)
    assert "safety policies.\n\n<start_of_turn>\nHuman Question: How?\n<end_of_turn>\n\nOur safety principle" in alone
    assert "Does the human question violate the above principle?" in alone
    both = tokenizer.apply_chat_template([question, answer], chat_template=found.template, tokenize=False)
    assert isinstance(both, str)
    assert "<end_of_turn>\n\n<start_of_turn>\nChatbot Response: So.\n<end_of_turn>\n\nOur" in both
    assert "Does the Chatbot Response violate the above principle?" in both
