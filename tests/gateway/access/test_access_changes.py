from typing import TypeVar

import msgspec
import pytest

from gateway.access.changes import Change, create_key, delete_tenant, revoke_key, rotate_key, set_tenant
from gateway.access.keys import find
from gateway.access.snapshot import Snapshot, Tenant, from_raw, succeed
from gateway.errors import BadRequest, NotFound
from gateway.log.privacy.policy import TenantLog

T = TypeVar("T")
NOW = 1000.0


def after(snapshot: Snapshot, change: Change[T]) -> Snapshot:
    """What the store makes of a change."""
    tenants = {name: one for name, one in snapshot.tenants.items() if name not in change.removed_tenants}
    return Snapshot(
        snapshot.version + 1,
        {**snapshot.keys, **{key.id: key for key in change.keys}},
        {**tenants, **{one.name: one for one in change.tenants}},
    )


def one_key(expires: float | None = None) -> tuple[Snapshot, str, str]:
    made = create_key(
        name="n", tenant="default", scopes=("feedback", "chat"), expires=expires, created_by="me", now=NOW
    )(Snapshot())
    return after(Snapshot(), made), made.result.record.id, made.result.key


def test_the_first_key_is_known_as_the_first() -> None:
    create = create_key(name="n", tenant="default", scopes=["chat"], expires=None, created_by="", now=NOW)
    first = create(Snapshot())
    assert first.result.first
    assert not create(after(Snapshot(), first)).result.first


def test_scopes_are_kept_once_and_in_order() -> None:
    snapshot, identifier, _ = one_key()
    assert snapshot.keys[identifier].scopes == ("chat", "feedback")


def test_a_rotated_key_and_its_successor_are_both_good_until_the_grace_period_ends() -> None:
    snapshot, old_id, old_key = one_key(expires=NOW + 900)
    change = rotate_key(old_id, grace_s=60, created_by="me", now=NOW + 500)(snapshot)
    rotated = after(snapshot, change)
    old, new = rotated.keys[old_id], change.result.record
    assert (new.name, new.tenant, new.scopes) == (old.name, old.tenant, old.scopes)
    assert new.expires == NOW + 500 + 900  # It lives as long as the old one was to live.
    assert find(rotated.keys, old_key) == old and find(rotated.keys, change.result.key) == new
    assert (old.status(NOW + 559), old.status(NOW + 560)) == ("retiring", "expired")
    assert new.usable(NOW + 560)


def test_a_grace_period_never_makes_a_key_live_longer() -> None:
    snapshot, old_id, _ = one_key(expires=NOW + 10)
    rotated = after(snapshot, rotate_key(old_id, grace_s=86_400, created_by="", now=NOW)(snapshot))
    assert rotated.keys[old_id].expires == NOW + 10


def test_rotation_without_grace_revokes_at_once() -> None:
    snapshot, old_id, _ = one_key()
    rotated = after(snapshot, rotate_key(old_id, grace_s=0, created_by="", now=NOW)(snapshot))
    assert rotated.keys[old_id].status(NOW) == "revoked"


def test_only_an_active_key_can_be_rotated() -> None:
    snapshot, identifier, _ = one_key()
    rotate = rotate_key(identifier, grace_s=60, created_by="", now=NOW + 1)
    with pytest.raises(BadRequest, match="replaced by"):
        rotate(after(snapshot, rotate(snapshot)))
    with pytest.raises(BadRequest, match="revoked"):
        rotate(after(snapshot, revoke_key(identifier, now=NOW)(snapshot)))
    with pytest.raises(NotFound):
        rotate(Snapshot())


def test_revoking_again_keeps_the_first_time() -> None:
    snapshot, identifier, _ = one_key()
    revoked = after(snapshot, revoke_key(identifier, now=NOW)(snapshot))
    again = revoke_key(identifier, now=NOW + 5)(revoked)
    assert (again.result.revoked, again.keys) == (NOW, ())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["chat", "root"]}, "scopes"),
        ({"tenant": "nobody"}, "tenant"),
    ],
)
def test_a_bad_key_names_the_field(fields: dict[str, object], param: str) -> None:
    asked = {"name": "n", "tenant": "default", "scopes": ["chat"], "expires": None, "created_by": "", "now": NOW}
    with pytest.raises(BadRequest) as refused:
        create_key(**{**asked, **fields})(Snapshot())  # type: ignore[arg-type]
    assert refused.value.param == param


def test_a_tenants_limits_are_checked_where_the_names_are_known() -> None:
    with pytest.raises(BadRequest, match=r"models: there is no model 'x' \(there is m\)"):
        set_tenant("t", ["x"], None, known_models=["m"])
    with pytest.raises(BadRequest, match="profiles: there is no profile 'x'"):
        set_tenant("t", None, ["x"], known_profiles=["p"])
    with pytest.raises(BadRequest, match="an empty list allows none"):
        set_tenant("t", [], None)
    with pytest.raises(BadRequest, match="a tenant's name"):
        set_tenant("a b", None, None)
    assert set_tenant("t", ["x", "x"], None)(Snapshot()).result == Tenant("t", ("x",))


def test_a_tenants_service_tier_is_one_that_there_is_and_default_unless_it_is_set() -> None:
    assert set_tenant("t", None, None)(Snapshot()).result.tier == "default"
    assert set_tenant("t", None, None, tier="priority")(Snapshot()).result == Tenant("t", tier="priority")
    with pytest.raises(BadRequest, match=r"tier: there is no class 'gold' \(there is flex, default, priority\)"):
        set_tenant("t", None, None, tier="gold")


def test_what_is_kept_of_a_tenant_changes_only_where_it_is_said() -> None:
    snapshot = after(Snapshot(), set_tenant("t", None, None, log={"store": False, "redact": ("ip",)})(Snapshot()))
    assert snapshot.tenants["t"].log == TenantLog(store=False, redact=("ip",))
    snapshot = after(snapshot, set_tenant("t", ["m"], None, tier="flex")(snapshot))
    assert snapshot.tenants["t"] == Tenant("t", ("m",), None, "flex", TenantLog(store=False, redact=("ip",)))
    snapshot = after(snapshot, set_tenant("t", None, None, log={"redact": None, "training": "tenant"})(snapshot))
    assert snapshot.tenants["t"].log == TenantLog(store=False, training="tenant")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ({"share": 1.5}, "from 0 to 1"),
        ({"redact": ("nowhere",)}, "no redactor 'nowhere'"),
        ({"training": "all"}, "one of none, tenant, shared"),
        ({"retain_days": 0}, "1 to 36500 days"),
        ({"retain_days": 40_000}, "1 to 36500 days"),
    ],
)
def test_what_is_kept_of_a_tenant_is_checked(log: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        set_tenant("t", None, None, log=log)(Snapshot())


def test_a_default_tenant_that_cannot_be_read_leaves_nothing_in_the_log() -> None:
    assert not from_raw(b"3", {}, {b"default": b"{"}).tenants["default"].log.store


def test_a_tenant_that_was_stored_before_there_were_tiers_has_the_usual_one() -> None:
    old = from_raw(b"3", {}, {b"shop": b'{"name":"shop","models":["m"]}'})
    assert old.tenants == {"shop": Tenant("shop", ("m",), tier="default")}


def test_a_tenant_with_usable_keys_and_the_default_one_cannot_be_deleted() -> None:
    snapshot = after(Snapshot(), set_tenant("t", None, None)(Snapshot()))
    made = create_key(name="n", tenant="t", scopes=["chat"], expires=None, created_by="", now=NOW)(snapshot)
    snapshot = after(snapshot, made)
    delete = delete_tenant("t", now=NOW + 1)
    with pytest.raises(BadRequest, match=made.result.record.id):
        delete(snapshot)
    revoked = after(snapshot, revoke_key(made.result.record.id, now=NOW)(snapshot))
    assert delete(revoked).removed_tenants == ("t",)
    with pytest.raises(BadRequest, match="always exists"):
        delete_tenant("default", now=NOW)(snapshot)
    with pytest.raises(NotFound):
        delete_tenant("x", now=NOW)(snapshot)


def test_a_redis_that_lost_its_data_opens_no_door() -> None:
    snapshot, identifier, _ = one_key()
    held, odd = succeed(snapshot, Snapshot())
    assert held == snapshot and odd
    revoked = after(snapshot, revoke_key(identifier, now=NOW)(snapshot))
    held, odd = succeed(revoked, snapshot)
    assert held.keys[identifier].revoked == NOW and odd and identifier in odd


def test_what_is_in_order_is_taken_as_it_is() -> None:
    snapshot, identifier, _ = one_key()
    revoked = after(snapshot, revoke_key(identifier, now=NOW)(snapshot))
    for known, found in ((None, snapshot), (Snapshot(), snapshot), (snapshot, revoked), (revoked, revoked)):
        assert succeed(known, found) == (found, None)
    replaced = msgspec.structs.replace(revoked, keys={"x": snapshot.keys[identifier]})
    assert succeed(revoked, replaced) == (replaced, None)
