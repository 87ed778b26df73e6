"""A scorer with its calibration: rewards get their quantile, probabilities their temperature."""

from msgspec.structs import replace

from scorers.calibration.calibration import Calibration
from scorers.calibration.temperature import scaled
from scorers.contract import Score, ScoreRequest, ScorerInfo, ServedScorer


class CalibratedScorer:
    """Wraps a scorer. `raw` requests pass through as they are; the raw reward stays `value` always."""

    def __init__(self, inner: ServedScorer, calibration: Calibration) -> None:
        self._inner = inner
        self.calibration = calibration

    @property
    def info(self) -> ScorerInfo:
        return self._inner.info

    @property
    def waiting(self) -> int:
        return self._inner.waiting

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract."""
        scores = await self._inner.score(request)
        return scores if request.raw else [self._calibrated(score) for score in scores]

    def _calibrated(self, score: Score) -> Score:
        law, fits = self.calibration.reward, self.calibration.categories
        if score.value is not None and law is not None:
            return replace(score, calibrated=law.rank(score.value))
        if score.categories is not None and fits:
            return replace(
                score,
                categories={
                    name: scaled(probability, fits[name].temperature) if name in fits else probability
                    for name, probability in score.categories.items()
                },
            )
        return score

    async def close(self) -> None:
        await self._inner.close()
