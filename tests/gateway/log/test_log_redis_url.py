"""Redis's address as one URL says it."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import RedisConfig
from gateway.log.connection import RedisAddress
from gateway.log.redis_url import Place, parse


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://host:1/0", Place("server", "redis://host:1/0")),
        ("unix:///run/redis.sock", Place("server", "unix:///run/redis.sock")),
        (
            "redis+cluster://one:1,two,[::1]:3",
            Place("cluster", "redis://cluster", (("one", 1), ("two", 6379), ("::1", 3))),
        ),
        (
            "rediss+cluster://me:pass@one:1/0?socket_timeout=3",
            Place("cluster", "rediss://me:pass@cluster?socket_timeout=3", (("one", 1),)),
        ),
        (
            "redis+sentinel://one,two:2/my%20master/5",
            Place("sentinel", "redis://sentinel/5", (("one", 26379), ("two", 2)), "my master"),
        ),
        ("rediss+sentinel://one:1/m", Place("sentinel", "rediss://sentinel/0", (("one", 1),), "m")),
    ],
)
def test_an_address_is_read(url: str, place: Place) -> None:
    assert parse(url) == place


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host", "begins with redis://"),
        ("unix+cluster://host", "begins with redis://"),
        ("redis+other://host", "begins with redis://"),
        ("redis://one:1,two:2/0", "several hosts"),
        ("redis+cluster://one:1/3", "no databases"),
        ("redis+cluster://one:x", "'one:x' is no host:port"),
        ("redis+cluster://", "'' is no host:port"),
        ("redis+sentinel://one:1", "name of the master is missing"),
        ("redis+sentinel://one:1/m/x", "'x' is no number"),
    ],
)
def test_a_mistake_in_an_address_is_said(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(url)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "redis+cluster://one:1/3"}, "no databases"),
        ({"url": "redis+sentinel://one:1"}, "name of the master is missing"),
        ({"url": "redis+cluster://one", "sentinel_password_file": "/x"}, "sentinel_password_file is for a url"),
        ({"sentinel_password_file": "/x"}, "sentinel_password_file is for a Redis that url names"),
        ({"url": "redis+cluster://one", "ca_file": "/x"}, "ca_file would do nothing"),
        ({"url": "redis+cluster://me:pass@one", "password_file": "/x"}, "url holds a name or a password already"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RedisConfig(**settings)


def test_the_address_of_many_is_shown_without_its_password() -> None:
    address = RedisAddress("rediss+sentinel://me:secret@one:1,two:2/m/0")
    assert address.shown == "rediss+sentinel://one:1,two:2/m/0" and "secret" not in repr(address)
