import math
from random import Random

import pytest

from gateway.feedback.trust.ballots import Item, Voter, ballots
from gateway.feedback.trust.history import FLOOR, NEWCOMER, PRIOR, Record, agreement, opinions, records
from tests.gateway.feedback.trust.traffic import START, World


def voter(name: str) -> Voter:
    return ("default", f"user:{name}")


def item(number: int) -> Item:
    return (f"chatcmpl-{number:04}", (0,))


def test_a_newcomer_counts_half_and_votes_that_nobody_shares_change_nothing() -> None:
    assert NEWCOMER.weight == 0.5
    alone = {item(number): {voter("ann"): 1} for number in range(100)}
    assert records(alone) == {}


def test_one_round_is_the_posterior_mean_of_the_beta_prior() -> None:
    said = {item(0): {voter("ann"): 1, voter("bob"): 1}, item(1): {voter("ann"): 1, voter("bob"): -1}}
    # The other, at the prior's mean 3/4, makes each vote right with probability 3/4 or 1/4.
    before, against = PRIOR
    expected = (before + 3 / 4 + 1 / 4) / (before + against + 2)
    found = records(said, rounds=1)[voter("ann")]
    assert found.shared == 2
    assert found.reliability == pytest.approx(expected)


def test_the_fixed_point_satisfies_its_own_equation() -> None:
    random = Random(1)
    names = [voter(str(number)) for number in range(6)]
    said = {
        item(i): dict(sorted((who, random.choice([1, 1, -1])) for who in random.sample(names, 3))) for i in range(40)
    }
    known = records(said, rounds=300)
    for who, record in known.items():
        chances = [agreement(of, known)[who] for of in said.values() if who in of]
        expected = (PRIOR[0] + math.fsum(chances)) / (sum(PRIOR) + len(chances))
        assert record.reliability == pytest.approx(expected, abs=1e-9)


def test_agreement_is_the_sum_of_the_others_log_odds() -> None:
    known = {voter("a"): Record(9, 0.9), voter("b"): Record(9, 0.8), voter("c"): Record(9, 0.3)}
    chances = agreement({voter("a"): 1, voter("b"): -1, voter("c"): -1}, known)
    # c is worse than a coin and counts nothing, not the opposite.
    assert chances[voter("a")] == pytest.approx(0.2)
    assert chances[voter("b")] == pytest.approx(0.1)
    assert chances[voter("c")] == pytest.approx(1 / (1 + math.exp(math.log(9) - math.log(4))))


def test_the_more_reliable_voter_is_told_by_agreement_over_time() -> None:
    random = Random(7)
    skill = {voter(f"good{n}"): 0.95 for n in range(8)} | {voter(f"noisy{n}"): 0.55 for n in range(4)}
    said = {}
    for number in range(200):
        truth = random.choice([1, -1])
        present = sorted(random.sample(sorted(skill), 6))
        said[item(number)] = {who: truth if random.random() < skill[who] else -truth for who in present}
    known = records(said)
    good = [known[who].reliability for who in skill if "good" in who[1]]
    noisy = [known[who].reliability for who in skill if "noisy" in who[1]]
    assert min(good) > 0.85 > 0.7 > max(noisy)
    assert min(known[who].weight for who in skill if "good" in who[1]) > NEWCOMER.weight


def test_whoever_always_disagrees_is_still_heard() -> None:
    said = {item(n): {voter("contrary"): -1} | {voter(str(other)): 1 for other in range(5)} for n in range(50)}
    assert records(said)[voter("contrary")].weight == FLOOR


def test_a_voter_who_says_both_things_of_an_answer_says_nothing() -> None:
    world = World(1)
    asked = world.ask("Why?", ["Because."], user="ann", at=START)
    world.vote(asked, True, user="ann", at=START)
    world.vote(asked, 1, user="ann", at=START, kind="rating")
    world.vote(asked, False, user="bob", at=START)
    cast = ballots({asked.id: asked}, world.votes)
    assert opinions(cast) == {(asked.id, (0,)): {voter("bob"): -1}}
