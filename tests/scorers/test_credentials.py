"""Where secrets come from, how a wrong one is told, and that they show themselves nowhere."""

from pathlib import Path

import pytest

from scorers.credentials import Secret, api_key, password
from scorers.errors import ConfigurationError

VALUE = "sk-very-secret-0815"


def test_a_key_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{VALUE}\n")
    key = api_key("scorers.reward", tmp_path / "key", None)
    assert key is not None and key.value == VALUE


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_KEY", VALUE)
    key = api_key("scorers.reward", None, "REWARD_KEY")
    assert key is not None and key.value == VALUE
    assert api_key("scorers.reward", None, None) is None


def test_a_password_may_hold_what_a_header_may_not(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pässword with blanks \r\n", encoding="utf-8")
    secret = password("redis", tmp_path / "password", None)
    assert secret is not None and secret.value == "pässword with blanks "


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (f"{VALUE}\nmore\n".encode(), "must hold one line"),
        (f"{VALUE} more".encode(), "without blanks"),
        ("schlüssel".encode(), "ASCII"),
        (b"\xff\xfe", "not text"),
        (b"x" * 70_000, "too large"),
    ],
)
def test_a_file_that_holds_no_key_is_told_in_a_sentence_without_what_it_holds(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said) as caught:
        api_key("scorers.reward", file, None)
    assert str(caught.value).startswith("scorers.reward.api_key_file: ") and str(file) in str(caught.value)
    assert VALUE not in str(caught.value)


def test_a_file_or_variable_that_is_not_there_is_told_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ConfigurationError, match=r"^redis\.password_file: there is no file .*/none\.$"):
        password("redis", tmp_path / "none", None)
    with pytest.raises(ConfigurationError, match=r"^redis\.password_file: .* cannot be read: Is a directory\.$"):
        password("redis", tmp_path, None)
    with pytest.raises(ConfigurationError, match=r"^redis\.password_env: the environment variable NOT_SET is not set"):
        password("redis", None, "NOT_SET")


def test_a_changed_file_is_noticed_and_a_vanished_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    key = api_key("scorers.reward", file, None)
    assert key is not None
    assert not key.reread()
    file.write_text("new")
    assert key.reread() and key.value == "new"
    file.unlink()
    assert not key.reread() and key.value == "new"


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(lambda: VALUE)
    assert VALUE not in f"{secret!r} {secret}"
    assert secret.equals(VALUE.encode()) and not secret.equals(b"other") and not secret.equals(b"")
