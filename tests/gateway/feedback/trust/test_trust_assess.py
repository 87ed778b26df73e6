from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.feedback.trust import history
from gateway.feedback.trust.assess import Assessment, assess
from gateway.feedback.trust.consensus import FLOOR
from gateway.feedback.trust.decisions import Decision, Verdict
from tests.gateway.feedback.trust.traffic import DAY, SETTINGS, START, World, campaign, natural, popular


def attacked(seed: int) -> tuple[World, set[str]]:
    """Honest people, a campaign, a bot and a stranger: and the ids of the last three's votes."""
    world = World(seed)
    natural(world)
    popular(world)
    attack = campaign(world)
    for number in range(60):
        asked = world.ask(world.prompt(), world.answers(), user="bot", at=START + 2 * DAY + number)
        attack.add(world.vote(asked, user="bot", at=START + 2 * DAY + number, key="app").id)
    for number, target in enumerate([one for one in world.interactions if one.user != "user1"][:25]):
        attack.add(world.vote(target, False, user="user1", at=START + 3 * DAY + number * 1800, key="app").id)
    return world, attack


def judged(world: World, **decisions: Verdict) -> Assessment:
    """decisions: `user_bot="released"` is that of the subject user:bot."""
    subjects = {name.replace("_", ":", 1): verdict for name, verdict in decisions.items()}
    said = {one: Decision(one, verdict, "cli:op@host", START, "known to us") for one, verdict in subjects.items()}
    return assess(world.interactions, world.votes, SETTINGS, said)


def test_attackers_are_set_aside_and_honest_people_are_not() -> None:
    for seed in range(3):
        world, attack = attacked(seed)
        assert {one.vote.id for one in judged(world).quarantined} == attack


def test_of_honest_traffic_next_to_nothing_is_set_aside(report: Callable[[str], None]) -> None:
    wrong = votes = 0
    for seed in range(8):
        world = World(seed)
        natural(world, users=80, votes=800)
        popular(world)
        wrong, votes = wrong + len(judged(world).quarantined), votes + len(world.votes)
    report(f"honest votes set aside: {wrong} of {votes:,} (8 seeds)")
    assert wrong <= votes / 1000


def test_every_vote_that_stands_has_a_weight_between_0_and_1_and_what_is_set_aside_has_0() -> None:
    world, _ = attacked(1)
    found = judged(world)
    assert set(found.by_id) == {vote.id for vote in world.votes}
    for one in found.by_id.values():
        assert 0 <= one.weight <= 1
        assert (one.weight == 0) == one.quarantined
        assert one.reasons or not one.quarantined


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_order_and_doubles_change_nothing(seed: int) -> None:
    world, _ = attacked(2)
    random = Random(seed)
    interactions, votes = list(world.interactions), list(world.votes)
    votes += random.sample(votes, 50)
    interactions += random.sample(interactions, 50)
    random.shuffle(interactions)
    random.shuffle(votes)
    before, after = judged(world), assess(interactions, votes, SETTINGS)
    assert list(before.by_id) == list(after.by_id)
    for identifier, one in before.by_id.items():
        other = after[identifier]
        assert (one.weight, one.quarantined, one.reasons) == (other.weight, other.quarantined, other.reasons)


def test_a_changed_or_retracted_vote_counts_as_it_stands() -> None:
    world = World(1)
    asked = world.ask("Why?", ["So."], user="ann", at=START)
    old = world.vote(asked, True, user="ann", at=START)
    new = world.vote(asked, False, user="ann", at=START + 1)
    gone = world.vote(asked, True, user="bob", at=START + 2)
    world.vote(asked, None, user="bob", at=START + 3, retracted=True)
    found = judged(world)
    assert list(found.by_id) == [new.id]
    assert found.get(old.id) is None and found.get(gone.id) is None


def test_disagreement_alone_never_sets_a_vote_aside_however_strong() -> None:
    world = World(2)
    lonely = []
    for number in range(40):
        asked = world.ask(world.prompt(), world.answers(), user="contrary", at=START + number * 3600)
        for other in range(12):
            world.vote(asked, True, user=f"reader{other}", at=START + number * 3600 + other, key="app")
        lonely.append(world.vote(asked, False, user="contrary", at=START + number * 3600 + 60, key="app").id)
    found = judged(world)
    for identifier in lonely:
        one = found[identifier]
        assert not one.quarantined and one.weight > 0
        assert {"against_consensus", "unreliable"} <= {reason.code for reason in one.reasons}
    # Half of the history's floor and the consensus' floor, and nothing below.
    assert found[lonely[0]].weight == pytest.approx(history.FLOOR * FLOOR)


def test_who_agrees_with_others_over_time_comes_to_count_more_than_a_newcomer() -> None:
    world = World(3)
    for number in range(30):
        asked = world.ask(world.prompt(), world.answers(), user="x", at=START + number * 3600)
        for reader in ("ann", "bob", "cleo"):
            world.vote(asked, number % 3 > 0, user=reader, at=START + number * 3600, key="app")
    asked = world.ask(world.prompt(), world.answers(), user="new", at=START)
    new = world.vote(asked, True, user="new", at=START, key="app")
    found = judged(world)
    assert found[new.id].weight == history.NEWCOMER.weight
    assert min(one.weight for one in found.by_id.values() if one.vote.user != "new") > 0.7


def test_the_operators_word_wins_and_the_most_exact_word_first() -> None:
    world, _ = attacked(1)
    of_bot = {vote.id for vote in world.votes if vote.user == "bot"}
    free = judged(world, user_bot="released")
    assert not of_bot & {one.vote.id for one in free.quarantined}
    assert all(free[one].weight > 0 and free[one].reasons[0].code == "released" for one in of_bot)
    assert "cli:op@host said so: known to us" in free[next(iter(of_bot))].reasons[0].detail

    first = min(of_bot)
    said = {
        "user:bot": Decision("user:bot", "released", "op", START),
        f"vote:{first}": Decision(f"vote:{first}", "confirmed", "op", START),
    }
    found = assess(world.interactions, world.votes, SETTINGS, said)
    assert of_bot & {one.vote.id for one in found.quarantined} == {first}

    honest = next(vote for vote in world.votes if vote.user == "user5")
    found = judged(world, user_user5="confirmed")
    assert found[honest.id].quarantined and found[honest.id].reasons[0].code == "confirmed"


def test_a_vote_on_another_tenants_answer_is_never_counted_whatever_is_decided() -> None:
    world = World(4)
    asked = world.ask("Why?", ["So."], user="ann", at=START, tenant="bank")
    vote = world.vote(asked, False, user="ann", at=START, tenant="shop")
    found = judged(world, user_ann="released")
    assert found[vote.id].quarantined and found[vote.id].reasons[0].code == "other_tenant"


def test_votes_set_aside_teach_nothing_of_others() -> None:
    world = World(5)
    natural(world)
    before = judged(world)
    # A bot votes the opposite on everything: nobody's reliability or weight moves.
    for number, target in enumerate(list(world.interactions)):
        mine = next(vote for vote in world.votes if vote.interaction == target.id)
        world.vote(target, not mine.value, user="bot", at=START + 3 * DAY + number * 0.5, key="app")
    after = judged(world)
    for identifier, one in before.by_id.items():
        assert after[identifier].weight == one.weight


def test_a_vote_whose_interaction_is_not_there_is_weighed_by_the_rest() -> None:
    world = World(6)
    vote = world.vote("chatcmpl-00000000-0000-7000-8000-00000000ffff", user="ann", at=START)
    assert judged(world)[vote.id].weight == history.NEWCOMER.weight
