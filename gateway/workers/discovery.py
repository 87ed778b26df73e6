"""From the workers that the configuration lists to their addresses, followed as these change.

An entry is one worker, or with `dns: true` a name that stands for as many as it resolves to (a Kubernetes headless
service): each address, A or else AAAA, is a worker of its own with the entry's port, path, key and TLS. Names are asked
for every few seconds.

A name that fails, or has no address, keeps those it had: an outage of DNS must not empty the pool, and a worker that is
really gone is found out by asking it. An address that an answer leaves out is let go: it finishes what it runs.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from gateway.config import PolicyConfig
from gateway.tasks import end
from scorers.endpoint import Endpoint

logger = logging.getLogger(__name__)

EVERY_S = 5.0
# A resolver asks its servers several times over; a look-up that takes longer than this counts as failed, and its answer
# is taken when it comes.
ANSWER_WITHIN_S = 3.0

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Put = Callable[[Sequence[Endpoint], Literal["file", "dns"]], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker as it is listed. where: its section of the configuration."""

    where: str
    endpoint: Endpoint
    dns: bool


def entries_of(name: str, policy: PolicyConfig, endpoints: Sequence[Endpoint]) -> list[Entry]:
    """The workers of the policy `name`; endpoints: theirs, in the same order."""
    return [
        Entry(f"policies.{name}.workers.{index}", endpoint, worker.dns)
        for index, (worker, endpoint) in enumerate(zip(policy.workers, endpoints, strict=True))
    ]


async def resolve(host: str) -> list[str]:
    """The IP addresses of a name, by the system's resolver in a thread. Raises OSError, or UnicodeError for no name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Discovery:
    """Follows the entries of one pool. put: called with all addresses of a kind when they change (`WorkerPool.put`).

    on_failure: called for each look-up that failed or found nothing.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        put: Put,
        *,
        on_failure: Callable[[], None] = lambda: None,
        resolve: Resolve = resolve,
        every_s: float = EVERY_S,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._listed = [entry.endpoint for entry in entries if not entry.dns]
        self._names = [_Name(entry, resolve, answer_within_s, on_failure) for entry in entries if entry.dns]
        self._found: list[Endpoint] = []
        self._put = put
        self._every_s = every_s
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hand over what is known, after asking for each name once, and keep asking in the background."""
        self._put(self._listed, "file")
        if self._names:
            await self.look()
            self._following = asyncio.create_task(self._follow(), name="discovery of workers")

    async def close(self) -> None:
        await end(self._following, *(name.lookup for name in self._names))

    async def look(self) -> None:
        """Ask for every name now, and hand over the addresses where they are others than before."""
        await asyncio.gather(*(name.ask() for name in self._names))
        listed = {endpoint.url for endpoint in self._listed}
        found = {endpoint.url: endpoint for name in self._names for endpoint in name.endpoints}
        unlisted = [endpoint for url, endpoint in found.items() if url not in listed]
        if unlisted != self._found:
            self._put(unlisted, "dns")
            self._found = unlisted

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except Exception:  # A bug must not end it: the pool would keep addresses that are gone.
                logger.exception("following the names of workers failed")


class _Name:
    """An entry that stands for many addresses: those it had in the last answer, in order."""

    def __init__(self, entry: Entry, resolve: Resolve, answer_within_s: float, on_failure: Callable[[], None]) -> None:
        self.addresses: tuple[str, ...] = ()
        self.lookup: asyncio.Task[Sequence[str]] | None = None
        self._entry = entry
        self._resolve = resolve
        self._answer_within_s = answer_within_s
        self._on_failure = on_failure
        self._failing = False
        if _is_address(entry.endpoint.host):
            logger.warning("%s.dns is true, but %s is an address already", entry.where, entry.endpoint.host)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self._entry.endpoint.at(address) for address in self.addresses]

    async def ask(self) -> None:
        # One that hangs is waited for again instead of a second one: each holds a thread.
        self.lookup = self.lookup or asyncio.ensure_future(self._resolve(self._entry.endpoint.host))
        done, _ = await asyncio.wait({self.lookup}, timeout=self._answer_within_s)
        if not done:
            self._failed(f"no answer within {self._answer_within_s:g} s")
            return
        answered, self.lookup = self.lookup, None
        try:
            addresses = _in_order(answered.result())
        except (OSError, UnicodeError) as error:
            self._failed(str(error))
            return
        if not addresses:
            self._failed("it has no address")
            return
        if self._failing:
            logger.info("%s: %s is resolved again", self._entry.where, self._entry.endpoint.host)
        self._failing = False
        if addresses != self.addresses:
            logger.info("%s: %s is now %s", self._entry.where, self._entry.endpoint.host, ", ".join(addresses))
        self.addresses = addresses

    def _failed(self, reason: str) -> None:
        self._on_failure()
        if not self._failing:
            kept = f"{', '.join(self.addresses)} kept" if self.addresses else "the pool has none of it yet"
            logger.warning(
                "%s: %s cannot be resolved (%s); %s", self._entry.where, self._entry.endpoint.host, reason, kept
            )
        self._failing = True


def _in_order(addresses: Sequence[str]) -> tuple[str, ...]:
    """Each once, by number, in an order that does not depend on the answer's; IPv4 where there is any.

    A name of a dual-stack cluster has both of each server's addresses: with all of them each would count twice.
    Addresses of one link alone (with a zone, fe80::1%eth0) are left out: no URL can name them.
    """
    parsed = {ip_address(address) for address in addresses if "%" not in address}
    version = min((address.version for address in parsed), default=4)
    return tuple(map(str, sorted((one for one in parsed if one.version == version), key=int)))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
