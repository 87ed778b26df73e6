from gateway.feedback.trust.ballots import ballots, by_id
from gateway.feedback.trust.strangers import findings
from tests.gateway.feedback.trust.traffic import DAY, SETTINGS, START, World, natural


def flagged(world: World) -> set[str]:
    askers = {(one.tenant, one.user) for one in world.interactions if one.user}
    return set(findings(ballots(by_id(world.interactions), world.votes), askers, SETTINGS))


def test_one_user_voting_down_what_others_were_answered_is_found() -> None:
    world = World(1)
    natural(world)
    targets = [one for one in world.interactions if one.user != "user3"][:25]
    attack = {
        world.vote(target, False, user="user3", at=START + DAY + 3600 * n, key="app").id
        for n, target in enumerate(targets)
    }
    assert flagged(world) == attack


def test_made_up_users_of_one_key_who_never_ask_anything_are_found_together() -> None:
    world = World(2)
    natural(world, key="app")
    attack = {
        world.vote(target, False, user=f"made-up{n}", at=START + DAY + 3600 * n, key="stolen").id
        for n, target in enumerate(world.interactions[:25])
    }
    assert flagged(world) == attack


def test_colleagues_who_read_each_others_answers_now_and_then_are_not() -> None:
    world = World(3)
    natural(world)
    for n, target in enumerate(world.interactions[::12]):
        world.vote(target, user=f"user{(n * 7) % 60}", at=START + 7 * DAY + 600 * n, key="app")
    assert flagged(world) == set()


def test_where_everybody_votes_on_everything_it_is_no_sign() -> None:
    world = World(4)
    for n in range(60):
        asked = world.ask(world.prompt(), world.answers(), user=f"u{n % 6}", at=START + n)
        for m in range(6):
            world.vote(asked, user=f"u{m}", at=START + n + m, key="team")
    assert flagged(world) == set()


def test_readers_of_one_channel_are_nothing_odd_where_there_is_no_other_key_to_compare_with() -> None:
    world = World(6)
    for n in range(40):
        asked = world.ask(world.prompt(), world.answers(), user=f"asker{n % 3}", at=START + n)
        for m in range(5):
            world.vote(asked, user=f"reader{m}", at=START + n + m, key="bot")
    assert flagged(world) == set()


def test_votes_that_name_no_user_are_not_looked_at() -> None:
    world = World(5)
    for n in range(60):
        asked = world.ask(world.prompt(), world.answers(), user=f"u{n}", at=START + n)
        world.vote(asked, user=None, at=START + n, key="app")
    assert flagged(world) == set()
