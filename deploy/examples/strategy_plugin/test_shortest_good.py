"""A strategy is tested without a model: a sampler and a judge that do as the test says."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from shortest_good import STRATEGY, ShortestGoodOptions

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.strategy import Decision, Progress, Settled, Task
from gateway.log.records import Verdict


@dataclass
class Scripted:
    """Both at once. Candidate i has so many tokens, this reward, and is unsafe or not."""

    candidates: Sequence[tuple[int, float | None, bool]]
    sampled_tokens: int = 0

    async def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        for index, (tokens, _, _) in enumerate(self.candidates[:n]):
            message = {"role": "assistant", "content": f"answer {index}"}
            yield Candidate(index, wave, None, message, "stop", None, None, None, tokens, 0.0)

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        return [self._judged(one) for one in candidates]

    def _judged(self, candidate: Candidate) -> Judged:
        _, reward, unsafe = self.candidates[candidate.index]
        verdict = Verdict({"insult": 0.9}, ["insult"]) if unsafe else Verdict({"insult": 0.1})
        return Judged(candidate, reward, None if reward is not None else "away", verdict, 0.0)

    async def settle(self, judged: Sequence[Judged]) -> Settled:
        return Settled(tuple(judged))


async def decided(*candidates: tuple[int, float | None, bool], margin: float = 0.3) -> Decision:
    script = Scripted(candidates)
    task = Task(
        n=len(candidates),
        resample=0,
        deadline=asyncio.get_running_loop().time() + 5,
        unjudged_passes=False,
        options=ShortestGoodOptions(margin=margin),
    )
    return await STRATEGY.run(task, script, script, Progress())  # type: ignore[arg-type]


def test_the_shortest_of_the_good_ones_is_delivered_and_the_best_comes_next() -> None:
    decision = asyncio.run(decided((50, 2.0, False), (20, 1.8, False), (10, 1.0, False)))
    assert decision.order == (1, 0, 2)
    assert decision.outcomes.candidates == (0.0, 1.0, 0.0)


def test_without_a_margin_it_is_best_of_n() -> None:
    assert asyncio.run(decided((50, 2.0, False), (20, 1.8, False), margin=0)).order == (0, 1)


def test_what_is_unsafe_is_not_delivered_however_short() -> None:
    assert asyncio.run(decided((50, 2.0, False), (5, 2.0, True))).order == (0,)


def test_without_rewards_the_first_that_finished_is_delivered() -> None:
    decision = asyncio.run(decided((50, None, False), (5, None, False)))
    assert (decision.order[0], decision.degraded) == (0, "reward_unavailable")
