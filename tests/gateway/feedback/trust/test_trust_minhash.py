from random import Random

import pytest

from gateway.feedback.trust.minhash import SHINGLE, clusters, signature, similarity
from tests.gateway.feedback.trust.traffic import World


def jaccard(one: str, other: str) -> float:
    a, b = ({text[at : at + SHINGLE] for at in range(len(text) - SHINGLE + 1)} for text in (one, other))
    return len(a & b) / len(a | b)


def test_signatures_agree_about_as_often_as_the_shingles_do() -> None:
    random, world = Random(3), World(3)
    pairs = []
    for _ in range(400):
        words = [random.choice(world.answer().split()) for _ in range(60)]
        changed = [random.choice(world.answer().split()) if random.random() < 0.15 else word for word in words]
        one, other = " ".join(words), " ".join(changed)
        first, second = signature(one), signature(other)
        assert first is not None and second is not None
        pairs.append((jaccard(one, other), similarity(first, second)))
    exact, estimated = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    # 400 pairs of 32 bins: the mean's standard error is below 0.005.
    assert estimated == pytest.approx(exact, abs=0.02)


def test_near_duplicates_are_put_together_and_different_questions_are_not() -> None:
    texts = {
        "a": "What should I do with my savings this year?",
        "b": "what should I do with my  savings this YEAR ?",
        "c": "What should I do with my savings this year, my friend?",
        "d": "Why is the sky blue and the sea green in the morning?",
        "e": "今年の貯金はどうすればいいですか教えてください",
        "f": "今年の貯金はどうすればいいですか教えて下さい",
        "g": "",
        "h": "   ",
    }
    assert [sorted(group) for group in clusters(texts)] == [["a", "b", "c"], ["e", "f"]]


@pytest.mark.parametrize("text", ["a", "ok", "hi!!", "你好"])
def test_texts_shorter_than_a_shingle_are_equal_or_not(text: str) -> None:
    assert signature(text) == signature(text.upper())
    assert clusters({1: text, 2: text, 3: "something else altogether"}) == [[1, 2]]


def test_the_order_of_texts_does_not_change_the_groups() -> None:
    world = World(4)
    texts = {n: f"{world.prompt()} and so on" for n in range(300)} | {
        n + 300: f"Tell me of gold, {n}" for n in range(30)
    }
    found = {frozenset(group) for group in clusters(texts)}
    keys = list(texts)
    Random(9).shuffle(keys)
    again = {frozenset(group) for group in clusters({key: texts[key] for key in keys})}
    gold = frozenset(range(300, 330))
    assert any(gold <= group for group in found) and any(gold <= group for group in again)
