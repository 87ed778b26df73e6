"""What operators have changed about the workers, all of it at one version, and what may be changed: pure functions.

Workers that the configuration or DNS names need no entry. What is remembered of a worker is remembered by its URL, so
that it holds for one that comes back.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.errors import BadRequest, Conflict, NotFound
from gateway.shared.document import Document, Versioned
from gateway.shared.note import Note
from scorers.endpoint import Endpoint

MAX_URL = 500
MAX_PATH = 1024
# An adapter that should be gone is unloaded wherever it is found for as long as this: a worker may come back late.
RETIRED_FOR_S = 7 * 86_400.0

_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")

V = TypeVar("V")


class Adapter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A LoRA adapter that every worker of a policy has. path: where the workers read it, or its Hugging Face id."""

    path: str
    note: Note


class PolicyFleet(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one policy, by URL: workers added, drained, and removed although the configuration or DNS names them.

    adapters: by name. retired: adapters that nobody gets, and the time from which they are unloaded wherever they are
    found. One that is being loaded stands there too: should its gateway die over it, it is undone then.
    """

    added: dict[str, Note] = {}
    drained: dict[str, Note] = {}
    removed: dict[str, Note] = {}
    adapters: dict[str, Adapter] = {}
    retired: dict[str, float] = {}


class FleetState(Versioned, frozen=True, omit_defaults=True):
    """policies: by name, those that something was changed about."""

    policies: dict[str, PolicyFleet] = msgspec.field(default_factory=dict)

    def of(self, policy: str) -> PolicyFleet:
        return self.policies.get(policy) or PolicyFleet()


Decide = Callable[[FleetState], FleetState]

FLEET = Document("fleet", "workers and adapters", FleetState)


def worker_url(url: str, template: Endpoint) -> str:
    """The address of a worker to be added. template: whose key and TLS it gets. Raises BadRequest."""
    problem = _problem(url)
    if not problem and template.url.startswith("https:") and not url.startswith("https:"):
        problem = "this policy's workers are spoken to by https, with a key or certificates that http would give away"
    if problem:
        raise BadRequest(f"url: {problem}", param="url")
    return url.rstrip("/")


def _problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "it is not an address"
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        return f"at most {MAX_URL} printable characters without spaces"
    if not usable or parts.query or parts.fragment:
        return "it must look like http://10.0.0.7:8000"
    if "@" in parts.netloc:
        return "it holds a name or a password; the worker gets the key of the policy's first configured worker"
    return None


def adapter_name(name: str, policy: str) -> str:
    """Raises BadRequest."""
    if _ADAPTER_NAME.fullmatch(name) is None:
        raise BadRequest(
            "name: an adapter's name has 1 to 128 letters, digits, dots, dashes and underscores, a letter or digit "
            "first",
            param="name",
        )
    if name == policy:
        raise BadRequest(f"name: {name} is the policy itself", param="name")
    return name


def adapter_path(path: str) -> str:
    """Raises BadRequest."""
    if len(path) > MAX_PATH or not path.isprintable() or not (path.startswith("/") or _HUB_ID.fullmatch(path)):
        raise BadRequest(
            f"path: an absolute path that the workers can read, or a Hugging Face id (org/name); at most {MAX_PATH} "
            "characters",
            param="path",
        )
    return path


def add_worker(policy: str, url: str, named: Collection[str], made: Note) -> Decide:
    """named: the addresses that the configuration and DNS name. One of those that was removed is back."""

    def decide(state: FleetState) -> FleetState:
        fleet = state.of(policy)
        there = url in fleet.added or (url in named and url not in fleet.removed)
        if there:
            raise Conflict(f"url: the policy {policy} has this worker already", param="url", code="worker_exists")
        added = fleet.added if url in named else {**fleet.added, url: made}
        return _with(state, policy, added=added, removed=_without(fleet.removed, url))

    return decide


def drain_workers(places: Sequence[tuple[str, str]], on: bool, made: Note) -> Decide:
    """places: (policy, URL), of one server. Doing it twice changes nothing."""

    def decide(state: FleetState) -> FleetState:
        for policy, url in places:
            drained = state.of(policy).drained
            if on != (url in drained):
                state = _with(state, policy, drained={**drained, url: made} if on else _without(drained, url))
        return state

    return decide


def remove_workers(places: Sequence[tuple[str, str]], named: Mapping[str, Collection[str]], made: Note) -> Decide:
    """named: by policy, the addresses that the configuration and DNS name; such a one stays away until it is added."""

    def decide(state: FleetState) -> FleetState:
        for policy, url in places:
            fleet = state.of(policy)
            removed = {**fleet.removed, url: made} if url in named[policy] else fleet.removed
            added, drained = _without(fleet.added, url), _without(fleet.drained, url)
            state = _with(state, policy, added=added, drained=drained, removed=removed)
        return state

    return decide


def claim_adapter(policy: str, name: str, path: str, *, until: float, now: float) -> Decide:
    """Before an adapter is loaded: nobody else loads it, or unloads what is left of an earlier one, until then.

    One that is in force from this path already is loaded where it is missing, and needs no claim.
    """

    def decide(state: FleetState) -> FleetState:
        fleet = state.of(policy)
        if present := fleet.adapters.get(name):
            if present.path == path:
                return state
            raise Conflict(
                f"name: the adapter {name} of {policy} is loaded from {present.path}. Unload it first, or give this "
                "one a name of its own: what runs must not change its model half way",
                param="name",
                code="adapter_exists",
            )
        if fleet.retired.get(name, 0.0) > now:
            raise Conflict(
                f"name: the adapter {name} of {policy} is being loaded or unloaded",
                param="name",
                code="adapter_busy",
                retry_after=5.0,
            )
        return _with(state, policy, retired=_retired(fleet, now) | {name: until})

    return decide


def keep_adapter(policy: str, name: str, path: str, made: Note) -> Decide:
    """All workers have it: it is in force."""

    def decide(state: FleetState) -> FleetState:
        fleet = state.of(policy)
        if name in fleet.adapters:
            return state
        adapters = {**fleet.adapters, name: Adapter(path, made)}
        return _with(state, policy, adapters=adapters, retired=_without(fleet.retired, name))

    return decide


def give_up_adapter(policy: str, name: str, *, now: float) -> Decide:
    """It was not loaded everywhere: from now on it is unloaded where it is found."""

    def decide(state: FleetState) -> FleetState:
        fleet = state.of(policy)
        return state if name in fleet.adapters else _with(state, policy, retired={**fleet.retired, name: now})

    return decide


def retire_adapter(policy: str, name: str, *, unload_at: float, now: float) -> Decide:
    """No worker gets requests for it from now on, and none is given it back."""

    def decide(state: FleetState) -> FleetState:
        fleet = state.of(policy)
        if name not in fleet.adapters:
            known = ", ".join(sorted(fleet.adapters)) or "none"
            raise NotFound(f"the policy {policy} has no adapter {name!r} (there is {known})", code="adapter_not_found")
        retired = _retired(fleet, now) | {name: unload_at}
        return _with(state, policy, adapters=_without(fleet.adapters, name), retired=retired)

    return decide


def _retired(fleet: PolicyFleet, now: float) -> dict[str, float]:
    return {name: at for name, at in fleet.retired.items() if at > now - RETIRED_FOR_S}


def _with(state: FleetState, policy: str, **changed: object) -> FleetState:
    fleet = msgspec.structs.replace(state.of(policy), **changed)
    return msgspec.structs.replace(state, policies={**state.policies, policy: fleet})


def _without(given: dict[str, V], key: str) -> dict[str, V]:
    return {name: value for name, value in given.items() if name != key}
