"""A rule on logged candidates gives what the chooser gave when they were served."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.hindsight import by_rule
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.card import FORMAT, LengthPoint, ModelCard
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import Floor, SelectionConfig
from gateway.log.records import Interaction, Verdict, decode_interaction, encode
from gateway.recording import candidate_records
from scorers.calibration.quantiles import law_of
from scorers.contract import Score
from tests.gateway.log.log_samples import interaction

CARD = ModelCard(
    format=FORMAT,
    model="demo",
    policy="demo@1",
    reward_model="reward@1",
    created=0.0,
    prompts=2,
    answers=4,
    law=law_of([0.0, 1.0]),
    deviation=2.0,
    residuals=[-1.0, 1.0],
    mean_tokens=10.0,
    length=[LengthPoint(0.0, 0.0), LengthPoint(20.0, 4.0)],
)
RULES = [
    SelectionConfig(),
    SelectionConfig(explore=0.25),
    SelectionConfig(rule="soft", temperature=0.3),
    SelectionConfig(rule="poisson", mean=2.0, explore=0.1),
    SelectionConfig(rule="pessimism", beta=0.7),
    SelectionConfig(rule="soft", length=True),
    SelectionConfig(rule="soft", floor=Floor(part="harmless", least=0.0)),
]
FLAGGED, UNJUDGED = Verdict({"violence": 0.9}, ["violence"]), Verdict(error="No answer.")


@st.composite
def judged(draw: st.DrawFn) -> list[Judged]:
    """Candidates after one prune stage: some of them unsafe, unscored, broken, given up or saying the same."""
    found = []
    for index in range(draw(st.integers(1, 6))):
        text, tokens = draw(st.sampled_from("abcdefgh")), draw(st.integers(1, 20))
        candidate = Candidate(
            index, 0, None, {"role": "assistant", "content": text}, "stop", None, None, None, tokens, float(index)
        )
        prior = draw(st.floats(-3, 3))
        scores = {"small@1": Score(value=prior)}
        pruned = draw(st.booleans())
        reward = None if pruned else draw(st.none() | st.floats(-3, 3))
        if reward is not None:
            scores["reward@1"] = Score(value=reward, parts={"harmless": draw(st.floats(-1, 2))})
        elif not pruned:
            scores["reward@1"] = Score(error="It is too long.")
        found.append(
            Judged(
                candidate,
                reward,
                None,
                draw(st.sampled_from([Verdict({"violence": 0.1}), FLAGGED, None])),
                float(index),
                broken=draw(st.sampled_from([None, None, "It is no JSON."])),
                scores=scores,
                prior=prior,
                stages=int(not pruned),
                pruned_by="small@1" if pruned else None,
                second_check=draw(st.sampled_from([None, None, FLAGGED])),
            )
        )
    return found


def record(of: list[Judged], chooser: Chooser, **changes: object) -> Interaction:
    """As it is logged and read again."""
    ranking = chooser.rank(of)
    candidates = candidate_records(of, ranking.outcomes, 0.0, keep_token_ids=False)
    return decode_interaction(
        encode(msgspec.structs.replace(interaction(candidates=candidates, delivered=[]), **changes))
    )


@pytest.mark.parametrize("settings", RULES, ids=lambda settings: settings.label)
@given(judged())
def test_the_rule_in_force_gives_what_was_logged(settings: SelectionConfig, of: list[Judged]) -> None:
    for cards in ({}, {"demo": CARD}):
        logged = record(of, Chooser(settings, card=cards.get("demo")))
        target = by_rule(settings, cards)
        assert list(target(logged)) == pytest.approx([one.propensity for one in logged.candidates])


def two(first: Verdict | None = None) -> list[Judged]:
    return [
        Judged(
            Candidate(index, 0, None, {"role": "assistant", "content": str(index)}, "stop", None, None, None, 1, 0.0),
            float(index),
            None,
            first if index == 0 else None,
            0.0,
        )
        for index in range(2)
    ]


def test_a_card_of_other_versions_is_not_used() -> None:
    pessimism = SelectionConfig(rule="pessimism", beta=0.7)
    logged = record(two(), Chooser())
    with_card, without = by_rule(pessimism, {"demo": CARD})(logged), by_rule(pessimism, {})(logged)
    assert with_card != without
    for other in ({"policy": "demo@2"}, {"reward_model": "reward@2"}, {"model": "another"}):
        assert by_rule(pessimism, {"demo": CARD})(record(two(), Chooser(), **other)) == without


def test_what_the_guard_could_not_judge_passes_where_it_was_delivered() -> None:
    uniform = SelectionConfig(explore=1.0)
    of = two(UNJUDGED)
    assert by_rule(uniform, {})(record(of, Chooser())) == (0.0, 1.0)
    assert by_rule(uniform, {})(record(of, Chooser(), delivered=[0])) == (0.5, 0.5)


def test_without_a_reward_model_no_rule_draws() -> None:
    unscored = [replace(one, reward=None) for one in two()]
    logged = record(unscored, Chooser(rewarded=False), reward_model=None)
    assert by_rule(SelectionConfig(explore=1.0), {})(logged) == (1.0, 0.0)
