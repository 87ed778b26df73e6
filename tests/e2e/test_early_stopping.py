"""Early stopping on the real stack: what it samples is the beginning of what best-of-n would have, and less of it."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.gateways import live_profiles
from tests.e2e.stack import Stack
from training.demo.prompts import held_out_prompts

N, PROMPTS = 16, 40
COMMON: dict[str, Any] = {"n": N, "min_n": N, "temperature": 1.0, "max_tokens": 96}
PROFILES = {
    "all-at-once": COMMON,
    "stopping-at-once": {**COMMON, "strategy": "early_stopping", "options": {"threshold": -1000.0, "first": 3}},
    "stopping-by-price": {**COMMON, "strategy": "early_stopping", "options": {"price": 1.0}},
}


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with live_profiles(stack, PROFILES) as opened:
        yield opened


def ask(http: httpx.Client, profile: str, messages: Any, seed: int) -> dict[str, Any]:
    guidance = {"profile": profile, "return_candidates": True}
    body = {"model": "bestow-demo", "messages": messages, "seed": seed, "guidance": guidance}
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    receipt: dict[str, Any] = reply.json()["guidance"]
    return receipt


def texts(receipt: dict[str, Any]) -> list[Any]:
    return [one["message"] for one in receipt["candidates"]]


def test_one_wave_is_enough_where_anything_is_good_enough(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "How do I bake bread?"}]
    receipt = ask(http, "stopping-at-once", messages, seed=3)
    assert (receipt["strategy"], receipt["sampled"], receipt["degraded"]) == ("early_stopping", 3, None)
    safe = [one["reward"] for one in receipt["candidates"] if one["safe"]]
    assert receipt["reward"] == max(safe)


@pytest.mark.slow
def test_a_price_saves_samples_and_keeps_most_of_the_gain(http: httpx.Client, report: Callable[[str], None]) -> None:
    sampled, gains, kept = [], [], []
    for index, prompt in enumerate(held_out_prompts(PROMPTS, seed=21)):
        full = ask(http, "all-at-once", list(prompt), seed=100 * index)
        early = ask(http, "stopping-by-price", list(prompt), seed=100 * index)
        # A candidate's seed does not depend on its wave.
        assert texts(early) == texts(full)[: early["sampled"]]
        assert early["degraded"] is None
        if full["reward"] is None or early["reward"] is None:
            continue
        sampled.append(early["sampled"])
        mean = statistics.fmean(one["reward"] for one in full["candidates"] if one["reward"] is not None)
        gains.append(full["reward"] - mean)
        kept.append(early["reward"] - mean)
    line = (
        f"early stopping at a price of 1.0 of at most {N}: {statistics.fmean(sampled):.1f} samples, "
        f"{sum(kept) / sum(gains):.1%} of best-of-{N}'s gain in reward ({len(sampled)} held-out prompts)"
    )
    report(line)
    assert min(sampled) == N // 4, line
    assert statistics.fmean(sampled) < N, line
    # The best of a quarter keeps about 60 %.
    assert sum(kept) / sum(gains) > 0.7, line
