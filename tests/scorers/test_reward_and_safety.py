"""What a model's rows mean, what is read of a long input, and which models are refused."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.probability import sigmoid, softmax
from scorers.reward import RewardReader, reward_parts
from scorers.safety import SafetyReader, safety_parts, window_count, windows
from tests.scorers.classifier import Classifier, load_classifier
from tests.scorers.models import make_classifier

SAFE = ("safe",)


def reader(**kwargs: Any) -> SafetyReader:
    return SafetyReader([(0, "violence"), (2, "fraud")], **{"multi_label": True, "max_tokens": 8, **kwargs})


@given(st.lists(st.integers(), max_size=200), st.integers(1, 40))
def test_windows_cover_all_and_overlap_by_a_quarter(ids: list[int], size: int) -> None:
    pieces = windows(ids, size)
    assert len(pieces) == window_count(len(ids), size)
    assert all(len(piece) <= size for piece in pieces)
    covered, position = list(pieces[0]), 0
    for piece in pieces[1:]:
        position = next(
            start
            for start in range(position, len(ids))
            if ids[start : start + size] == piece and start + size > len(covered)
        )
        assert position <= len(covered) - (math.ceil(size / 4) if size > 1 else 0)
        covered += piece[len(covered) - position :]
    assert covered == ids


def test_a_reward_is_the_raw_logit() -> None:
    assert RewardReader(8).score([[23.5]], 4).value == 23.5


def test_rewards_beyond_the_saturation_of_a_sigmoid_stay_distinct(tmp_path: Path) -> None:
    classifier = load_classifier(str(make_classifier(tmp_path, head_scale=2000.0)))
    values = [classifier.forward([[5, 6, last]])[0][0] for last in range(20, 60)]
    large = [value for value in values if value > 20]
    assert len(large) > 3
    assert len(set(large)) == len(large)


def test_a_tool_call_is_scored_as_what_it_calls_not_as_an_empty_answer(
    reward_classifier: Classifier, small_template_classifier: Classifier
) -> None:
    user = {"role": "user", "content": "What is the weather?"}
    answers: list[dict[str, Any]] = [{"content": ""}] + [
        {
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}],
        }
        for name, arguments in (
            ("weather", '{"city": "Paris"}'),
            ("weather", '{"city": "Rome"}'),
            ("weather", '{"city": "Rome", "days": 2}'),
            ("weather", '{"city": "Rome", "days": 7}'),
            ("time", "{}"),
        )
    ]
    for classifier in (reward_classifier, small_template_classifier):
        template, model = reward_parts(classifier)
        encoded = [template.encode([user], answer, []) for answer in answers]
        values = {model.score(classifier.forward(model.windows(ids)), len(ids)).value for ids in encoded}
        assert len(values) == len(answers)


def test_a_reward_model_does_not_truncate() -> None:
    assert RewardReader(3).windows([1, 2, 3]) == [[1, 2, 3]]
    with pytest.raises(CannotScore, match="has 4 tokens, the model reads at most 3"):
        RewardReader(3).windows([1, 2, 3, 4])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_no_score(value: float) -> None:
    with pytest.raises(CannotScore):
        RewardReader(8).score([[value]], 4)
    with pytest.raises(CannotScore):
        reader().score([[0.0, 0.0, 0.0], [0.0, value, 0.0]], 4)


def test_a_category_is_the_largest_of_its_windows() -> None:
    score = reader().score([[0.0, 9.0, -2.0], [-1.0, 9.0, 3.0]], 12)
    assert score.categories == pytest.approx({"violence": 0.5, "fraud": 0.9525741})
    assert score.tokens == 12


def test_single_label_classifiers_have_a_softmax_without_the_safe_label() -> None:
    score = reader(multi_label=False).score([[1.0, 2.0, 3.0]], 1)
    assert score.categories == pytest.approx({"violence": 0.0900306, "fraud": 0.6652410})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_probabilities_stay_within_bounds(logits: list[float]) -> None:
    assert all(0 <= p <= 1 for p in [*map(sigmoid, logits), *softmax(logits)])
    assert sum(softmax(logits)) == pytest.approx(1)


def test_each_window_ends_with_the_close_of_the_judged_turn() -> None:
    framed = reader(control_ids={200}).windows([1, 2, 3, 4, 5, 6, 7, 8, 9, 200, 13])
    assert framed == [[1, 2, 3, 4, 5, 6, 200, 13], [4, 5, 6, 7, 8, 9, 200, 13]]
    assert reader(control_ids={200}).windows([1, 200, 13]) == [[1, 200, 13]]


def test_more_than_64_windows_are_an_error() -> None:
    assert len(reader().windows([1] * (8 + 6 * 63))) == 64
    with pytest.raises(CannotScore, match="65 windows of 8; at most 64"):
        reader().windows([1] * (8 + 6 * 63 + 1))


def test_each_window_is_framed_as_the_tokenizer_does() -> None:
    framed = reader(prefix=[101], suffix=[102]).windows([1, 2, 3, 4, 5, 6, 7])
    assert framed == [[101, 1, 2, 3, 4, 5, 6, 102], [101, 2, 3, 4, 5, 6, 7, 102]]


def test_safe_labels_are_no_categories(safety_classifier: Classifier) -> None:
    _, made = safety_parts(safety_classifier, SAFE)
    assert made.names == ["violence", "self-harm"]


@pytest.mark.parametrize(
    ("labels", "multi_label", "why"),
    [
        (("safe", "SAFE"), True, "All labels"),
        (("score",), False, "single label"),
        (("bad", "worse"), False, "would flag everything"),
    ],
)
def test_what_cannot_be_a_guard_is_refused(
    safety_classifier: Classifier, labels: tuple[str, ...], multi_label: bool, why: str
) -> None:
    with pytest.raises(LoadError, match=why):
        safety_parts(dataclasses.replace(safety_classifier, labels=labels, multi_label=multi_label), SAFE)


def test_several_labels_are_no_reward_model(safety_classifier: Classifier) -> None:
    with pytest.raises(LoadError, match="has 3 labels"):
        reward_parts(safety_classifier)


def test_a_reward_model_without_a_chat_template_is_refused_by_name(tmp_path: Path) -> None:
    classifier = load_classifier(str(make_classifier(tmp_path / "bare", template=None)))
    with pytest.raises(LoadError, match="bare has no chat template"):
        reward_parts(classifier)
