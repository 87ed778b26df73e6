"""Rejection sampling: which answers are imitated, over all rounds; and what best-of-n does, by enumeration."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.laws.best_of_n import kl, win_rate
from scorers.contract import Score, ScoreRequest, ScorerInfo
from tests.training.snapshots import side
from training.data.lineage import OfInteractions, OfPerson
from training.data.rows import BestOfN
from training.jsonl import Lines
from training.policy.rejection import best_first, forget, rate, rated_rows, rejection_of, rows_to_imitate
from training.policy.rows import best_of
from training.policy.sampling import Candidate, Sampled

REWARD = "reward@1"


def candidate(
    text: str | None, reward: float | None, *, seed: int = 0, finish: str = "stop", flag: str = ""
) -> Candidate:
    return Candidate(seed=seed, text=text, finish=finish, tokens=3, reward=reward, flagged=[flag] if flag else [])


def sampled(number: int, candidates: list[Candidate], *, policy: str = "p@1", reward_model: str = REWARD) -> Sampled:
    return Sampled(
        prompt=[{"role": "user", "content": f"Question {number}?"}],
        side=side(number, source="prompt", people=[f"user-{number}"]),
        policy=policy,
        profile="default@1",
        reward_model=reward_model,
        candidates=candidates,
    )


def keep(folder: Path, name: str, *lines: Sampled) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = Lines(folder / f"round-{name}.jsonl", Sampled)
    for line in lines:
        kept.add(line)


def imitated(rows: list[BestOfN], best: int = 1) -> list[str]:
    return [row.completion[0]["content"] for row in best_of(rows, best, Counter())]


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.one_of(st.none(), st.sampled_from("abcdef")),
        st.one_of(st.none(), st.floats(-5, 5), st.just(math.nan)),
        seed=st.integers(0, 50),
        finish=st.sampled_from(["stop", "length"]),
        flag=st.sampled_from(["", "", "insult"]),
    ),
    max_size=12,
)


@given(CANDIDATES)
def test_only_safe_finished_rated_answers_compete_and_the_best_come_first(candidates: list[Candidate]) -> None:
    found = best_first([(one, one.reward) for one in candidates])
    fit = [one for one in candidates if one.usable and one.reward is not None and math.isfinite(one.reward)]
    assert {text for text, _ in found} == {one.text for one in fit}
    assert len({text for text, _ in found}) == len(found)
    assert [reward for _, reward in found] == sorted((reward for _, reward in found), reverse=True)
    for text, reward in found:
        assert reward == max(one.reward for one in fit if one.text == text and one.reward is not None)


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(candidates: list[Candidate], rng: random.Random) -> None:
    shuffled = rng.sample(candidates, len(candidates))
    one, other = (dict(best_first([(each, each.reward) for each in given])) for given in (candidates, shuffled))
    assert one == other


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_best_of_n_has_the_mean_quantile_and_at_most_the_kl_of_its_law(n: int) -> None:
    # A policy of six answers, all of whose samples of n are listed, each chosen from as rounds are.
    probabilities = [0.1, 0.3, 0.05, 0.25, 0.2, 0.1]
    chosen = [0.0] * len(probabilities)
    for draw in itertools.product(range(len(probabilities)), repeat=n):
        chance = math.prod(probabilities[one] for one in draw)
        found = best_first(
            [(candidate(f"answer {one}", float(one), seed=at), float(one)) for at, one in enumerate(draw)]
        )
        chosen[int(found[0][1])] += chance
    assert math.fsum(chosen) == pytest.approx(1)
    moved = math.fsum(q * math.log(q / p) for p, q in zip(probabilities, chosen, strict=True))
    assert 0 < moved <= kl(n)
    # Its rank among the policy's answers, those that tie sharing theirs (mid-distribution), less than n/(n+1) for ties.
    below = [math.fsum(probabilities[:at]) + probabilities[at] / 2 for at in range(len(probabilities))]
    assert 0.5 < math.fsum(q * u for q, u in zip(chosen, below, strict=True)) <= win_rate(n)


@pytest.mark.parametrize("n", [2, 4])
def test_without_ties_the_laws_are_reached(n: int) -> None:
    # Of m equally likely answers the best of n is the k-th with (k^n - (k-1)^n) / m^n.
    m = 40 if n == 2 else 12
    chosen = [0.0] * m
    for draw in itertools.product(range(m), repeat=n):
        found = best_first(
            [(candidate(f"answer {one}", float(one), seed=at), float(one)) for at, one in enumerate(draw)]
        )
        chosen[int(found[0][1])] += 1 / m**n
    assert chosen == pytest.approx([((k + 1) ** n - k**n) / m**n for k in range(m)])
    quantile = math.fsum(q * (at + 0.5) / m for at, q in enumerate(chosen))
    assert quantile == pytest.approx(win_rate(n), abs=n / m)
    moved = math.fsum(q * math.log(q * m) for q in chosen)
    assert kl(n) - 1.5 * n / m < moved <= kl(n)


def test_a_better_answer_of_an_earlier_round_is_still_imitated(tmp_path: Path) -> None:
    keep(tmp_path, "a", sampled(1, [candidate("early", 3.0), candidate("weak", 0.0)]))
    keep(tmp_path, "b", sampled(1, [candidate("late", 2.0)], policy="p@2"), sampled(2, [candidate("only", 1.0)]))
    rows = rated_rows(tmp_path, "train", REWARD)
    assert imitated(rows) == ["early", "only"]
    assert imitated(rows, best=2) == ["early", "late", "only"]
    [first, *_] = best_of(rows, 1, Counter())
    assert (first.side.source, first.side.policy, first.side.reward_model) == ("best_of_n", "p@1", REWARD)
    assert first.side.people == ["user-1"] and first.side.cluster == "cluster-1"


@given(st.lists(CANDIDATES, min_size=1, max_size=4))
def test_a_further_round_never_makes_the_best_worse(rounds: list[list[Candidate]]) -> None:
    best = -math.inf
    for count in range(1, len(rounds) + 1):
        merged = [one for each in rounds[:count] for one in each]
        found = best_first([(one, one.reward) for one in merged])
        now = found[0][1] if found else -math.inf
        assert now >= best
        best = now


SHORT = ScorerInfo("short", "reward", "value", "short@2", False, 1000)


@dataclass
class ByLength:
    """A reward model that likes short answers."""

    info: ScorerInfo = SHORT
    requests: list[ScoreRequest] = field(default_factory=list)
    down: bool = False

    async def score(self, request: ScoreRequest) -> list[Score]:
        self.requests.append(request)
        if self.down:
            return [Score(error="away") for _ in request.candidates]
        return [Score(value=-float(len(str(one["content"])))) for one in request.candidates]


def bar(_: str, __: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def test_what_was_sampled_to_another_splits_prompts_is_not_imitated(tmp_path: Path) -> None:
    held = sampled(2, [candidate("held out", 9.0)])
    held = msgspec.structs.replace(held, side=msgspec.structs.replace(held.side, split="test"))
    keep(tmp_path, "a", sampled(1, [candidate("answer", 1.0)]), held)
    assert imitated(rated_rows(tmp_path, "train", REWARD)) == ["answer"]
    assert imitated(rated_rows(tmp_path, "test", REWARD)) == ["held out"]


async def test_what_another_reward_model_rated_is_rated_again_once(tmp_path: Path) -> None:
    keep(tmp_path, "a", sampled(1, [candidate("a long answer", 9.0), candidate("short", 1.0), candidate(None, 5.0)]))
    keep(tmp_path, "b", sampled(1, [candidate("tiny", -4.0)], reward_model="short@2"))
    assert imitated(rated_rows(tmp_path, "train", "short@2")) == ["tiny"]
    scorer = ByLength(down=True)
    await rate(tmp_path, scorer, bar)
    assert imitated(rated_rows(tmp_path, "train", "short@2")) == ["tiny"]
    scorer.down = False
    await rate(tmp_path, scorer, bar)
    await rate(tmp_path, scorer, bar)
    assert len(scorer.requests) == 2
    assert [one["content"] for one in scorer.requests[0].candidates] == ["a long answer", "short"]
    assert imitated(rated_rows(tmp_path, "train", "short@2"), best=3) == ["tiny", "short", "a long answer"]
    assert imitated(rated_rows(tmp_path, "train", REWARD)) == ["a long answer"]


def test_logged_candidates_compete_where_the_same_reward_model_rated_them(tmp_path: Path) -> None:
    keep(tmp_path, "a", sampled(1, [candidate("sampled", 2.0)]))

    def logged(text: str, reward: float, reward_model: str) -> BestOfN:
        said = [[{"role": "assistant", "content": text}]]
        known = side(1, source="best_of_n", reward_model=reward_model, created=5.0)
        return BestOfN(
            prompt=[{"role": "user", "content": "Question 1?"}], completions=said, rewards=[reward], side=known
        )

    found = rows_to_imitate(
        [logged("logged", 3.0, REWARD), logged("other", 9.0, "reward@0")], tmp_path, "train", REWARD, 1
    )
    assert [row.completion[0]["content"] for row in found.demonstrations] == ["logged"]
    assert found.left_out == {"requests scored by another reward model": 1}


async def test_what_was_sampled_to_an_erased_persons_prompt_goes_with_its_ratings(tmp_path: Path) -> None:
    folder = rejection_of(tmp_path, "m")
    keep(folder, "a", *(sampled(number, [candidate(f"answer {number}", 1.0)]) for number in (1, 2, 3)))
    await rate(folder, ByLength(), bar)
    assert forget(tmp_path, OfPerson("default", "user-2")) == 1
    assert forget(tmp_path, OfInteractions(frozenset(["interaction-3"]))) == 1
    for version in (REWARD, "short@2"):
        assert imitated(rated_rows(folder, "train", version)) == ["answer 1"]
    assert not any(b"prompt-2" in path.read_bytes() for path in folder.glob("*.jsonl"))
