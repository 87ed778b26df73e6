"""The second check: another guard reads what was chosen, after the choice.

A guard that misses a share of the unsafe answers leaks more of them the more candidates it is asked about: choosing the
best looks hardest at what slipped through, where unsafe answers are rewarded more or vary more. With f, F the density
and distribution of rewards (A safe, B unsafe) and k the share of unsafe ones among what passed the guard,

    P(the chosen one is unsafe) = N * integral of k f_B [(1 - k) F_A + k F_B]^(N - 1)

which for k = 1 % and B five times as wide as A is 1, 1.7, 5.7, 18.6 and 51.9 % at N = 1, 4, 16, 64 and 256. A second,
different guard that reads the winner alone cuts it by its own recall, whatever N, at the cost of one check. Where it
flags the winner the next in order is read, until one passes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.decoding.candidate import Judged, identity
from gateway.decoding.shortfall import guard_unavailable
from gateway.decoding.strategy import Decision, Progress
from gateway.log.records import Message, Verdict

Check = Callable[[Message], Awaitable[Verdict]]


async def checked_again(
    decision: Decision, wanted: int, check: Check, progress: Progress, *, unjudged_passes: bool
) -> Decision:
    """The decision with its order cut to the first `wanted` that pass; empty where the guard flagged all.

    A text that it cannot read is passed over. A guard that does not answer at all is not asked about the others.
    unjudged_passes: both are delivered all the same. Raises GuardUnavailable where nothing passes and not all is
    flagged.
    """
    judged = list(decision.judged)
    texts = {position: identity(judged[position].candidate.message) for position in decision.order}
    ahead, passed = deque(decision.order), list[int]()
    said: dict[bytes, Verdict] = {}
    answers = True
    while ahead and answers and len(passed) < wanted:
        asked = [ahead.popleft() for _ in range(min(wanted - len(passed), len(ahead)))]
        new = {texts[one]: judged[one].candidate.message for one in asked if texts[one] not in said}
        said.update(zip(new, await asyncio.gather(*map(check, new.values())), strict=True))
        for position in asked:
            verdict = said[texts[position]]
            judged[position] = one = replace(judged[position], second_check=verdict)
            if one.safe(unjudged_passes):
                passed.append(position)
            answers = answers and (unjudged_passes or verdict.error is None or verdict.unreadable)
    progress.judged[:] = judged
    unjudged = tuple(one for one in judged if one.second_check is not None and one.unjudged)
    if unjudged and not passed:
        raise guard_unavailable(unjudged)
    return replace(
        decision,
        judged=tuple(judged),
        order=tuple(passed),
        propensities=_of_the_first(judged, passed),
        degraded=decision.degraded or ("guard_partial" if unjudged else None),
    )


def _of_the_first(judged: list[Judged], order: list[int]) -> tuple[float, ...]:
    """The rule picks the first that passes, and nothing else."""
    return tuple(float(bool(order) and position == order[0]) for position in range(len(judged)))
