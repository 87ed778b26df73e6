"""The small files of a registry: how they are written, and what is left of what was removed."""

from typing import Any

import msgspec

from training.registry.layout import Kind
from training.registry.refs import parse_ref
from training.registry.storing import Storage

REMOVED = "removed"


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a version or a release that was collected. was: its card. when: seconds since 1970."""

    of: str
    was: dict[str, Any]
    when: float
    reason: str


def encode(value: Any) -> bytes:
    """For people and for digests: the same value gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(value), order="sorted"), indent=2) + b"\n"


def tombstone(ref: str) -> str:
    return f"{REMOVED}/{ref}.json"


def removed_labels(storage: Storage, kind: Kind | None) -> list[Removed]:
    """kind: of versions; None: releases."""
    wanted = "release" if kind is None else kind
    found = [
        msgspec.json.decode(storage.read(path), type=Removed)
        for path, _ in storage.list(f"{REMOVED}/")
        if path.removeprefix(f"{REMOVED}/").startswith(f"{wanted}:")
    ]
    return sorted(found, key=lambda one: _order(one.of))


def _order(ref: str) -> tuple[str, int]:
    if ref.startswith("release:"):
        return "", int(ref.removeprefix("release:"))
    parsed = parse_ref(ref)
    return parsed.name, parsed.number
