"""The second check: another guard reads what was chosen, after the choice.

A guard that misses a share of the unsafe answers leaks more of them the more candidates it is asked about: choosing the
best looks hardest at what slipped through, where unsafe answers are rewarded more or vary more. With f, F the density
and distribution of rewards (A safe, B unsafe) and k the share of unsafe ones among what passed the guard,

    P(the chosen one is unsafe) = N * integral of k f_B [(1 - k) F_A + k F_B]^(N - 1)

which for k = 1 % and B five times as wide as A is 1, 1.7, 5.7, 18.6 and 51.9 % at N = 1, 4, 16, 64 and 256. A second,
different guard that reads the winner alone cuts it by its own recall, whatever N, at the cost of one check. Where it
flags the winner the next in order is read, until one passes.

Where the winner was drawn, all that could have been drawn are read: only so is it known how likely what passed was.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.decoding.candidate import Judged, identity
from gateway.decoding.selection.chooser import Outcomes, certain, kl_to_any
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
    drawn = [position for position in decision.order if decision.outcomes.candidates[position]]
    ahead, passed = deque(decision.order), list[int]()
    said: dict[bytes, Verdict] = {}
    answers = True
    least = len(drawn) if len(drawn) > 1 else 0
    while ahead and answers and (len(passed) < wanted or least > 0):
        count = min(max(wanted - len(passed), least), len(ahead))
        asked = [ahead.popleft() for _ in range(count)]
        least -= count
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
        order=tuple(passed[:wanted]),
        outcomes=_among(decision, judged, passed),
        degraded=decision.degraded or ("guard_partial" if unjudged else None),
    )


def _among(decision: Decision, judged: Sequence[Judged], passed: Sequence[int]) -> Outcomes:
    """The outcomes where all that did not pass is drawn again: the rule's own probabilities among what passed.

    Where nothing that could be drawn has passed, the next in order is certain.
    """
    before = decision.outcomes
    if not passed:
        return certain(judged, ())
    # A fallback is the first of its order.
    chances = certain(judged, decision.order).candidates if before.fallback else before.candidates
    if all(position in passed for position, chance in enumerate(chances) if chance):
        return before
    if total := sum(chances[position] for position in passed):
        chances = tuple(chance / total if position in passed else 0.0 for position, chance in enumerate(chances))
    else:
        chances = certain(judged, passed).candidates
    bound = before.kl_bound
    if bound is not None:
        # What takes another's place is not drawn by its rank; a bound of any choice holds all the same: the larger.
        left = [position for position in decision.order if judged[position].second_check is None or position in passed]
        left += [position for position, one in enumerate(judged) if one.cut_off]
        bound = max(bound, kl_to_any(judged, left, chances))
    return replace(before, candidates=before.candidates if before.fallback else chances, kl_bound=bound)
