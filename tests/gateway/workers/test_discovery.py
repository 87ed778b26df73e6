import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from gateway.config import PolicyConfig
from gateway.workers.discovery import Discovery, Entry, entries_of, resolve
from scorers.credentials import api_key
from scorers.endpoint import Endpoint
from scorers.settings import Tls
from scorers.tls import client_context
from tests.certificates import Authority
from tests.fakes import FakeWorker, serve

NAME = "vllm.default.svc"
LISTED = Entry("policies.p.workers.0", Endpoint("http://10.0.0.9:8000"), dns=False)
NAMED = Entry("policies.p.workers.1", Endpoint(f"http://{NAME}:8000/base"), dns=True)

Answer = Sequence[str] | Exception


class Dns:
    """A resolver that answers what a test says; `asked` counts. hung: it does not answer until that is set."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked = 0
        self.hung: asyncio.Event | None = None

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        if self.hung:
            await self.hung.wait()
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pool:
    """Remembers what it was given, as the urls of each kind."""

    def __init__(self) -> None:
        self.given: list[tuple[str, list[str]]] = []
        self.failures = 0

    def put(self, endpoints: Sequence[Endpoint], source: str) -> None:
        self.given.append((source, [endpoint.url for endpoint in endpoints]))

    def failed(self) -> None:
        self.failures += 1


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def pool() -> Pool:
    return Pool()


def following(pool: Pool, dns: Dns, *entries: Entry, answer_within_s: float = 60.0) -> Discovery:
    return Discovery(
        entries, pool.put, on_failure=pool.failed, resolve=dns, every_s=3600.0, answer_within_s=answer_within_s
    )


def urls(*hosts: str) -> list[str]:
    return [f"http://{host}:8000/base" for host in hosts]


async def test_a_listed_worker_is_handed_over_and_nothing_is_asked_for_it(pool: Pool, dns: Dns) -> None:
    discovery = following(pool, dns, LISTED)
    await discovery.start()
    await discovery.close()
    assert pool.given == [("file", ["http://10.0.0.9:8000"])] and dns.asked == 0


async def test_a_name_becomes_a_worker_for_each_address_in_an_order_that_never_changes(pool: Pool, dns: Dns) -> None:
    discovery = following(pool, dns, LISTED, NAMED)
    for answer in (["fd00::2", "10.0.0.10", "10.0.0.2", "10.0.0.10"], ["10.0.0.2", "fd00:0::2", "10.0.0.10"]):
        dns.answers[NAME] = answer
        await discovery.look()
    assert pool.given == [("dns", urls("10.0.0.2", "10.0.0.10"))]


async def test_addresses_that_come_and_go_are_followed(pool: Pool, dns: Dns, caplog: pytest.LogCaptureFixture) -> None:
    discovery = following(pool, dns, NAMED)
    with caplog.at_level(logging.INFO):
        for answer in (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]):
            dns.answers[NAME] = answer
            await discovery.look()
    assert [found for _, found in pool.given] == [urls("10.0.0.1"), urls("10.0.0.1", "10.0.0.2"), urls("10.0.0.2")]
    assert f"policies.p.workers.1: {NAME} is now 10.0.0.1, 10.0.0.2" in caplog.messages


@pytest.mark.parametrize(
    "outage", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long"), []]
)
async def test_a_name_that_is_not_resolved_keeps_its_addresses_and_is_told_of_once(
    pool: Pool, dns: Dns, caplog: pytest.LogCaptureFixture, outage: Answer
) -> None:
    discovery = following(pool, dns, NAMED)
    with caplog.at_level(logging.INFO):
        for answer in (["10.0.0.1"], outage, outage, ["10.0.0.1"], outage, ["10.0.0.2"]):
            dns.answers[NAME] = answer
            await discovery.look()
    assert [found for _, found in pool.given] == [urls("10.0.0.1"), urls("10.0.0.2")]
    assert pool.failures == 3
    assert sum("cannot be resolved" in message for message in caplog.messages) == 2
    assert sum("is resolved again" in message for message in caplog.messages) == 2
    assert "; 10.0.0.1 kept" in caplog.text


async def test_a_name_that_was_never_resolved_leaves_the_others_alone_and_says_so(
    pool: Pool, dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    dns.answers = {NAME: OSError("no"), "other.svc": ["10.0.0.1"]}
    other = Entry("policies.p.workers.2", Endpoint("http://other.svc:8000/base"), dns=True)
    await following(pool, dns, NAMED, other).look()
    assert pool.given == [("dns", urls("10.0.0.1"))]
    assert f"policies.p.workers.1: {NAME} cannot be resolved (no); the pool has none of it yet" in caplog.messages


async def test_a_look_up_that_hangs_is_waited_for_and_not_started_again(pool: Pool, dns: Dns) -> None:
    dns.hung = asyncio.Event()
    dns.answers[NAME] = ["10.0.0.1"]
    discovery = following(pool, dns, NAMED, answer_within_s=0.0)
    await discovery.look()
    await discovery.look()
    assert (dns.asked, pool.failures, pool.given) == (1, 2, [])
    dns.hung.set()
    await asyncio.sleep(0)
    await discovery.look()
    assert (dns.asked, pool.given) == (1, [("dns", urls("10.0.0.1"))])


async def test_a_look_up_that_hangs_does_not_keep_other_names_from_being_followed(pool: Pool, dns: Dns) -> None:
    dns.answers[NAME] = ["10.0.0.1"]
    hanging = Entry("policies.p.workers.2", Endpoint("http://hangs:8000"), dns=True)
    never = asyncio.Event()

    async def answer(host: str) -> Sequence[str]:
        if host == "hangs":
            await never.wait()
        return await dns(host)

    discovery = Discovery([hanging, NAMED], pool.put, resolve=answer, answer_within_s=0.01)
    await discovery.look()
    assert pool.given == [("dns", urls("10.0.0.1"))]
    await discovery.close()


async def test_an_address_that_is_listed_too_is_one_worker(pool: Pool, dns: Dns) -> None:
    dns.answers[NAME] = ["10.0.0.9", "10.0.0.1"]
    named = Entry("policies.p.workers.1", Endpoint(f"http://{NAME}:8000"), dns=True)
    again = Entry("policies.p.workers.2", Endpoint(f"http://{NAME}:8000"), dns=True)
    await following(pool, dns, LISTED, named, again).look()
    assert pool.given == [("dns", ["http://10.0.0.1:8000"])]


async def test_an_address_where_a_name_should_be_is_that_worker_and_a_warning(
    pool: Pool, dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    dns.answers["fd00::1"] = ["fd00::1"]
    await following(pool, dns, Entry("here", Endpoint("http://[fd00::1]:8000"), dns=True)).look()
    assert pool.given == [("dns", ["http://[fd00::1]:8000"])]
    assert "here.dns is true, but fd00::1 is an address already" in caplog.messages


async def test_addresses_that_no_url_can_name_are_left_out(pool: Pool, dns: Dns) -> None:
    dns.answers[NAME] = ["fe80::1%2", "10.0.0.1"]
    await following(pool, dns, NAMED).look()
    assert pool.given == [("dns", urls("10.0.0.1"))]


async def test_names_are_asked_for_again_and_again_until_it_is_closed(pool: Pool, dns: Dns) -> None:
    dns.answers[NAME] = ["10.0.0.1"]
    asked_often = asyncio.Event()

    async def answer(host: str) -> Sequence[str]:
        if dns.asked == 3:
            asked_often.set()
        return await dns(host)

    discovery = Discovery([NAMED], pool.put, resolve=answer, every_s=0.0)
    await discovery.start()
    await asyncio.wait_for(asked_often.wait(), 10)
    await discovery.close()
    asked = dns.asked
    await asyncio.sleep(0)
    assert dns.asked == asked and len(asyncio.all_tasks()) == 1


async def test_a_bug_does_not_end_it_and_what_was_not_handed_over_is_handed_over_again(dns: Dns) -> None:
    failures = iter([RuntimeError("a bug"), RuntimeError("a bug")])
    handed_over = asyncio.Event()

    def put(endpoints: Sequence[Endpoint], source: str) -> None:
        if endpoints and (failure := next(failures, None)):
            raise failure
        if endpoints:
            handed_over.set()

    discovery = Discovery([NAMED], put, resolve=dns, every_s=0.0)
    dns.answers[NAME] = OSError("not yet")
    await discovery.start()
    dns.answers[NAME] = ["10.0.0.1"]
    await asyncio.wait_for(handed_over.wait(), 10)
    await discovery.close()


async def test_the_systems_resolver_knows_this_machine() -> None:
    assert set(await resolve("localhost")) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError):
        await resolve("does-not-exist.invalid")


def test_entries_say_where_they_are_listed() -> None:
    policy = PolicyConfig.model_validate(
        {"model": "m", "workers": [{"url": "http://a:1"}, {"url": "http://b:2", "dns": True}]}
    )
    endpoints = [Endpoint("http://a:1"), Endpoint("http://b:2")]
    assert entries_of("p", policy, endpoints) == [
        Entry("policies.p.workers.0", endpoints[0], dns=False),
        Entry("policies.p.workers.1", endpoints[1], dns=True),
    ]


async def test_behind_an_address_the_certificate_must_still_be_for_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = client_context("worker", Tls(ca_file=authority.ca_file))
    (tmp_path / "key").write_text("sk-1")
    key = api_key("worker", tmp_path / "key", None)

    async def status(named: str, certified: str) -> int:
        async with serve(worker := FakeWorker(), tls=authority.server(certified)):
            port = worker.url.rpartition(":")[2]
            at = Endpoint(f"https://{named}:{port}", key, tls).at("127.0.0.1")
            assert at.url == worker.url and at.key is key and at.server_hostname == named
            async with (
                aiohttp.ClientSession() as session,
                session.get(at.url + "/health", ssl=at.verification, server_hostname=at.server_hostname) as reply,
            ):
                return reply.status

    assert await status("workers.test", "workers.test") == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await status("workers.test", "elsewhere.test")
    # One for the address alone is not enough either: whoever answers there is not thereby the host.
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await status("workers.test", "127.0.0.1")
