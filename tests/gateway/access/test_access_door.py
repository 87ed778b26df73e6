import msgspec
import pytest

from gateway.access.caller import SCOPES, Caller, Scope
from gateway.access.door import Rules, identify
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from gateway.errors import Unauthorized

NOW = 1000.0
HERE = Rules(loopback=True)
ANYWHERE = Rules(loopback=False)
ANONYMOUS = Rules(loopback=False, allow_anonymous=True)


def known(*scopes: Scope, tenant: str = "default", **fields: float | str | None) -> tuple[Snapshot, str]:
    record, key = make_key(
        name="k", tenant=tenant, scopes=scopes or ("chat",), expires=None, created_by="", now=NOW - 10
    )
    record = msgspec.structs.replace(record, **fields)
    return Snapshot(1, {record.id: record}), key


def code(snapshot: Snapshot, presented: str | None, rules: Rules) -> str:
    with pytest.raises(Unauthorized) as refused:
        identify(snapshot, presented, rules, NOW)
    return refused.value.code


def test_without_keys_everyone_on_this_machine_may_do_everything() -> None:
    for presented in (None, "none needed", "bk_abcdefgh_old"):
        caller = identify(Snapshot(), presented, HERE, NOW)
        assert (caller.tenant, caller.key_id, caller.scopes) == ("default", None, frozenset(SCOPES))


def test_without_keys_nobody_elsewhere_may_do_anything() -> None:
    assert code(Snapshot(), None, ANYWHERE) == "missing_api_key"
    assert code(Snapshot(), "none needed", ANYWHERE) == "invalid_api_key"


@pytest.mark.parametrize("rules", [HERE, ANYWHERE])
def test_one_key_shuts_the_door_even_where_it_is_revoked_or_expired(rules: Rules) -> None:
    for snapshot, _ in (known(), known(revoked=NOW - 1), known(expires=NOW - 1)):
        assert code(snapshot, None, rules) == "missing_api_key"
    assert code(Snapshot(unreadable=1), None, rules) == "missing_api_key"


def test_a_good_key_has_its_tenants_rights() -> None:
    snapshot, key = known("chat", tenant="shop")
    snapshot = msgspec.structs.replace(snapshot, tenants={"shop": Tenant("shop", models=("m",), tier="priority")})
    caller = identify(snapshot, key, ANYWHERE, NOW)
    assert caller == Caller("shop", caller.key_id, frozenset({"chat"}), frozenset({"m"}), None, "priority")
    assert caller.may_use_model("m") and not caller.may_use_model("n")
    assert caller.may_use_profile("anything")
    assert caller.has("chat") and not caller.has("feedback")


def test_admin_implies_the_other_scopes() -> None:
    snapshot, key = known("admin")
    assert all(identify(snapshot, key, ANYWHERE, NOW).has(scope) for scope in SCOPES)


def test_only_who_has_the_key_learns_what_became_of_it() -> None:
    revoked, expired = known(revoked=NOW - 1), known(expires=NOW - 1)
    for (snapshot, key), expected in ((revoked, "revoked_api_key"), (expired, "expired_api_key")):
        assert code(snapshot, key, HERE) == expected
        assert code(snapshot, key[:-1], HERE) == "invalid_api_key"
    messages = set()
    snapshot, key = known()
    for wrong in (key[:-1], "bk_unknownid1_" + "x" * 43, "something else"):
        with pytest.raises(Unauthorized) as refused:
            identify(snapshot, wrong, HERE, NOW)
        messages.add((refused.value.message, refused.value.code))
    assert len(messages) == 1


def test_a_key_whose_tenant_is_gone_opens_nothing() -> None:
    snapshot, key = known("admin", tenant="gone")
    assert code(snapshot, key, ANYWHERE) == "revoked_api_key"


def test_anonymous_callers_are_let_in_where_configured_to_chat_and_give_feedback() -> None:
    snapshot, key = known("admin")
    for found in (Snapshot(), snapshot):
        for presented in (None, "none needed"):
            caller = identify(found, presented, ANONYMOUS, NOW)
            assert caller.scopes == {"chat", "feedback"}
    assert identify(snapshot, key, ANONYMOUS, NOW).has("admin")
    assert code(snapshot, key[:-1], ANONYMOUS) == "invalid_api_key"


def test_the_default_tenants_limits_hold_without_a_key_too() -> None:
    snapshot = Snapshot(tenants={"default": Tenant("default", models=("m",), tier="flex")})
    caller = identify(snapshot, None, HERE, NOW)
    assert (caller.models, caller.tier) == (frozenset({"m"}), "flex")
    assert identify(Snapshot(), None, HERE, NOW).tier == "default"
