"""A scorer with a calibration file: what is added, what stays raw, and files that do not fit."""

from pathlib import Path

import pytest

from scorers.calibration.calibrated import CalibratedScorer
from scorers.calibration.calibration import FORMAT, Calibration, CategoryFit, read_calibration, write_calibration
from scorers.calibration.quantiles import law_of
from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.loading import Loading, load_scorer
from scorers.model_path import LoadError
from scorers.scorer_settings import RewardConfig
from scorers.settings import ScorerServerConfig

REQUEST = ScoreRequest("s", [{"role": "user", "content": "hi"}], [{"role": "assistant", "content": "ho"}])
RAW = ScoreRequest("s", REQUEST.messages, REQUEST.candidates, raw=True)
FIT = CategoryFit(temperature=2.0, texts=10, unsafe=5, ece_before=0.2, ece_after=0.1)


class Saying:
    """Answers every request with one score."""

    waiting = 0
    info = ScorerInfo("s", "reward", "value", "s@3", False, 100)

    def __init__(self, score: Score) -> None:
        self._score = score

    async def score(self, request: ScoreRequest) -> list[Score]:
        return [self._score]

    async def close(self) -> None:
        pass


def calibrated(score: Score) -> CalibratedScorer:
    law = law_of([0.0, 1.0, 2.0, 3.0, 4.0], "policy@1")
    return CalibratedScorer(Saying(score), Calibration(FORMAT, "s@3", 0.0, law, {"weapons": FIT}))


async def test_a_reward_stays_raw_and_gets_its_quantile() -> None:
    assert await calibrated(Score(value=1.5, tokens=9)).score(REQUEST) == [Score(value=1.5, calibrated=0.375, tokens=9)]


async def test_probabilities_are_scaled_where_the_category_was_calibrated() -> None:
    [score] = await calibrated(Score(categories={"weapons": 0.9, "fraud": 0.9})).score(REQUEST)
    assert score.categories == pytest.approx({"weapons": 0.75, "fraud": 0.9})


async def test_raw_requests_and_failures_pass_as_they_are() -> None:
    assert await calibrated(Score(categories={"weapons": 0.9})).score(RAW) == [Score(categories={"weapons": 0.9})]
    assert await calibrated(Score(value=1.5)).score(RAW) == [Score(value=1.5)]
    assert await calibrated(Score(error="no")).score(REQUEST) == [Score(error="no")]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.json"
    made = Calibration(FORMAT, "s@3", 5.0, law_of([1.0, 2.0], "policy@2"), {"weapons": FIT})
    write_calibration(path, made)
    assert read_calibration(path, "s@3") == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "no calibration"),
        ('{"format": 1, "scorer": "s@3"}', "created"),
        ('{"format": 9, "scorer": "s@3", "created": 0}', "format 9"),
        ('{"format": 1, "scorer": "s@2", "created": 0}', "measured on s@2, not on s@3"),
    ],
)
def test_a_file_that_does_not_fit_is_said_before_weights_are_loaded(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text)
    config = RewardConfig(kind="reward", model="no/model", version=3, calibration=path)
    with pytest.raises(LoadError, match=words):
        load_scorer("s", config, Loading(ScorerServerConfig()))
