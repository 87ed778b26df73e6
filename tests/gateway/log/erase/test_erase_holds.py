"""Legal holds: what is held stays, visibly, until the hold is taken off."""

import time
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from gateway.ids import new_uuid7
from gateway.log.erase.judge import About, Holds, Judge, about, about_record
from gateway.log.erase.orders import Hold, new_order, reopened, subject_of
from gateway.log.keys import feedback_key, interactions_key
from gateway.log.records import encode, packed
from tests.gateway.log.archive.archiving import archive, archive_in, interactions_read, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import asked, carry_out, erase, hashed, ledger_of, marks, said, shadowed, traces
from tests.gateway.log.log_samples import SHARD


def hold(**changes: object) -> Hold:
    made = Hold(new_uuid7(), "default", "test", time.time(), "a case")
    return msgspec.structs.replace(made, **changes)


def order_for(user: str, **changes: object) -> tuple[str, Judge]:
    order = new_order("default", hashed(user), by="test", now=time.time() + 1)
    return order.id, Judge([order], **changes)  # type: ignore[arg-type]


def test_a_persons_records_what_is_about_them_and_their_feedback_are_to_be_erased_and_nothing_else() -> None:
    mine, other = asked("ada"), asked("bob")
    order, judge = order_for("ada")
    judge = judge.knowing({order: {mine.id}})
    for record in (mine, said("bob", mine), shadowed(mine), said("ada", other)):
        assert judge.order_of(about_record(record)) == order
        assert judge.erases(packed(encode(record), 1))
    for record in (other, said("bob", other), shadowed(other)):
        assert judge.order_of(about_record(record)) is None
        assert not judge.erases(encode(record))


def test_another_tenants_user_of_the_same_name_stays_and_so_does_what_came_later() -> None:
    order, judge = order_for("ada")
    mine = asked("ada")
    assert judge.order_of(about_record(mine)) == order
    assert judge.order_of(about_record(msgspec.structs.replace(mine, tenant="acme"))) is None
    assert judge.order_of(about_record(msgspec.structs.replace(mine, created=time.time() + 60))) is None
    assert judge.order_of(about_record(msgspec.structs.replace(mine, user=None))) is None


def test_what_cannot_be_read_stays() -> None:
    _, judge = order_for("ada")
    for payload in (b"", b"{", b"\xff", b'{"id": 7}', b"x\x00damaged"):
        assert about(payload) is None
        assert not judge.erases(payload)


def test_a_hold_covers_a_person_an_interaction_with_all_about_it_or_a_tenant() -> None:
    mine, other = asked("ada"), asked("bob")
    by_person = Holds([hold(subject=subject_of("default", hashed("ada")))])
    assert [by_person.held(about_record(one)) is not None for one in (mine, said("ada", other), other)] == [
        True,
        True,
        False,
    ]
    by_answer = Holds([hold(interaction=mine.id)])
    held = [by_answer.held(about_record(one)) is not None for one in (mine, said("bob", mine), shadowed(mine), other)]
    assert held == [True, True, True, False]
    by_tenant = Holds([hold(tenant="acme")])
    assert by_tenant.held(About("x", tenant="acme")) is not None
    assert by_tenant.held(about_record(mine)) is None
    assert not Holds([hold(tenant="acme", removed_at=1.0, removed_by="test")])


def test_a_hold_on_a_person_keeps_what_others_said_of_them_too() -> None:
    mine = asked("ada")
    held = hold(subject=subject_of("default", hashed("ada")))
    order, judge = order_for("ada", holds=Holds([held]))
    judge = judge.knowing({order: {mine.id}})
    assert judge.order_of(about_record(said("bob", mine))) is None
    assert judge.order_of_id(mine.id) is None
    assert judge.met == {order: {held.id}}


async def test_a_held_person_is_not_erased_until_the_hold_is_taken_off(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    ledger = ledger_of(redis, tmp_path)
    mine = asked("ada")
    await send(redis, mine, said("bob", mine))
    held = hold(subject=subject_of("default", hashed("ada")))
    await ledger.hold(held)
    receipt = await erase(redis, tmp_path, "ada")
    assert (receipt.order.status, receipt.order.holds, receipt.order.counts) == ("held", [held.id], {})
    assert (await redis.xlen(interactions_key(SHARD)), await redis.xlen(feedback_key(SHARD))) == (1, 1)
    assert await carry_out(redis, tmp_path) == []  # Nobody asks in vain.
    await ledger.hold(msgspec.structs.replace(held, removed_at=time.time(), removed_by="test"))
    [order] = await ledger.orders()
    await ledger.place(reopened(order))
    [receipt] = await carry_out(redis, tmp_path)
    assert receipt.order.status == "done"
    assert await traces(redis, [tmp_path], marks("ada")) == []


async def test_a_held_answer_stays_with_all_that_is_about_it_and_the_rest_goes(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    ledger = ledger_of(redis, tmp_path)
    held_answers = [asked("ada", 1), asked("ada", 2)]
    for answer in (*held_answers, asked("ada", 3)):
        await send(redis, answer, said("bob", answer), shadowed(answer))
        await archive(redis, store_in(tmp_path), everything=answer is held_answers[0])
    for answer in held_answers:
        await ledger.hold(hold(interaction=answer.id))
    receipt = await erase(redis, tmp_path, "ada")
    assert receipt.order.status == "held"
    assert len(receipt.order.holds) == 2
    assert receipt.order.counts == {"streams": 3, "votes": 1}
    assert await ledger.ids(receipt.order.id) & {answer.id for answer in held_answers} == set()
    assert await traces(redis, [tmp_path], [b"prompt-of-ada-3"]) == []
    read, _ = await interactions_read(redis, archive_in(tmp_path))
    assert sorted(one.id for one in read) == sorted(one.id for one in held_answers)


async def test_holds_outlive_a_redis_that_was_emptied(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    ledger = ledger_of(redis, tmp_path)
    kept, taken_off = hold(tenant="acme"), hold(tenant="other")
    await ledger.hold(kept)
    await ledger.hold(taken_off)
    await ledger.hold(msgspec.structs.replace(taken_off, removed_at=time.time(), removed_by="test"))
    await redis.flushall()
    await ledger.reconcile()
    found = await ledger.holds()
    assert [(one.tenant, one.active) for one in found] == [("acme", True), ("other", False)]
