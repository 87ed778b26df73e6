"""Keys and TLS of workers, scorers and Redis in the configuration: what contradicts itself, and what is kept secret."""

import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, dump, parse
from gateway.errors import ConfigError
from gateway.upstreams import front_tls, read_upstreams, scorer_home, unverified, warn_of_unverified
from tests.certificates import Authority

KEY = "sk-secret-4711"


def config(worker: dict[str, Any] | None = None, **sections: Any) -> Config:
    workers = [{"url": "https://w:8000", **(worker or {})}]
    return parse({"policies": {"p": {"model": "m", "workers": workers}}, **sections}, source="file")


@pytest.mark.parametrize(
    ("worker", "sections", "said"),
    [
        ({"api_key_file": "k", "api_key_env": "K"}, {}, "policies.p.workers.0: api_key_file and api_key_env both name"),
        ({"api_key_env": "sk-0815-not-a-name"}, {}, "policies.p.workers.0.api_key_env: "),
        ({"ca_file": "c", "verify": False}, {}, "policies.p.workers.0: verify: false checks nothing"),
        ({"key_file": "k"}, {}, "policies.p.workers.0: key_file needs cert_file"),
        ({"url": "http://w:1", "ca_file": "c"}, {}, "policies.p.workers.0: ca_file would do nothing"),
        ({"url": "http://w:1", "verify": False}, {}, "policies.p.workers.0: verify would do nothing"),
        ({"url": "https://u:sk-0815@w:1"}, {}, "policies.p.workers.0: url holds a name or a password"),
        ({}, {"redis": {"url": "redis://h/0", "ca_file": "c"}}, "redis: ca_file would do nothing"),
        ({}, {"redis": {"url": "rediss://h/0?ssl_cert_reqs=none"}}, "redis: ssl_cert_reqs in url: say it with"),
        ({}, {"redis": {"url": "redis://h/0", "username": "u"}}, "redis: username needs password_file"),
        (
            {},
            {"redis": {"url": "redis://:sk-0815@h/0", "password_env": "P"}},
            "redis: url holds a name or a password already",
        ),
        (
            {},
            {"redis": {"url": "redis://h/0", "password_file": "f", "password_env": "P"}},
            "redis: password_file and password_env",
        ),
        ({}, {"redis": {"password_env": "P"}}, "redis: password_env is for a Redis that url names"),
        ({}, {"gateway": {"tls_key_file": "k"}}, "gateway: tls_key_file needs tls_cert_file"),
    ],
)
def test_keys_that_contradict_each_other_are_one_line(worker: Any, sections: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(worker, **sections)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"file: {said}") and "sk-0815" not in line


def test_every_file_that_cannot_be_read_is_a_line(tmp_path: Path) -> None:
    broken = config(
        {"api_key_file": str(tmp_path / "none")},
        scorers={"s": {"kind": "reward", "model": "m", "url": "https://s:1", "ca_file": str(tmp_path / "none")}},
        redis={"url": "redis://h/0", "password_env": "NOT_SET_HERE"},
    )
    with pytest.raises(ConfigError) as caught:
        read_upstreams(broken)
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
        "policies.p.workers.0.api_key_file",
        "scorers.s.ca_file",
        "redis.password_env",
    ]


def test_what_is_read_is_what_is_sent_and_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("SECRET_0815", KEY)
    whole = config(
        {"api_key_file": str(tmp_path / "key"), "ca_file": str(Authority(tmp_path).ca_file)},
        scorers={"s": {"kind": "reward", "model": "m", "url": "http://s:1/", "api_key_env": "SECRET_0815"}},
        redis={"url": "redis://h/0", "password_env": "SECRET_0815"},
    )
    upstreams = read_upstreams(whole)
    (worker,) = upstreams.workers["p"]
    assert worker.headers == {"authorization": f"Bearer {KEY}"} and worker.tls is not None
    assert upstreams.scorers["s"].headers == worker.headers and upstreams.scorers["s"].url == "http://s:1"
    assert upstreams.redis.password is not None and upstreams.redis.password.value == KEY
    assert KEY not in f"{upstreams!r} {whole!r} {dump(whole)}"


def test_certificates_that_are_not_verified_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    whole = config({"verify": False}, redis={"url": "rediss://h/0", "verify": False})
    assert unverified(whole) == ["redis", "policies.p.workers.0"]
    warn_of_unverified(whole)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "redis.verify is false" in caplog.text
    assert unverified(config()) == []


def test_the_gateways_own_certificate_is_read_at_the_start(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue()
    assert front_tls(config().gateway) is None
    good = config(gateway={"tls_cert_file": str(issued.cert_file), "tls_key_file": str(issued.key_file)})
    assert front_tls(good.gateway) is not None
    with pytest.raises(ConfigError, match=r"^gateway\.tls_cert_file: there is no file"):
        front_tls(config(gateway={"tls_cert_file": str(tmp_path / "none")}).gateway)


@pytest.mark.parametrize(
    ("urls", "home"),
    [
        ((), None),
        (("http://s:1", "http://s:1"), "http://s:1"),
        (("http://s:1", "http://t:1"), None),
        (("http://s:1", "http://127.0.0.1:8201"), "http://127.0.0.1:8201"),
    ],
)
def test_scorers_are_added_where_those_of_the_file_are(urls: tuple[str, ...], home: str | None) -> None:
    scorers = {f"s{number}": {"kind": "reward", "model": "m", "url": url} for number, url in enumerate(urls)}
    given = config({"url": "http://w:1"}, scorers=scorers)
    found = scorer_home(given, read_upstreams(given))
    assert (found.url if found else None) == home
