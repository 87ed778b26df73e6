"""Which rows of a snapshot a method learns from."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.training.snapshots import pair, side, thumb, write_snapshot
from training.data.layout import Snapshot
from training.data.rows import BestOfN, Demonstration, Message, PromptOnly, Row
from training.policy.rows import best_of, policy_rows
from training.policy.settings import PolicySettings

SETTINGS = PolicySettings()


def said(text: str, role: str = "assistant") -> list[Message]:
    return [{"role": role, "content": text}]


def written(index: int, text: str = "Gladly.", **known: object) -> Demonstration:
    return Demonstration(prompt=said("Why?", "user"), completion=said(text), side=side(index, **known))  # type: ignore[arg-type]


def candidates(index: int, rewards: dict[str, float], prompt: str = "p", **known: object) -> BestOfN:
    ranked = sorted(rewards.items(), key=lambda one: -one[1])
    of = side(index, **{"source": "best_of_n", "prompt": prompt, "reward_model": "reward@1", **known})  # type: ignore[arg-type]
    return BestOfN(
        prompt=said("Why?", "user"),
        completions=[said(text) for text, _ in ranked],
        rewards=[reward for _, reward in ranked],
        side=of,
    )


def texts(rows: list[Demonstration]) -> list[str]:
    return [row.completion[0]["content"] for row in rows]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    rows: list[Row] = [
        written(0, source="curated"),
        written(1, source="correction"),
        written(2, source="correction", for_policy=False),
        written(3, split="test"),
        pair(4, "Why?", "Gladly.", "No."),
        pair(5, "Why?", "Awful.", "Worse.", for_policy=False),
        thumb(6, "Why?", "Gladly.", True),
        thumb(7, "Why?", "No.", False),
        thumb(8, "Why?", "Half an ans", True, for_policy=False),
        PromptOnly(prompt=said("Why?", "user"), side=side(9, source="prompt")),
        candidates(10, {"good": 2.0, "fair": 1.0}),
    ]
    return write_snapshot(tmp_path / "snapshot", rows)


def test_each_method_learns_from_its_own_kind_of_rows(snapshot: Snapshot) -> None:
    sft = policy_rows(snapshot, "train", "sft", SETTINGS)
    assert [row.side.source for row in sft.demonstrations] == ["curated", "correction"]
    assert not (sft.pairs or sft.thumbs or sft.prompts)
    assert [row.label for row in policy_rows(snapshot, "train", "kto", SETTINGS).thumbs] == [True, False]
    assert [row.side.id for row in policy_rows(snapshot, "train", "dpo", SETTINGS).pairs] == ["row-4"]
    assert texts(list(policy_rows(snapshot, "train", "rejection", SETTINGS).demonstrations)) == ["good"]
    for method in ("rloo", "grpo"):
        assert len(policy_rows(snapshot, "train", method, SETTINGS).prompts) == 1


def test_what_no_policy_may_learn_from_is_left_out_and_counted(snapshot: Snapshot) -> None:
    for method, kept in {"sft": 2, "dpo": 1, "kto": 2}.items():
        found = policy_rows(snapshot, "train", method, SETTINGS)  # type: ignore[arg-type]
        assert len(found.rows) == kept
        assert found.left_out == {"not for policies": 1}


def test_other_sources_are_left_out(snapshot: Snapshot) -> None:
    settings = PolicySettings(sources=["curated"])
    found = policy_rows(snapshot, "train", "sft", settings)
    assert [row.side.source for row in found.demonstrations] == ["curated"]
    assert found.left_out == {"of other sources": 2}


def test_of_all_rounds_the_best_answers_to_a_prompt_are_kept() -> None:
    rounds = [
        candidates(0, {"early": 3.0, "poor": -1.0}, policy="policy@1", created=1.0),
        candidates(1, {"late": 2.0, "fair": 1.0}, policy="policy@2", created=2.0),
        candidates(2, {"alone": -5.0, "worse": -6.0}, prompt="another"),
    ]
    left_out: Counter[str] = Counter()
    assert texts(best_of(rounds, 1, left_out)) == ["early", "alone"]
    assert texts(best_of(rounds, 2, left_out)) == ["early", "late", "alone", "worse"]
    assert not left_out


def test_rewards_of_two_reward_models_are_not_compared() -> None:
    left_out: Counter[str] = Counter()
    rounds = [
        candidates(0, {"early": 300.0}, created=1.0),
        candidates(1, {"late": 2.0}, reward_model="reward@2", created=2.0),
        candidates(2, {"kept": 200.0}, prompt="another", created=1.0),
    ]
    assert texts(best_of(rounds, 1, left_out)) == ["late", "kept"]
    assert left_out == {"requests scored by an earlier reward model": 1}


@given(
    some.lists(some.dictionaries(some.sampled_from("abcdefgh"), some.floats(-5, 5), min_size=1), max_size=6),
    some.integers(1, 4),
)
def test_the_best_of_n_are_the_best_whatever_the_order_of_the_requests(of: list[dict[str, float]], best: int) -> None:
    rows = [candidates(index, rewards, prompt=f"prompt-{index % 2}") for index, rewards in enumerate(of)]
    found = best_of(rows, best, Counter())
    assert sorted(texts(found)) == sorted(texts(best_of(rows[::-1], best, Counter())))
    for prompt in ("prompt-0", "prompt-1"):
        top: dict[str, float] = {}
        for row, rewards in zip(rows, of, strict=True):
            if row.side.prompt == prompt:
                top |= {text: max(reward, top.get(text, -9.0)) for text, reward in rewards.items()}
        kept = [row for row in found if row.side.prompt == prompt]
        assert len(kept) == min(best, len(top))
        assert len({row.side.id for row in kept}) == len(kept)
        worst = min((top[text] for text in texts(kept)), default=0.0)
        assert all(value <= worst for text, value in top.items() if text not in texts(kept))
