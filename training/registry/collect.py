"""Garbage collection: what nobody is served with, and nobody could be again, is removed; the rest never is.

    kept    what serves, is being tried or held back, can be rolled back to; and what is newer than what serves, since
            it may be waiting for its release; what a kept release bundles; what a kept version was trained from;
            the anchors of policies; what is younger than some days; and the latest of what is left

`removable` decides and is pure; `collect` removes, one after the other, and looks again at what serves before each.
Whoever is killed in between leaves nothing half: a release or a version is none once its file with the facts is gone,
which goes first, and the rest goes with the next collection. What is removed leaves a card in removed/, so that its
number is never given again, and its verdicts and uses, which are part of the history of the data.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

import msgspec

from gateway.release.state import Bundle, ModelRelease, ReleaseState
from training.registry import publishing, releases
from training.registry.layout import FOLDERS, VERSION, Kind, Release, Version
from training.registry.reading import Removed, encode, tombstone
from training.registry.refs import parse_label, parse_ref
from training.registry.registry import CREATED, Registry

DAY_S = 86400.0
T = TypeVar("T", Version, Release)


@dataclass(frozen=True)
class Removable:
    """By kind, name and number."""

    versions: tuple[Version, ...] = ()
    releases: tuple[Release, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(facts.bytes for version in self.versions for facts in version.files.values())

    @property
    def refs(self) -> list[str]:
        return [*(one.ref for one in self.releases), *(one.ref for one in self.versions)]


def removable(
    versions: Sequence[Version],
    known: Sequence[Release],
    state: ReleaseState,
    *,
    now: float,
    keep: int,
    days: float,
    anchors: Collection[str] = (),
) -> Removable:
    """What may go. known: all releases. keep: so many of each name stay that could go. days: nothing younger goes.

    anchors: refs that training starts from, or is held near.
    """
    since = now - days * DAY_S
    live = [one for one in known if _needed_release(one, state)]
    idle = [one for one in known if one not in live and _is_older(one, since)]
    gone = _but_latest(idle, keep, key=lambda one: one.model)
    needed = _needed_refs(versions, live, state, anchors)
    old = [one for one in versions if one.ref not in needed and _is_older(one, since)]
    left = _but_latest(old, keep, key=lambda one: f"{one.kind}:{one.name}")
    # Whatever stays for another reason needs what it bundles, and what it was made from.
    needed |= {ref for one in known if one not in gone for ref in _bundled(one)}
    needed |= _origins(versions, needed | {one.ref for one in versions if one not in left})
    return Removable(tuple(one for one in left if one.ref not in needed), tuple(gone))


def served(state: ReleaseState) -> set[str]:
    """Refs of what serves, is tried, is held back, or can be rolled back to."""
    return {ref for one in state.models.values() for bundle in _live(one) for ref in _refs_of(bundle)}


def _live(model: ModelRelease) -> Iterator[Bundle]:
    yield model.champion
    yield from model.previous
    if model.canary is not None:
        yield model.canary.bundle
        yield model.canary.control


def _refs_of(bundle: Bundle) -> Iterator[str]:
    yield f"release:{bundle.release}"
    if bundle.policy:
        yield f"policy:{bundle.policy}"
    name, _, number = (bundle.reward or "").rpartition("-")
    if name and number.isdecimal():
        yield f"reward_model:{name}@{number}"


def _needed_release(release: Release, state: ReleaseState) -> bool:
    """It lives, or is newer than what serves its model: then it may be waiting."""
    return release.ref in served(state) or release.number > state.of(release.model).champion.release


def _bundled(release: Release) -> set[str]:
    return {ref for ref in (release.policy, release.reward_model) if ref is not None}


def _needed_refs(
    versions: Sequence[Version], kept: Sequence[Release], state: ReleaseState, anchors: Collection[str]
) -> set[str]:
    needed = served(state) | set(anchors)
    needed |= {ref for one in kept for ref in _bundled(one)}
    champions = {ref for one in state.models.values() for ref in _refs_of(one.champion)}
    oldest: dict[tuple[str, str], int] = {}
    for ref in champions:
        if not ref.startswith("release:"):
            kind, name, number = _parts(ref)
            oldest[kind, name] = min(number, oldest.get((kind, name), number))
    for one in versions:
        serves = oldest.get((one.kind, one.name))
        if serves is None or one.number > serves:  # nothing of that name serves: all of it may be waiting
            needed.add(one.ref)
    return needed | _origins(versions, needed)


def _origins(versions: Sequence[Version], needed: Iterable[str]) -> set[str]:
    """What these were trained from: whole weights under adapters, however many; and what training began with."""
    by_ref = {one.ref: one for one in versions}
    found: set[str] = set()
    at = [by_ref[ref] for ref in needed if ref in by_ref]
    for one in at:
        found.update(parent for parent in one.parents if parent.startswith(f"{one.kind}:"))
    waiting = list({*found, *(one.ref for one in at)})
    while waiting:
        version = by_ref.get(waiting.pop())
        for parent in version.parents if version is not None and version.adapter else ():
            if parent in by_ref and not by_ref[parent].adapter and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def _parts(ref: str) -> tuple[str, str, int]:
    kind, _, label = ref.partition(":")
    parsed = parse_label(label)
    return (kind, *parsed) if parsed else (kind, label, 0)


def _is_older(one: Version | Release, since: float) -> bool:
    """One that does not say when it was made is not."""
    created = one.facts.get(CREATED)
    return isinstance(created, int | float) and created < since


def _but_latest(found: Sequence[T], keep: int, key: Callable[[T], str]) -> list[T]:
    groups: dict[str, list[T]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.number):
        groups[key(one)].append(one)
    return [one for name in sorted(groups) for one in groups[name][: max(0, len(groups[name]) - keep)]]


def collect(
    registry: Registry,
    read_state: Callable[[], ReleaseState],
    *,
    now: float,
    keep: int,
    days: float,
    anchors: Collection[str] = (),
    dry_run: bool = False,
    removing: Callable[[str], None] = lambda ref: None,
) -> Removable:
    """Remove what may go, and return it. read_state: raises where nobody can say what serves; then nothing more goes.

    removing: is told of each before it goes.
    """

    def look() -> Removable:
        versions = [one for kind in get_args(Kind) for one in registry.versions(kind)]
        known, state = registry.releases(), read_state()
        return removable(versions, known, state, now=now, keep=keep, days=days, anchors=anchors)

    found = look()
    if dry_run:
        return found
    for release in found.releases:
        if release in look().releases:
            removing(release.ref)
            _bury(registry, release, now)
            registry.storage.delete(releases.place(release.number))
    for version in found.versions:
        if version in look().versions:
            removing(version.ref)
            remove_version(registry, version, now)
    sweep(registry)
    return found


def remove_version(registry: Registry, version: Version, now: float) -> None:
    """The card first, version.json second: what a kill leaves is no version, and its number is taken."""
    _bury(registry, version, now)
    place = parse_ref(version.ref).place
    registry.storage.delete(f"{place}/{VERSION}")
    publishing.remove_files(registry.storage, place)


def sweep(registry: Registry) -> None:
    """Files that killed collections have left, and what killed publishers have."""
    for kind in get_args(Kind):
        for one in registry.removed(kind):
            if not registry.has(one.of):
                publishing.remove_files(registry.storage, parse_ref(one.of).place)
        publishing.sweep(registry.storage, FOLDERS[kind])


def _bury(registry: Registry, one: Version | Release, now: float) -> None:
    card = Removed(of=one.ref, was=msgspec.to_builtins(one), when=now, reason="garbage collection")
    registry.storage.create(tombstone(one.ref), encode(card))
