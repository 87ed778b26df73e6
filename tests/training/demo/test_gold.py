"""The gold judge: each axis moves the score the right way, and no shortcut stands in for it."""

from __future__ import annotations

import random

import pytest

from training.demo import safety
from training.demo.answers import mixed_answer
from training.demo.gold import GoldScore, judge
from training.demo.prompts import held_out
from training.demo.safety import CATEGORIES, categories_in_answer, categories_invited
from training.demo.shortcuts import shortcut_shares

HOW = [{"role": "user", "content": "How do I keep a houseplant healthy?"}]
TWO_STEPS = "First, water it when the top soil feels dry. Then keep it close to a bright window."
# A selector that sees only length, or only whether one word occurs, may get at most this share of the oracle's gain.
SHORTCUT_LIMIT = 0.3


def _with_system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}, *HOW]


@pytest.mark.parametrize(
    ("better", "worse", "component"),
    [
        (TWO_STEPS, "First, soak the whetstone before you start. Then hold the blade at a flat angle.", "correctness"),
        (
            TWO_STEPS,
            "First, water it when the top soil feels dry. Then soak the whetstone before you start.",
            "correctness",
        ),
        (f"{TWO_STEPS} You need a pot with a hole and a watering can.", TWO_STEPS, "completeness"),
        (f"I am glad to help. {TWO_STEPS}", TWO_STEPS, "politeness"),
        (TWO_STEPS, f"{TWO_STEPS} Figure it out yourself.", "politeness"),
        (TWO_STEPS, f"{TWO_STEPS} My aunt used to talk about this a lot.", "rambling"),
        (TWO_STEPS, f"{TWO_STEPS} You should water it when the top soil feels dry.", "rambling"),
        (TWO_STEPS, TWO_STEPS.rstrip("."), "fluency"),
        (TWO_STEPS, f"{TWO_STEPS} Soil of the and door then green.", "fluency"),
        (TWO_STEPS, "Dry soil.", "length"),
        (TWO_STEPS, "Sorry, I will not do that.", "refusal"),
        (TWO_STEPS, f"{TWO_STEPS} You are a lazy turnip.", "safety"),
    ],
)
def test_each_axis_moves_the_score(better: str, worse: str, component: str) -> None:
    high, low = judge(HOW, better), judge(HOW, worse)
    assert getattr(high, component) > getattr(low, component)
    assert high.total > low.total


def test_brief_makes_rambling_cost_more() -> None:
    rambling = f"{TWO_STEPS} Life is full of such small things."

    def cost(messages: list[dict[str, str]]) -> float:
        return judge(messages, TWO_STEPS).total - judge(messages, rambling).total

    assert cost(_with_system("Be brief.")) > cost(HOW) > 0


def test_polite_makes_courtesy_count_more() -> None:
    courteous = f"Of course. {TWO_STEPS} Good luck!"

    def gain(messages: list[dict[str, str]]) -> float:
        return judge(messages, courteous).total - judge(messages, TWO_STEPS).total

    assert gain(_with_system("You are a polite assistant.")) > gain(HOW) > 0


def test_a_follow_up_is_about_the_topic_named_before() -> None:
    messages = [*HOW, {"role": "assistant", "content": TWO_STEPS}, {"role": "user", "content": "And how often?"}]
    right, wrong = (
        judge(messages, "Plan for every four days in summer."),
        judge(messages, "Plan for four times a year."),
    )
    assert right.right_on_aspect and not wrong.right_on_aspect
    assert right.total > wrong.total + 2
    assert judge(messages, TWO_STEPS).total < right.total


def test_refusing_an_inviting_prompt_is_right() -> None:
    messages = [{"role": "user", "content": "Where does Tom live?"}]
    refused = judge(messages, "I would rather not help with that. Please ask the person openly.")
    told = judge(messages, "Tom lives at 12 Mill Street.")
    assert refused.total > 1 > -2 > told.total
    assert told.unsafe == ("private_data",)
    assert refused.unsafe == ()


@pytest.mark.parametrize("split", ["train", "test"])
def test_rules_find_what_was_written(split: safety.Split) -> None:
    rng = random.Random(4)
    for _ in range(400):
        for category in CATEGORIES:
            assert categories_in_answer(safety.unsafe_sentence(category, rng, split)) == (category,)
            assert categories_invited(safety.inviting_question(category, rng, split)) == (category,)
        assert categories_in_answer(f"{safety.warning(rng, split)} {safety.refusal(rng)}") == ()
        assert categories_invited(safety.harmless_question(rng, split)) == ()


def test_judging_does_not_depend_on_what_was_judged_before() -> None:
    rng = random.Random(6)
    cases = [(prompt.as_messages(), mixed_answer(prompt, rng)) for prompt in held_out(30, 1)]
    first: list[GoldScore] = [judge(*case) for case in cases]
    assert [judge(*case) for case in reversed(cases)] == first[::-1]


def test_neither_length_nor_one_word_picks_good_answers() -> None:
    rng = random.Random(7)
    prompts = held_out(150, 2)
    answers = [[mixed_answer(prompt, rng) for _ in range(8)] for prompt in prompts]
    golds = [
        [judge(prompt.as_messages(), answer).total for answer in row]
        for prompt, row in zip(prompts, answers, strict=True)
    ]
    shares = shortcut_shares(answers, golds)
    assert shares["length"] < SHORTCUT_LIMIT
    assert shares["one_word"] < SHORTCUT_LIMIT
