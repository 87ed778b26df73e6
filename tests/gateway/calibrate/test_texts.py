"""What a calibration reads: files with mistakes in them, and answers from the log."""

from pathlib import Path

import pytest

from gateway.calibrate.texts import Text, logged_answers, read_labelled, read_prompts
from gateway.errors import StartError
from gateway.log.records import CandidateRecord, Interaction

CATEGORIES = ["weapons", "fraud"]
USER = {"role": "user", "content": "hi"}


def test_labelled_texts_are_prompts_or_answers(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text(
        '{"prompt": "hi", "labels": []}\n\n{"prompt": [{"role": "user", "content": "hi"}], "answer": "ho", '
        '"labels": ["fraud"]}\n'
    )
    assert read_labelled(file, CATEGORIES) == [
        Text([USER], None),
        Text([USER], {"role": "assistant", "content": "ho"}, frozenset({"fraud"})),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: it is no JSON"),
        ("[]", "line 2: it must be an object"),
        ('{"prompt": "hi"}', '"labels" must be a list'),
        ('{"prompt": "hi", "labels": ["spam"]}', "no category 'spam' \\(fraud, weapons\\)"),
        ('{"prompt": "hi", "answer": 3, "labels": []}', '"answer" must be text'),
        ('{"prompt": [], "labels": []}', '"prompt" must be text'),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text(f'{{"prompt": "hi", "labels": []}}\n{line}\n')
    with pytest.raises(StartError, match=words):
        read_labelled(file, CATEGORIES)


def test_a_file_that_is_missing_or_empty_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        read_prompts(tmp_path / "nowhere")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(StartError, match="is empty"):
        read_prompts(tmp_path / "empty")


def interaction(policy: str, waves: list[int], model: str = "m") -> Interaction:
    candidates = [
        CandidateRecord(index, {"role": "assistant", "content": f"{policy} {index}"}, "stop", 3, wave=wave)
        for index, wave in enumerate(waves)
    ]
    return Interaction("i", 0.0, model, "d@1", policy, "best_of_n", "delivered", [USER], {}, candidates)


def test_a_law_is_of_the_newest_policy_and_of_first_waves_alone() -> None:
    log = [interaction("p@1", [0, 0]), interaction("p@2", [0, 1]), interaction("p@2", [0]), interaction("p@3", [])]
    texts, policy = logged_answers(log, None)
    assert policy == "p@2"
    assert [text.answer and text.answer["content"] for text in texts] == ["p@2 0", "p@2 0"]


def test_a_log_without_answers_of_that_model_is_said() -> None:
    with pytest.raises(StartError, match="no interaction of the model 'other'"):
        logged_answers([interaction("p@1", [0])], "other")
