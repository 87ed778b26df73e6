import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.release.budget import THUMBS
from gateway.release.counts import ArmCounts, Counts
from gateway.release.judging import DAY, HOUR, Decision, judge
from gateway.release.reading import RATIO, TOGETHER, Reading
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Bundle, Canary

CONFIG = ReleaseConfig()
BEGAN = 1_000_000.0


def canary(stage: int = 2, phase: str = "canary", **changed: object) -> Canary:
    made = Canary(
        bundle=Bundle(release=2), control=Bundle(release=1), salt="s", phase="canary", began=BEGAN, stage_began=BEGAN
    )
    return msgspec.structs.replace(made, stage=stage, phase=phase, **changed)


def arm(users: int, up: int = 0, down: int = 0, **first: int) -> ArmCounts:
    return ArmCounts(users=users, interactions=3 * users, first={"up": up, "down": down, **first})


# As the stage of 25 % draws them, with 60 % thumbs up in both groups.
ALIKE = Counts(challenger=arm(20_000, 6_000, 4_000), control=arm(75_000, 22_500, 15_000))
FEW = Counts(challenger=arm(200, 60, 40), control=arm(750, 225, 150))


def decided(counts: Counts, days: float = 4.0, one: Canary | None = None, config: ReleaseConfig = CONFIG) -> Decision:
    return judge(config, one or canary(), counts, BEGAN + days * DAY)


def reading(decision: Decision, signal: str) -> Reading:
    return next(one for one in decision.readings if one.signal == signal)


# Going on.


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_ends_after_its_hours_with_its_users(stage: int) -> None:
    share = [0.01, 0.04 / 0.99][stage]
    counts = Counts(challenger=arm(round(5_000 * share)), control=arm(round(5_000 * (1 - share))))
    assert decided(counts, 23.9 / 24, canary(stage)).act == "stay"
    following = decided(counts, 24.1 / 24, canary(stage))
    assert following.act == "next"
    assert f"{counts.challenger.users} users with the challenger" in following.why
    fewer = Counts(challenger=arm(49), control=arm(round(49 / share)))
    waiting = decided(fewer, 5.0, canary(stage))
    assert waiting.act == "stay" and "release.min_users" in waiting.why


def test_a_challenger_that_is_shown_to_be_as_good_is_promoted() -> None:
    decision = decided(ALIKE)
    assert decision.act == "promote"
    thumbs = reading(decision, THUMBS)
    assert thumbs.low is not None and thumbs.low > -CONFIG.margin and thumbs.ok
    assert "+0.0 points" in decision.why and "6000 of 10000 with the challenger" in decision.why


def test_what_cannot_be_shown_yet_is_held() -> None:
    decision = decided(FEW)
    assert decision.act == "hold" and "min_votes" in decision.why
    some = Counts(challenger=arm(2_000, 600, 400), control=arm(7_500, 2_250, 1_500))
    decision = decided(some)
    assert decision.act == "hold" and "release.margin" in decision.why


def test_no_promotion_before_min_days() -> None:
    assert decided(ALIKE, 2.9).act == "stay"
    # Of the whole canary, while the stage's own hours have begun anew.
    late = canary(stage_began=BEGAN + 3.5 * DAY)
    assert decided(ALIKE, 4.0, late).act == "stay"
    assert decided(ALIKE, 4.6, late).act == "promote"


def test_two_operators_are_waited_for_where_that_is_wanted() -> None:
    config = ReleaseConfig(two_person=True)
    assert [decided(ALIKE, 4.0, canary(approvals=by), config).act for by in ((), ("ann",), ("ann", "bob"))] == [
        "hold",
        "hold",
        "promote",
    ]
    assert "approved by ann" in decided(ALIKE, 4.0, canary(approvals=("ann",)), config).why


def test_what_an_operator_holds_goes_nowhere_but_back() -> None:
    held = canary(held="wait for the press", held_by="ann")
    decision = decided(ALIKE, one=held)
    assert decision.act == "hold" and "ann holds it: wait for the press" in decision.why
    assert decided(broken("error"), one=held).act == "roll_back"
    assert decided(ALIKE, 22.0, held).act == "expire"
    # Its own hold is looked at again.
    assert decided(ALIKE, one=canary(held="too few votes")).act == "promote"


def test_nothing_is_promoted_without_a_control_group() -> None:
    config = ReleaseConfig(stages=[1.0], hold_back=0.0)
    everybody = Counts(challenger=arm(1_000, 500, 400))
    assert decided(everybody, 4.0, canary(0), config).act == "stay"
    assert decided(everybody, 22.0, canary(0), config).act == "expire"
    # A stage that compares nothing, since it is below compare_from.
    late = ReleaseConfig(compare_from=0.9)
    decision = decided(ALIKE, 4.0, canary(), late)
    assert decision.act == "hold" and "nobody to compare it with" in decision.why


# Harm.


def broken(signal: str, hits: int = 60) -> Counts:
    return Counts(challenger=arm(200, **{signal: hits}), control=arm(750, **{signal: 10}))


@pytest.mark.parametrize("signal", ["error", "unsafe", "complaint", "regenerated"])
@pytest.mark.parametrize("days", [0.01, 4.0, 30.0])
def test_harm_takes_it_back_at_once_and_at_any_time(signal: str, days: float) -> None:
    decision = decided(broken(signal), days)
    assert decision.act == "roll_back"
    assert "60 of 200 with the challenger, 10 of 750 with the control" in decision.why
    assert reading(decision, signal).harm and reading(decision, TOGETHER).harm


def test_fewer_thumbs_up_take_it_back() -> None:
    worse = Counts(challenger=arm(2_000, 500, 500), control=arm(7_500, 2_250, 1_500))
    decision = decided(worse, 0.1)
    assert decision.act == "roll_back" and "500 of 1000 with the challenger" in decision.why
    # Not in a stage that has too few users to tell tastes.
    ratio = Counts(challenger=arm(76, 19, 19), control=arm(7_500, 2_250, 1_500))
    assert decided(ratio, 0.1, canary(0)).act == "stay"


def test_slow_answers_count_where_they_are_watched() -> None:
    assert decided(broken("slow")).act != "roll_back"
    assert decided(broken("slow"), config=ReleaseConfig(slow_ms=2000.0)).act == "roll_back"


def test_people_who_stop_voting_are_harm() -> None:
    silent = Counts(challenger=arm(2_000, 100, 60), control=arm(7_500, 2_250, 1_500))
    assert reading(decided(silent), "up").harm


def test_signals_that_are_nearly_harm_are_harm_together() -> None:
    counts = Counts(
        challenger=arm(400, 38, 60, complaint=80, regenerated=105),
        control=arm(1_500, 240, 160, complaint=180, regenerated=260),
    )
    decision = decided(counts, 0.5)
    assert not any(one.harm for one in decision.readings if one.signal != TOGETHER)
    assert decision.act == "roll_back" and "all signals together" in decision.why
    assert [one.split(":")[0].strip() for one in decision.why.split(";")[1:]] == [
        "thumbs up among first votes",
        "users with a complaint",
    ]


# The ratio.


def test_groups_that_are_not_as_drawn_hold_it() -> None:
    lost = msgspec.structs.replace(ALIKE, challenger=arm(15_000, 4_500, 3_000))
    decision = decided(lost)
    assert decision.act == "hold" and "not as they were drawn" in decision.why
    assert not reading(decision, RATIO).ok and not reading(decision, RATIO).harm
    assert decided(lost, 22.0).act == "expire"
    # Harm is harm all the same.
    failing = msgspec.structs.replace(lost, challenger=arm(15_000, 4_500, 3_000, error=9_000))
    assert decided(failing).act == "roll_back"
    # As many complaints as the control has is no harm, though of the drawn number of users it would be.
    missing = Counts(challenger=arm(20_000, complaint=2_000), control=arm(50_000, complaint=5_000))
    assert decided(missing).act == "hold"


# The end.


@pytest.mark.parametrize("phase", ["preparing", "shadow"])
def test_before_anybody_has_it_it_only_grows_old(phase: str) -> None:
    one = canary(0, phase)
    assert decided(Counts(), 1.0, one).act == "stay"
    assert decided(Counts(), 22.0, one).act == "expire"


def test_an_expired_one_says_what_it_waited_for() -> None:
    decision = decided(FEW, 21.5)
    assert decision.act == "expire"
    assert "21.5 days" in decision.why and "100 first votes with the challenger" in decision.why


def test_the_watch_looks_for_harm_and_ends() -> None:
    watched = canary(3, "watch", stage_began=BEGAN + 10 * DAY)
    calm = Counts(challenger=arm(14_000, 4_200, 2_800), control=arm(1_000, 300, 200))
    assert decided(calm, 16.9, watched).act == "stay"
    assert decided(calm, 17.1, watched).act == "watched"
    bad = Counts(challenger=arm(14_000, 3_200, 3_800), control=arm(1_000, 300, 200))
    assert decided(bad, 10.5, watched).act == "roll_back"
    assert decided(bad, 17.1, watched).act == "roll_back"
    lost = Counts(challenger=arm(9_000), control=arm(1_000))
    assert [decided(lost, days, watched).act for days in (12.0, 17.1)] == ["hold", "watched"]


def test_decisions_can_be_kept_as_json() -> None:
    for decision in (decided(ALIKE), decided(broken("error", 190)), decided(Counts())):
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


# Properties.


@st.composite
def arms(draw: st.DrawFn, scale: int) -> ArmCounts:
    users = draw(st.integers(0, 200)) * scale
    voters = draw(st.integers(0, users))
    up = draw(st.integers(0, voters))
    first = {signal: draw(st.integers(0, users)) // draw(st.sampled_from([1, 10, 1000])) for signal in SIGNALS}
    return ArmCounts(users=users, interactions=users, first={"up": up, "down": voters - up, **first})


SIGNALS = ("complaint", "error", "unsafe", "regenerated", "slow")
any_counts = st.builds(Counts, challenger=arms(100), control=arms(300))
any_canary = st.builds(
    canary,
    st.integers(0, 3),
    st.sampled_from(["preparing", "shadow", "canary", "watch"]),
    held_by=st.sampled_from(["", "ann"]),
    approvals=st.sampled_from([(), ("ann",), ("ann", "bob")]),
)
any_config = st.builds(
    ReleaseConfig,
    two_person=st.booleans(),
    margin=st.sampled_from([0.02, 0.2]),
    slow_ms=st.sampled_from([None, 100.0]),
    stages=st.sampled_from([[0.01, 0.05, 0.25, 1.0], [1.0], [0.5, 1.0]]),
)
any_days = st.floats(0, 40)


@given(any_config, any_canary, any_counts, any_days)
def test_it_never_promotes_without_the_bound(config: ReleaseConfig, one: Canary, counts: Counts, days: float) -> None:
    decision = decided(counts, days, one, config)
    if decision.act in ("promote", "next"):
        assert one.phase == "canary" and not one.held_by
        assert days * DAY >= config.min_hours * HOUR
        assert min(counts.challenger.users, counts.control.users) >= config.min_users
        assert reading(decision, RATIO).ok and not any(each.harm for each in decision.readings)
    if decision.act == "promote":
        thumbs = reading(decision, THUMBS)
        assert thumbs.low is not None and thumbs.low > -config.margin
        assert min(thumbs.challenger[1], thumbs.control[1]) >= config.min_votes
        assert days >= config.min_days
        assert len(one.approvals) >= 2 or not config.two_person
        assert one.stage >= len(config.stages) - 2


@given(any_config, any_canary, any_counts, any_days, st.sampled_from([*SIGNALS, "vote"]))
def test_more_harm_never_saves_a_challenger(
    config: ReleaseConfig, one: Canary, counts: Counts, days: float, what: str
) -> None:
    before = decided(counts, days, one, config)
    first = dict(counts.challenger.first)
    if what == "vote":
        assume(first["up"] > 0)
        first |= {"up": first["up"] - 1, "down": first["down"] + 1}
    else:
        first[what] += 1
    worse = msgspec.structs.replace(counts, challenger=msgspec.structs.replace(counts.challenger, first=first))
    after = decided(worse, days, one, config)
    if before.act == "roll_back":
        assert after.act == "roll_back"
    for earlier, later in zip(before.readings, after.readings, strict=True):
        assert later.harm or not earlier.harm


@given(any_config, any_canary, any_counts, any_days)
def test_it_always_ends(config: ReleaseConfig, one: Canary, counts: Counts, days: float) -> None:
    act = decided(counts, days, one, config).act
    if one.phase == "watch":
        assert act in ("stay", "hold", "roll_back", "watched")
        if days >= config.watch_days:
            assert act in ("roll_back", "watched")
    elif days >= config.expire_days:
        assert act in ("roll_back", "expire", "promote")


@given(any_config, any_canary, any_counts, any_days)
def test_every_decision_says_why_in_a_sentence(config: ReleaseConfig, one: Canary, counts: Counts, days: float) -> None:
    decision = decided(counts, days, one, config)
    assert decision.why and "None" not in decision.why and "nan" not in decision.why
    assert decision == decided(counts, days, one, config)
