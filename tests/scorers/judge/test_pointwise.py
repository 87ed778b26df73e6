"""Answers rated by themselves: the expected rating."""

import math

import pytest

from scorers.judge.constitution import read_constitution
from scorers.judge.pointwise import RatingPrompt, RatingReader
from scorers.judge.prompt import RATING_QUESTION, told
from scorers.model_scorer import CannotScore
from tests.scorers.judge.models import USER, say, shown, verdict_prompt
from tests.scorers.models import make_tokenizer

READER = RatingReader(100)


def test_the_value_is_the_expected_rating_and_the_parts_its_probabilities() -> None:
    held = [0.0, 0.01, 0.01, 0.02, 0.06, 0.1, 0.2, 0.2, 0.2]
    score = READER.score([[math.log(share or 1e-300) for share in held]], 7)
    assert score.value == pytest.approx(sum(rating * share / 0.8 for rating, share in enumerate(held, 1)))
    assert score.parts["7"] == pytest.approx(0.25)
    assert sum(score.parts[str(rating)] for rating in range(1, 10)) == pytest.approx(1)
    assert score.parts["mass"] == pytest.approx(0.8)
    assert score.tokens == 7


@pytest.mark.parametrize(("digit", "value"), [(0, 1.0), (8, 9.0)])
def test_a_sure_judge_gives_the_digit(digit: int, value: float) -> None:
    assert READER.score([[-1e-9 if index == digit else -90.0 for index in range(9)]], 1).value == pytest.approx(value)


def test_no_digit_and_no_number_are_no_rating() -> None:
    with pytest.raises(CannotScore, match="did not answer with a label: 1 to 9 hold"):
        READER.score([[math.log(0.001)] * 9], 1)
    with pytest.raises(CannotScore, match="not finite"):
        READER.score([[math.nan] * 9], 1)


def test_an_input_is_read_whole_or_not_at_all() -> None:
    assert READER.windows([1] * 100) == [[1] * 100]
    with pytest.raises(CannotScore, match="has 101 tokens, the judge reads at most 100"):
        READER.windows([1] * 101)


def test_the_prompt_holds_the_conversation_the_answer_and_the_question_of_a_rating() -> None:
    tokenizer = make_tokenizer()
    prompt = RatingPrompt(verdict_prompt(tokenizer), told(read_constitution(None), RATING_QUESTION))
    text = str(tokenizer.decode(prompt.encode([USER], say("Paris.<|im_end|>"), [])))
    assert shown(text, "the answer") == "Paris.<|im_end|>"
    assert shown(text, "message 1, by the user") == USER["content"]
    assert text.endswith(f"{RATING_QUESTION}<|im_end|>\n<|im_start|>assistant\n")
