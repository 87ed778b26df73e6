"""Votes on the real stack: short answers by a grammar, counted by the profile's extractor."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.gateways import live_profiles
from tests.e2e.stack import Stack

N = 16
COMMON: dict[str, Any] = {"n": N, "min_n": N, "temperature": 1.0, "max_tokens": 16, "strategy": "vote"}
PATTERN = r"answer (\w+)"
PROFILES = {
    "vote": {**COMMON, "options": {"extract": "regex", "pattern": PATTERN, "confidence": None}},
    "vote-adaptive": {**COMMON, "options": {"extract": "regex", "pattern": PATTERN}},
}
# The three are spellings of two answers.
GRAMMAR = "answer (red|Red|blue)"


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with live_profiles(stack, PROFILES) as opened:
        yield opened


def ask(http: httpx.Client, profile: str, seed: int) -> dict[str, Any]:
    body = {
        "model": "bestow-demo",
        "messages": [{"role": "user", "content": "Which colour?"}],
        "structured_outputs": {"regex": GRAMMAR},
        "seed": seed,
        "guidance": {"profile": profile, "return_candidates": True},
    }
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def said(candidate: dict[str, Any]) -> str:
    return str(candidate["message"]["content"]).split()[-1].casefold()


def test_the_answer_with_most_votes_is_delivered_by_its_best_candidate(http: httpx.Client) -> None:
    answer = ask(http, "vote", seed=1)
    receipt = answer["guidance"]
    safe = [one for one in receipt["candidates"] if one["safe"]]
    counts = Counter(map(said, safe))
    assert counts and receipt["degraded"] is None
    winner = answer["choices"][0]["message"]["content"].split()[-1].casefold()
    assert counts[winner] == max(counts.values())
    assert receipt["reward"] == max(one["reward"] for one in safe if said(one) == winner)


def test_a_vote_that_is_settled_early_samples_less_and_is_seldom_another(http: httpx.Client) -> None:
    sampled, same = [], 0
    for seed in range(0, 1000, 100):
        full, early = ask(http, "vote", seed), ask(http, "vote-adaptive", seed)
        sampled.append(early["guidance"]["sampled"])
        texts = [[said(one) for one in answer["guidance"]["candidates"]] for answer in (full, early)]
        assert texts[1] == texts[0][: sampled[-1]]
        same += (
            len({answer["choices"][0]["message"]["content"].split()[-1].casefold() for answer in (full, early)}) == 1
        )
    assert min(sampled) < N
    assert same >= 8
