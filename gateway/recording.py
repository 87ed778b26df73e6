"""What a finished request leaves behind: the candidates' records, and the counts in the metrics."""

from collections.abc import Sequence

from gateway.decoding.candidate import Judged
from gateway.log.records import CandidateRecord, Interaction, ScoreRecord, Verdict
from gateway.telemetry.metrics import Metrics


def candidate_records(
    judged: Sequence[Judged], propensities: Sequence[float] | None, started_s: float, *, keep_token_ids: bool
) -> list[CandidateRecord]:
    """One record a candidate. started_s: the request's arrival on the event loop's clock."""
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
            propensity=propensities[position] if propensities else 0.0,
            broken=one.broken,
            finished_ms=since(started_s, one.candidate.finished_s),
            scored_ms=since(started_s, one.scored_s),
            scores={
                version: ScoreRecord(score.value, score.calibrated, score.parts, score.steps, score.error)
                for version, score in one.scores.items()
            },
            pruned_by=one.pruned_by,
            second_check=one.second_check,
        )
        for position, one in enumerate(judged)
    ]


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
    if record.candidates:
        metrics.scoring_tail_seconds.observe(record.timings.scoring_tail_ms / 1000)
    for position, candidate in enumerate(record.candidates):
        metrics.candidates.labels(policy, _fate(candidate, position in record.delivered)).inc()
        _count_flags(metrics, "candidate", candidate.verdict)
        _count_flags(metrics, "second_check", candidate.second_check)


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
