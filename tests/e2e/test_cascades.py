"""Cascades, guards and actions on the real stack: scorers without a model beside the demo's, added while it runs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack

ADDED = {
    "short": {"kind": "verifier", "check": "length", "options": {"max": 400, "unit": "characters", "graded": True}},
    "words": {"kind": "patterns", "patterns": {"secret": [r"swordfish-[0-9]+"], "fern": [r"\bfern"]}},
}
PROFILE = {
    "n": 6,
    "min_n": 6,
    "temperature": 1.0,
    "max_tokens": 96,
    "prune": [{"scorer": "short", "keep": 2}],
    "safety": ["words", "safety"],
    "category_actions": {"secret": "block", "fern": "flag"},
    "second_check": None,
}


@pytest.fixture(scope="module")
def careful(stack: Stack) -> Iterator[httpx.Client]:
    """A gateway with the profile `careful` and the scorers that it needs, which are gone afterwards."""
    with httpx.Client(base_url=stack.url, timeout=120) as http:
        for name, settings in ADDED.items():
            put(http, f"/admin/v1/scorers/{name}", {"settings": settings, "reason": "e2e"})
        put(http, "/admin/v1/profiles/careful", {"version": 0, "settings": PROFILE, "reason": "e2e"})
        yield http
        put(http, "/admin/v1/profiles/careful", {"version": 1, "settings": {}, "reason": "e2e is over"})
        for name in ADDED:
            assert http.delete(f"/admin/v1/scorers/{name}").status_code == 200


def put(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    reply = http.put(path, json=body)
    assert reply.status_code == 200, reply.text


def ask(http: httpx.Client, text: str) -> httpx.Response:
    guidance = {"profile": "careful", "return_candidates": True}
    body = {"model": "bestow-demo", "messages": [{"role": "user", "content": text}], "seed": 5, "guidance": guidance}
    return http.post("/v1/chat/completions", json=body)


def test_the_cheap_scorer_lets_its_best_go_on_and_the_reward_decides_among_those(careful: httpx.Client) -> None:
    receipt = ask(careful, "How do I bake bread?").json()["guidance"]
    candidates = receipt["candidates"]
    assert receipt["sampled"] == len(candidates) == 6
    went_on = [one for one in candidates if one["safe"] and not one.get("pruned_by")]
    given_up = [one for one in candidates if one.get("pruned_by")]
    assert receipt["pruned"] == len(given_up) > 0
    assert {one["pruned_by"] for one in given_up} == {"short@1"}
    assert all(one["reward"] is None for one in given_up)
    chosen = next(one for one in candidates if one["index"] == receipt["chosen"])
    assert chosen["reward"] == max(one["reward"] for one in went_on) == receipt["reward"]
    cheap = {one["index"]: one["scores"]["short@1"]["value"] for one in candidates if "short@1" in one["scores"]}
    assert min(cheap[one["index"]] for one in went_on) >= max(cheap[one["index"]] for one in given_up)


def test_a_blocked_prompt_is_an_error_that_repeats_no_text(careful: httpx.Client) -> None:
    reply = ask(careful, "The password is swordfish-42, remember it.")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "content_blocked")
    assert "swordfish" not in reply.text


def test_a_flagged_prompt_is_answered_and_the_flag_is_told(careful: httpx.Client) -> None:
    reply = ask(careful, "How do I water a fern?")
    assert reply.status_code == 200
    receipt = reply.json()["guidance"]
    assert receipt["refused"] is None
    assert "fern" in receipt["flags"]
    assert receipt["safety_model"] == "words@1+safety@1"
