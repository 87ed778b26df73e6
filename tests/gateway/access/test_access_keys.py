import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys import ApiKey, described, digest, find, make_key

RECORD, KEY = make_key(name="a", tenant="default", scopes=("chat",), expires=None, created_by="me", now=100.0)


def test_a_key_is_found_by_all_of_it_and_by_nothing_else() -> None:
    keys = {RECORD.id: RECORD}
    assert find(keys, KEY) == RECORD
    other, other_key = make_key(name="b", tenant="default", scopes=("chat",), expires=None, created_by="me", now=1.0)
    secret = other_key.rpartition("_")[2]
    for wrong in ("", "bk_", KEY[:-1], KEY + "x", KEY.upper(), f"bk_{RECORD.id}_{secret}", f" {KEY}", other_key):
        assert find(keys, wrong) is None
    # Hashes are of the whole key: the same secret under another id is another key.
    assert find({other.id: other}, f"bk_{other.id}_{KEY.rpartition('_')[2]}") is None


@given(st.text())
def test_made_up_keys_are_never_found(text: str) -> None:
    assert find({RECORD.id: RECORD}, text) is None
    assert find({RECORD.id: RECORD}, f"bk_{RECORD.id}_{text}") is None


def test_keys_have_the_documented_form_and_256_random_bits() -> None:
    prefix, identifier, secret = KEY.split("_")
    assert (prefix, 8 <= len(identifier) <= 12) == ("bk", True)
    assert 62 ** len(secret) > 2**256
    made = {make_key(name="", tenant="t", scopes=("chat",), expires=None, created_by="", now=0)[1] for _ in range(100)}
    assert len(made) == 100


def test_the_secret_is_neither_in_the_record_nor_in_what_is_shown() -> None:
    secret = KEY.rpartition("_")[2]
    assert secret not in msgspec.json.encode(RECORD).decode()
    assert RECORD.hash == digest(KEY)
    assert RECORD.hash not in str(described(RECORD, 200.0))


def test_a_key_ends_by_expiry_and_by_revocation() -> None:
    def status(now: float, **fields: float | str | None) -> str:
        changed: ApiKey = msgspec.structs.replace(RECORD, **fields)
        return changed.status(now)

    assert status(1e12) == "active"
    assert status(149.0, expires=150.0) == "active"
    assert status(150.0, expires=150.0) == "expired"
    assert status(149.0, expires=150.0, replaced_by="x") == "retiring"
    assert status(151.0, expires=150.0, revoked=120.0) == "revoked"
