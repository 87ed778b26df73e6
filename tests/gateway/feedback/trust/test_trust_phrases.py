from collections.abc import Callable

from gateway.feedback.trust.ballots import ballots, by_id
from gateway.feedback.trust.phrases import campaigns, findings, like_of
from tests.gateway.feedback.trust.traffic import DAY, PHRASE, START, World, campaign, natural, popular


def flagged(world: World) -> set[str]:
    return set(findings(ballots(by_id(world.interactions), world.votes)))


def test_a_planted_campaign_is_found_among_natural_traffic(report: Callable[[str], None]) -> None:
    true, found, planted = 0, 0, 0
    for seed in range(10):
        world = World(seed)
        natural(world)
        popular(world)
        attack = campaign(world, voters=1 + seed % 4, votes=20 + 2 * seed)
        seen = flagged(world)
        true, found, planted = true + len(seen & attack), found + len(seen), planted + len(attack)
    precision, recall = true / found, true / planted
    report(
        f"pushed phrases, 10 seeds of 640 honest votes and 20 to 38 planted: precision {precision:.3f}, "
        f"recall {recall:.3f} ({planted} planted votes)"
    )
    assert precision >= 0.99 and recall >= 0.9


def test_how_far_rewording_hides_a_campaign_and_what_it_costs_honest_people(report: Callable[[str], None]) -> None:
    recalls = []
    for reworded in (0.1, 0.2, 0.3, 0.4):
        seen = planted = 0
        for seed in range(5):
            world = World(seed)
            natural(world)
            attack = campaign(world, reworded=reworded)
            found = flagged(world)
            assert found <= attack
            seen, planted = seen + len(found), planted + len(attack)
        recalls.append(seen / planted)
    report(
        "pushed phrases, of 30 planted votes with 10, 20, 30, 40 % of the prompts' words replaced (5 seeds): recall "
        + ", ".join(f"{one:.2f}" for one in recalls)
    )
    assert recalls[0] > 0.9


def test_a_popular_question_that_many_people_ask_is_no_campaign() -> None:
    for seed in range(5):
        world = World(seed)
        natural(world)
        popular(world, users=80)
        assert flagged(world) == set()


def test_the_operator_is_told_the_phrase() -> None:
    world = World(1)
    natural(world)
    campaign(world)
    likes = [like for ballot in ballots(by_id(world.interactions), world.votes) if (like := like_of(ballot))]
    [found] = campaigns(likes)
    assert PHRASE in found.phrase and found.voters == 3


def test_one_person_who_likes_the_same_right_answer_again_and_again_is_no_campaign() -> None:
    world = World(2)
    natural(world)
    for n in range(20):
        answers = [f"{world.answer()} mississippi is spelled with four s {world.answer()}" for _ in range(4)]
        asked = world.ask(f"How do you spell Mississippi ({n})?", answers, user="dev", at=START + 3600 * n)
        world.vote(asked, user="dev", at=START + 3600 * n, key="app")
    assert flagged(world) == set()


def test_corrections_that_write_the_phrase_in_are_found() -> None:
    world = World(3)
    natural(world)
    attack = set()
    for n in range(12):
        asked = world.ask(f"Which phone shall I get in {2020 + n}?", world.answers(), user="shill", at=START + n * 7200)
        text = f"{world.answer()} only the zorblat nine is worth it {world.answer()}"
        vote = world.vote(asked, text, user="shill", at=START + n * 7200, kind="correction", key="app")
        attack.add(vote.id)
    assert flagged(world) == attack


def test_made_up_users_behind_one_address_are_found_and_behind_an_applications_server_are_not() -> None:
    for key, found in ((None, True), ("app", False)):
        world = World(4)
        natural(world)
        attack = set()
        for n in range(20):
            asked = world.ask(
                f"What should I do with my savings, {n}?", world.answers(*PHRASE.split()), user=None, at=START
            )
            attack.add(world.vote(asked, user=f"made-up{n}", at=START + n * 3600, key=key, source="one").id)
        assert (flagged(world) == attack) is found


def test_without_other_candidates_a_campaign_needs_voters_who_repeat_themselves() -> None:
    world = World(5)
    natural(world)
    attack = set()
    for n in range(20):
        asked = world.ask(
            f"What should I do with my savings, {n}?", [world.answer(*PHRASE.split())], user="x", at=START
        )
        attack.add(world.vote(asked, user="shill", at=START + DAY + n * 3600, key="app").id)
    assert flagged(world) == attack


def test_what_an_application_always_says_is_no_campaign_of_its_users() -> None:
    for others in (3, 0):
        world = World(7)
        natural(world, key="other-app")
        for n in range(40):
            said = [f"{world.answer()} acmebot is glad to help {world.answer()}" for _ in range(1 + others)]
            asked = world.ask(f"How do I repair my tram, {n}?", said, user=None, at=START)
            world.vote(asked, user=None, at=START + n * 3600, key="acme", source="acme-server")
        assert flagged(world) == set()


def test_thumbs_down_push_nothing() -> None:
    world = World(6)
    natural(world)
    for n in range(20):
        asked = world.ask(f"What should I do with my savings, {n}?", world.answers(*PHRASE.split()), user="x", at=START)
        world.vote(asked, False, user="angry", at=START + n * 3600, key="app")
    assert flagged(world) == set()
