"""The cascade: cheap scorers give candidates up, so that the reward model reads fewer. The pure part.

    all that may still win -> the best `keep` by the first scorer -> the best `keep` by the next -> the reward decides

With 16 candidates, a 0.6B model that keeps 4 and an 8B model that decides, the scoring costs a third of what the 8B
model alone would (0.6*16 + 8*4 against 8*16). What is lost is what two scorers that disagree lose: the best by the last
may be given up by the first. A scorer that is missing gives nothing up.

Texts are counted, not candidates: those that say the same are asked about once and share their fate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.decoding.candidate import Judged
from gateway.profile_settings import PruneStage
from gateway.scoring import ScorerHandle
from scorers.contract import Score


@dataclass(frozen=True, slots=True)
class Step:
    """One scorer's turn. keep: how many of the best by it go on; None: it decides."""

    scorer: ScorerHandle
    keep: int | None = None


def steps_of(
    prune: Sequence[PruneStage], reward: str | None, scorers: Mapping[str, ScorerHandle], n: int
) -> tuple[Step, ...]:
    """The turns of a profile's scorers on n candidates: the stages that could give something up, then the reward."""
    if reward is None:
        return ()
    stages = (Step(scorers[stage.scorer], stage.keep) for stage in prune if stage.keep < n)
    return (*stages, Step(scorers[reward]))


def contenders(judged: Sequence[Judged], *, unjudged_passes: bool) -> list[int]:
    """Positions of those that may still win: the safe ones, of which those that break the form lose to any other."""
    safe = [position for position, one in enumerate(judged) if one.safe(unjudged_passes)]
    return [position for position in safe if judged[position].broken is None] or safe


def scored(judged: Judged, step: Step, score: Score, scored_s: float) -> Judged:
    """The candidate with what one more scorer said of it."""
    scores = {**judged.scores, step.scorer.version: score}
    if step.keep is not None:
        return replace(judged, scores=scores, prior=score.value, scored_s=scored_s)
    return replace(
        judged,
        scores=scores,
        reward=score.value,
        reward_error=score.error,
        calibrated=score.calibrated,
        scored_s=scored_s,
    )


def going_on(scores: Mapping[bytes, Score], keep: int) -> list[bytes] | None:
    """Of the texts that a stage was asked about, in order, those that go on; None where it said nothing of any.

    Ties go to the earlier. A text whose score is missing is not given up for that, and takes nobody's place.
    """
    values = {text: score.value for text, score in scores.items() if score.value is not None}
    if not values:
        return None
    best = set(sorted(values, key=lambda text: -values[text])[:keep])
    return [text for text in scores if text in best or text not in values]
