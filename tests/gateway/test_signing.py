from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.signing import FeedbackGrant, Signer, load_secret

SIGNER = Signer(b"0123456789abcdef", token_ttl_s=60)


def test_a_token_grants_what_it_was_made_for_until_it_expires() -> None:
    token = SIGNER.feedback_token("chatcmpl-1", "u", now=100.0)
    assert SIGNER.read_token(token, 159.0) == FeedbackGrant("chatcmpl-1", "u")
    assert SIGNER.read_token(token, 161.0) is None


@given(st.text(max_size=80))
def test_made_up_tokens_grant_nothing(text: str) -> None:
    assert SIGNER.read_token(text, 0.0) is None


def test_another_secret_grants_nothing() -> None:
    token = Signer(b"another secret..", 60).feedback_token("chatcmpl-1", None, now=100.0)
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
