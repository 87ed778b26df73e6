"""Cascades of rewards, through the whole gateway: who is asked about what, the receipt, the log, the counts."""

from pathlib import Path
from typing import Any

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import running_gateway

TEXTS = ["a", "bbb", "cc", "dddd"]
CHEAP = {"scorer": "cheap", "keep": 2}


def scorers(**more: Any) -> FakeScorers:
    """The cheap one likes long texts, the reward model short ones."""
    return FakeScorers(rewards=lambda text: -len(text), **{"values": {"cheap": len}, **more})


def contents(body: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in body["choices"]]


async def test_the_best_by_the_cheap_scorer_go_on_and_the_reward_decides(tmp_path: Path) -> None:
    fake = scorers(comes_with={"reward": {"calibrated": 0.5, "parts": {"short": 1.0}}})
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, prune=[CHEAP]) as gateway:
        _, headers, body = await gateway.chat(guidance={"return_candidates": True})
        [record] = gateway.interactions
        assert gateway.metric("bestow_candidates_total", policy="policy", fate="pruned") == 2
    assert sorted(text for [text] in fake.asked("cheap")) == sorted(TEXTS)
    assert fake.asked("reward") == [["bbb", "dddd"]]
    assert contents(body) == ["bbb"]
    receipt = body["guidance"]
    assert (receipt["sampled"], receipt["scored"], receipt["safe"], receipt["pruned"]) == (4, 2, 4, 2)
    assert (receipt["reward"], receipt["calibrated"], receipt["degraded"]) == (-3, 0.5, None)
    assert (headers["x-bestow-reward-model"], headers["x-bestow-reward"]) == ("reward@1", "-3")
    first, second = receipt["candidates"][:2]
    assert (first["pruned_by"], second["pruned_by"]) == ("cheap@1", None)
    none: dict[str, Any] = {"calibrated": None, "parts": {}, "steps": [], "error": None}
    assert first["scores"] == {"cheap@1": {**none, "value": 1.0}}
    reward = {**none, "value": -3.0, "calibrated": 0.5, "parts": {"short": 1.0}}
    assert second["scores"] == {"cheap@1": {**none, "value": 3.0}, "reward@1": reward}
    assert [one.pruned_by for one in record.candidates] == ["cheap@1", None, "cheap@1", None]
    assert [one.propensity for one in record.candidates] == [0, 1, 0, 0]
    assert record.candidates[1].scores["reward@1"].parts == {"short": 1.0}
    assert record.candidates[0].reward is None and record.candidates[0].reward_error is None


async def test_a_client_that_wants_more_than_went_on_gets_the_pruned_ones_after_them(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers(), prune=[CHEAP]) as gateway:
        _, _, body = await gateway.chat(n=4)
    assert contents(body) == ["bbb", "dddd", "cc", "a"]
    assert body["guidance"]["degraded"] is None


async def test_with_no_more_candidates_than_a_stage_keeps_it_costs_nothing(tmp_path: Path) -> None:
    fake = scorers()
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, prune=[CHEAP]) as gateway:
        _, _, body = await gateway.chat(guidance={"n": 2})
    assert fake.asked("cheap") == []
    # As without a stage: each as it finishes.
    assert sorted(fake.asked("reward")) == [["a"], ["bbb"]]
    assert body["guidance"]["pruned"] == 0


async def test_a_cheap_scorer_that_is_down_prunes_nothing_and_that_is_said(tmp_path: Path) -> None:
    fake = scorers(down=frozenset({"cheap"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, prune=[CHEAP]) as gateway:
        status, _, body = await gateway.chat()
        assert gateway.metric("bestow_scorer_failures_total", scorer="cheap", reason="scorer_unavailable") == 4
    assert (status, contents(body)) == (200, ["a"])
    assert (body["guidance"]["degraded"], body["guidance"]["pruned"]) == ("prune_unavailable", 0)


async def test_the_deciding_scorer_that_is_down_leaves_it_to_the_cheap_one(tmp_path: Path) -> None:
    fake = scorers(down=frozenset({"reward"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, prune=[CHEAP]) as gateway:
        _, _, body = await gateway.chat(guidance={"return_candidates": True})
    assert contents(body) == ["dddd"]
    assert body["guidance"]["degraded"] == "reward_unavailable"
    assert body["guidance"]["candidates"][3]["reward_error"] == "the scorer did not answer"


async def test_a_scorer_that_compares_candidates_gets_all_of_them_in_one_request(tmp_path: Path) -> None:
    fake = scorers(values={"judge": len}, relative=frozenset({"judge"}), unsafe=frozenset({"dddd"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, reward="judge") as gateway:
        _, _, body = await gateway.chat()
        assert fake.asked("judge") == [["a", "bbb", "cc"]]
        assert contents(body) == ["bbb"]
        assert (body["guidance"]["reward"], body["guidance"]["degraded"]) == (2, None)
        _, _, alone = await gateway.chat(temperature=0)
        assert (alone["guidance"]["reward"], alone["guidance"]["degraded"]) == (None, None)
        assert len(fake.asked("judge")) == 1


async def test_a_comparison_decides_behind_a_stage_and_over_several_waves(tmp_path: Path) -> None:
    fake = scorers(values={"judge": lambda text: -len(text), "cheap": len}, relative=frozenset({"judge"}))
    fake.unsafe = frozenset(TEXTS)
    worker = FakeWorker(texts=TEXTS)
    async with running_gateway(tmp_path, worker, fake, reward="judge", prune=[CHEAP]) as gateway:
        _, _, refused = await gateway.chat()
        assert (refused["guidance"]["refused"], refused["guidance"]["sampled"]) == ("candidates", 8)
        assert fake.asked("judge") == []
        fake.unsafe = frozenset()
        _, _, body = await gateway.chat()
    assert fake.asked("judge") == [["bbb", "dddd"]]
    assert contents(body) == ["bbb"]


async def test_the_best_so_far_is_the_cheap_ones_when_the_budget_is_over(tmp_path: Path) -> None:
    worker = FakeWorker(texts=TEXTS, delays_s=(0.0, 0.0, 0.0, 30.0))
    async with running_gateway(tmp_path, worker, scorers(), prune=[CHEAP]) as gateway:
        _, _, body = await gateway.chat(guidance={"budget": {"ms": 700}})
    assert contents(body) == ["bbb"]
    assert body["guidance"]["degraded"] == "deadline"


async def test_verifiers_learn_what_form_and_which_answer_was_expected(tmp_path: Path) -> None:
    fake = scorers()
    form = {"type": "json_object"}
    async with running_gateway(tmp_path, FakeWorker(texts=["{}"]), fake) as gateway:
        status, _, _ = await gateway.chat(guidance={"n": 1, "reference": "forty-two"}, response_format=form)
        [record] = gateway.interactions
        assert status == 200
        status, _, body = await gateway.chat(guidance={"reference": "x" * 20_001})
        assert (status, body["error"]["param"]) == (400, "guidance.reference")
    [asked] = [body for body in fake.requests if body["model"] == "reward"]
    assert (asked["reference"], asked["response_format"]) == ("forty-two", form)
    assert all("reference" not in body for body in fake.requests if body["model"] == "safety")
    assert "guidance" not in gateway.worker.requests[0]
    assert record.reference == "forty-two"
