"""What strategies that build answers piece by piece share: their beginnings as candidates, judged, and in the log."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.decoding.best_of_n import JUDGE_GRACE_S
from gateway.decoding.candidate import Candidate, Judged, identity
from gateway.decoding.pieces import Pieces, Prefix
from gateway.decoding.strategy import Judge, Sampler, Task
from gateway.errors import DeadlineExceeded
from gateway.log.records import Message, Piece
from scorers.contract import Score


async def pieces_in_time(task: Task, sampler: Sampler) -> Pieces | None:
    """The request piece by piece; None where it cannot be, or more than one answer is wanted. Raises ApiError."""
    if task.deliver > 1:
        return None
    try:
        async with asyncio.timeout_at(task.deadline):
            return await sampler.pieces()
    except TimeoutError:
        raise DeadlineExceeded("nothing was sampled in time", retry_after=5.0) from None


def as_candidate(index: int, prefix: Prefix) -> Candidate:
    """A beginning of an answer as the candidate that it would be if it ended here."""
    return Candidate(
        index=index,
        wave=0,
        seed=prefix.seed,
        message=prefix.message,
        finish_reason=prefix.finish_reason,
        stop_reason=prefix.stop_reason,
        logprobs=None,
        token_ids=list(prefix.token_ids),
        completion_tokens=len(prefix.token_ids),
        finished_s=prefix.finished_s,
        token_logprobs=None if prefix.token_logprobs is None else list(prefix.token_logprobs),
    )


async def judged_so_far(judge: Judge, prefixes: Sequence[Prefix], first: int = 0) -> list[Judged]:
    """Reward and verdict of each beginning, those that say the same asked about once. first: the index of the first.

    Whether it keeps the form that was asked for is not asked: a beginning never does.
    """
    said = [identity(prefix.message) for prefix in prefixes]
    texts = dict(zip(said, (prefix.message for prefix in prefixes), strict=True))
    answers = await asyncio.gather(
        *(asyncio.gather(judge.score(message), judge.check(message)) for message in texts.values())
    )
    known = dict(zip(texts, answers, strict=True))
    now = asyncio.get_running_loop().time()
    found = []
    for index, prefix in enumerate(prefixes):
        score, verdict = known[said[index]]
        score = score or Score()
        scores = {judge.scorer: score} if judge.scorer else {}
        candidate = as_candidate(first + index, prefix)
        found.append(Judged(candidate, score.value, score.error, verdict, now, None, score.calibrated, scores))
    return found


async def judged_whole(
    task: Task, judge: Judge, candidates: Sequence[Candidate], so_far: Sequence[Judged]
) -> list[Judged]:
    """Each answer judged as any other. so_far: what was said of the same texts before, which holds where it fails."""
    known = [replace(one, candidate=candidate) for one, candidate in zip(so_far, candidates, strict=True)]
    try:
        async with asyncio.timeout_at(task.deadline + JUDGE_GRACE_S):
            found = (await judge.settle(await judge.judge(candidates))).judged
    except TimeoutError:
        return known
    return [_completed(one, before) for one, before in zip(found, known, strict=True)]


def _completed(judged: Judged, before: Judged) -> Judged:
    if judged.unjudged:
        judged = replace(judged, verdict=before.verdict)
    if judged.reward is None and before.reward is not None:
        judged = replace(judged, reward=before.reward, reward_error=None, calibrated=before.calibrated)
    return judged


def piece_of(before: Prefix, after: Prefix, place: int, judged: Judged, propensity: float, *, kept: bool) -> Piece:
    """A piece for the log. place: of what it goes on from, in the round before."""
    tokens = after.token_ids[len(before.token_ids) :]
    return Piece(
        text=_said(after.message).removeprefix(_said(before.message)),
        tokens=len(tokens),
        after=place,
        token_ids=list(tokens),
        reward=judged.reward,
        reward_error=judged.reward_error,
        verdict=judged.verdict,
        finish_reason=after.finish_reason,
        propensity=propensity,
        kept=kept,
    )


def _said(message: Message) -> str:
    calls = (call.get("function") or {} for call in message.get("tool_calls") or ())
    arguments = (f"{call.get('name') or ''}{call.get('arguments') or ''}" for call in calls)
    return "".join([message.get("reasoning") or "", message.get("content") or "", *arguments])


def room(task: Task, sampler: Sampler, count: int, *, begun: bool) -> int | None:
    """How many tokens each of `count` more pieces may have by the token limit; None for any number.

    The first pieces of a request have at least one.
    """
    if task.token_limit is None:
        return None
    left = (task.token_limit - sampler.sampled_tokens) // count
    return left if begun else max(1, left)
