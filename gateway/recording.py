"""What a finished request leaves behind: its record, and the counts in the metrics."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.answers import Answer
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection.chooser import Outcomes
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision
from gateway.log.privacy.identity import unnamed, without_user
from gateway.log.records import (
    CandidateRecord,
    Comparison,
    Interaction,
    Outcome,
    ReleaseRecord,
    Round,
    ScoreRecord,
    Selection,
    Timings,
    Usage,
    Verdict,
)
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.serving import Exchange

# What of the request's body is logged elsewhere, or not at all.
_UNLOGGED = ("messages", "prompt", "cache_salt")
_LOGPROB_DIGITS = 6


def interaction_of(
    exchange: "Exchange",
    outcome: Outcome,
    timings: Timings,
    status: int,
    error: str | None,
    answer: Answer | None,
    decision: Decision | None,
) -> Interaction:
    """The record of a request, however it ended. decision: what its strategy decided, if it came to that."""
    plan, request, sampler = exchange.plan, exchange.request, exchange.sampler
    judged = decision.judged if decision else tuple(exchange.progress.judged)
    delivered = [judged.index(one) for one in answer.delivered] if answer else []
    keep_token_ids = exchange.service.config.log.token_ids
    outcomes = decision.outcomes if decision else None
    return Interaction(
        id=exchange.id,
        created=exchange.created,
        model=plan.model,
        profile=plan.profile.version,
        policy=plan.policy_version,
        strategy=exchange.followed(decision),
        outcome=outcome,
        messages=unnamed(request.messages, request.user),
        parameters=without_user(
            {key: value for key, value in sampler.body.items() if key not in _UNLOGGED}, request.user, request.session
        ),
        candidates=candidate_records(
            judged, outcomes, exchange.loop_started, keep_token_ids=keep_token_ids, delivered=delivered
        ),
        reward_model=exchange.reward_model,
        safety_model=exchange.guard.version if exchange.guard else None,
        second_check=exchange.second_check.version if exchange.second_check else None,
        reference=exchange.conversation.reference,
        prompt_verdict=exchange.prompt_verdict,
        chosen=delivered[0] if delivered else None,
        delivered=delivered,
        n=exchange.n,
        asked=exchange.wanted if exchange.n != exchange.wanted else None,
        seed=plan.seed,
        stream=request.stream,
        stream_mode=(plan.live or "hold") if request.stream else None,
        endpoint=request.endpoint,
        degraded=answer.degraded if answer else None,
        error=error,
        status=status,
        user=exchange.user,
        tenant=exchange.tenant,
        tier=plan.tier,
        session=exchange.session,
        previous=request.previous,
        usage=Usage(
            prompt_tokens=sampler.prompt_tokens,
            completion_tokens=answer.completion_tokens if answer else 0,
            sampled_tokens=sampler.sampled_tokens,
        ),
        timings=timings,
        selection=_selection(plan.selection, exchange.reward is not None, outcome, outcomes),
        rounds=round_records(decision.rounds, keep_token_ids=keep_token_ids) if decision else [],
        training=exchange.training,
        comparison=_comparison(answer),
        release=None if plan.route.record == ReleaseRecord() else plan.route.record,
    )


def _comparison(answer: Answer | None) -> Comparison | None:
    if answer is None or (found := answer.comparison) is None:
        return None
    shown = [one.candidate.index for one in found.shown]
    return Comparison(shown, found.against, found.share, found.propensity)


def _selection(
    settings: SelectionConfig, rewarded: bool, outcome: Outcome, outcomes: Outcomes | None
) -> Selection | None:
    if outcome == "refused_prompt":
        return Selection("guard", refusal=1.0)
    if outcomes is None:
        return None
    rule = settings.label if rewarded else "first"
    return Selection(rule, outcomes.refusal, outcomes.fallback, outcomes.kl_bound)


def candidate_records(
    judged: Sequence[Judged],
    outcomes: Outcomes | None,
    started_s: float,
    *,
    keep_token_ids: bool,
    delivered: Collection[int] = (),
) -> list[CandidateRecord]:
    """One record a candidate. started_s: the request's arrival on the event loop's clock.

    delivered: positions of those whose log-probabilities are kept, where token ids are.
    """
    return [
        CandidateRecord(
            index=one.candidate.index,
            message=one.candidate.message,
            finish_reason=one.candidate.finish_reason,
            completion_tokens=one.candidate.completion_tokens,
            wave=one.candidate.wave,
            seed=one.candidate.seed,
            token_ids=one.candidate.token_ids if keep_token_ids else None,
            stop_reason=one.candidate.stop_reason,
            reward=one.reward,
            reward_error=one.reward_error,
            verdict=one.verdict,
            propensity=outcomes.candidates[position] if outcomes else 0.0,
            broken=one.broken,
            finished_ms=since(started_s, one.candidate.finished_s),
            scored_ms=since(started_s, one.scored_s),
            scores={
                version: ScoreRecord(score.value, score.calibrated, score.parts, score.steps, score.error)
                for version, score in one.scores.items()
            },
            pruned_by=one.pruned_by,
            second_check=one.second_check,
            logprobs=_logprobs(one.candidate) if keep_token_ids and position in delivered else None,
        )
        for position, one in enumerate(judged)
    ]


def _logprobs(candidate: Candidate) -> list[float] | None:
    """One for each token id, or None: what a worker's parser keeps to itself has neither."""
    ids, found = candidate.token_ids, candidate.token_logprobs
    if not ids or not found or len(ids) != len(found):
        return None
    return [round(one, _LOGPROB_DIGITS) for one in found] if all(isinstance(one, float) for one in found) else None


def round_records(rounds: Sequence[Round], *, keep_token_ids: bool) -> list[Round]:
    """What was sampled on the way, as it is kept."""
    if keep_token_ids:
        return list(rounds)
    return [Round([msgspec.structs.replace(piece, token_ids=None) for piece in one.pieces]) for one in rounds]


def count_interaction(metrics: Metrics, record: Interaction, policy: str) -> None:
    """Every number comes from the record, so that metrics and log cannot disagree."""
    metrics.outcomes.labels(record.model, record.outcome).inc()
    if record.degraded:
        metrics.degraded.labels(record.model, record.degraded).inc()
    metrics.tokens.labels(policy, "prompt").inc(record.usage.prompt_tokens)
    metrics.tokens.labels(policy, "sampled").inc(record.usage.sampled_tokens)
    metrics.tokens.labels(policy, "delivered").inc(record.usage.completion_tokens)
    metrics.overhead_seconds.observe(record.timings.overhead_ms / 1000)
    _count_flags(metrics, "prompt", record.prompt_verdict)
    if (kind := _selected(record)) is not None:
        metrics.selections.labels(record.model, kind).inc()
    if record.candidates:
        metrics.scoring_tail_seconds.observe(record.timings.scoring_tail_ms / 1000)
    for position, candidate in enumerate(record.candidates):
        metrics.candidates.labels(policy, _fate(candidate, position in record.delivered)).inc()
        _count_flags(metrics, "candidate", candidate.verdict)
        _count_flags(metrics, "second_check", candidate.second_check)


def _selected(record: Interaction) -> str | None:
    """Whether chance had a say in what was delivered; None where no rule chose it."""
    winner = record.winner
    if record.outcome != "delivered" or winner is None or not winner.propensity:
        return None
    if winner.propensity >= 1.0:
        return "certain"
    likeliest = all(winner.propensity >= one.propensity for one in record.candidates)
    return "likeliest" if likeliest else "other"


def _count_flags(metrics: Metrics, stage: str, verdict: Verdict | None) -> None:
    if verdict is None:
        return
    for name in verdict.flagged:
        action = "block" if name in verdict.blocked else "refuse"
        metrics.flagged.labels(stage, metrics.category(name), action).inc()
    for name in verdict.noted:
        metrics.flagged.labels(stage, metrics.category(name), "flag").inc()


def _fate(candidate: CandidateRecord, delivered: bool) -> str:
    verdicts = [verdict for verdict in (candidate.verdict, candidate.second_check) if verdict is not None]
    if delivered:
        return "delivered"
    if any(verdict.flagged for verdict in verdicts):
        return "flagged"
    if any(verdict.error for verdict in verdicts):
        return "unjudged"
    return "pruned" if candidate.pruned_by else "passed_over"


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def since(start_s: float, end_s: float | None) -> float | None:
    """Milliseconds from start to end, or None where there was no end."""
    return None if end_s is None else milliseconds(end_s - start_s)
