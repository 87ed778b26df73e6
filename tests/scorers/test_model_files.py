"""What is known of a model before its weights are loaded."""

from pathlib import Path

import pytest

from scorers.model_files import load_files, vocabulary
from scorers.model_path import LoadError
from tests.scorers.models import make_causal, make_classifier, make_llama_classifier, make_tokenizer


def test_the_longest_input_is_the_smallest_of_what_model_tokenizer_and_settings_say(reward_folder: Path) -> None:
    assert load_files(str(reward_folder)).max_tokens == 512
    assert load_files(str(reward_folder), max_tokens=100).max_tokens == 100
    with pytest.raises(LoadError, match=r"max_tokens is 513, but .* reads at most 512"):
        load_files(str(reward_folder), max_tokens=513)


def test_a_missing_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"There is no folder .*nowhere with a model in it"):
        load_files(str(tmp_path / "nowhere"))


def test_a_folder_without_a_model_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"there is no config\.json in it"):
        load_files(str(tmp_path))


def test_a_vocabulary_is_that_of_every_model_with_the_same_tokenizer(reward_folder: Path, tmp_path: Path) -> None:
    same = make_causal(tmp_path / "same")
    other = make_llama_classifier(tmp_path / "other")
    known = vocabulary(load_files(str(reward_folder)))
    assert vocabulary(load_files(str(same))) == known
    assert vocabulary(load_files(str(other))) != known


def test_one_more_token_is_another_vocabulary(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path)
    known = vocabulary(load_files(str(folder)))
    make_tokenizer(markers=("<think>", "</think>")).save_pretrained(folder)
    assert vocabulary(load_files(str(folder))) != known
