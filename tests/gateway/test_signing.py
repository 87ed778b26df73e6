import base64
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.ids import new_completion_id
from gateway.signing import FeedbackGrant, Signer, load_secret

SIGNER = Signer(b"0123456789abcdef", token_ttl_s=60)


def test_a_token_grants_what_it_was_made_for_until_it_expires() -> None:
    token = SIGNER.feedback_token("chatcmpl-1", "u", now=100.0, tenant="default")
    assert SIGNER.read_token(token, 159.0) == FeedbackGrant("chatcmpl-1", "u", "default")
    assert SIGNER.read_token(token, 161.0) is None
    token = SIGNER.feedback_token("chatcmpl-1", None, now=100.0, tenant="shop")
    assert SIGNER.read_token(token, 159.0) == FeedbackGrant("chatcmpl-1", None, "shop")


def test_a_comparisons_token_binds_the_two_candidates_and_their_order() -> None:
    token = SIGNER.feedback_token("chatcmpl-1", "u", now=100.0, tenant="default", shown=(5, 2))
    assert SIGNER.read_token(token, 159.0) == FeedbackGrant("chatcmpl-1", "u", "default", (5, 2))
    assert SIGNER.read_token(token, 161.0) is None
    claims, signature = token.removeprefix("bft_").split(".")
    turned = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).replace(b"[5,2]", b"[2,5]")
    assert b"[2,5]" in turned
    forged = base64.urlsafe_b64encode(turned).rstrip(b"=").decode()
    assert SIGNER.read_token(f"bft_{forged}.{signature}", 100.0) is None


def test_a_token_with_claims_of_an_older_version_grants_nothing() -> None:
    claims = b'["chatcmpl-1","u",160]'
    signature = hmac.digest(hmac.digest(b"0123456789abcdef", b"feedback token", "sha256"), claims, "sha256")
    token = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (claims, signature))
    assert SIGNER.read_token(f"bft_{token}", 100.0) is None


def test_an_id_is_known_as_given_to_its_tenant_alone() -> None:
    for _ in range(100):
        identifier = new_completion_id(SIGNER.tag("shop"))
        assert SIGNER.issued(identifier, "shop")
        assert SIGNER.issued(identifier.replace("chatcmpl-", "resp_"), "shop")
        assert not SIGNER.issued(identifier, "default")
        assert not Signer(b"another secret..", 60).issued(identifier, "shop")
        assert not SIGNER.issued(new_completion_id(), "shop")
    assert not SIGNER.issued("chatcmpl-1", "shop")


def test_each_tenant_has_a_cache_salt_of_its_own() -> None:
    salt = SIGNER.cache_salt("shop")
    assert len(salt) == 32 and int(salt, 16)
    assert salt == SIGNER.cache_salt("shop") != SIGNER.cache_salt("default")


@given(st.text(max_size=80))
def test_made_up_tokens_grant_nothing(text: str) -> None:
    assert SIGNER.read_token(text, 0.0) is None


def test_another_secret_grants_nothing() -> None:
    token = Signer(b"another secret..", 60).feedback_token("chatcmpl-1", None, now=100.0, tenant="default")
    assert SIGNER.read_token(token, 100.0) is None


def test_users_are_told_apart_and_not_named() -> None:
    assert SIGNER.hash_user("ann") == SIGNER.hash_user("ann") != SIGNER.hash_user("bob")
    assert SIGNER.hash_user("") is None
    assert "ann" not in str(SIGNER.hash_user("ann"))


def test_a_secret_is_made_once_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    first = load_secret(path, create=True)
    assert load_secret(path, create=True) == first
    assert path.stat().st_mode & 0o077 == 0
    assert [child.name for child in path.parent.iterdir()] == ["secret"]


def test_a_missing_or_short_secret_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_secret(tmp_path / "none", create=False)
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ConfigError, match="shorter than 16"):
        load_secret(tmp_path / "short", create=False)
