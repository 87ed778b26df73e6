"""Releases as files: releases/<N>.json, made once by the first who takes the number."""

import itertools

import msgspec

from training.errors import TrainingError
from training.registry.layout import LAYOUT_VERSION, Release
from training.registry.reading import encode, removed_labels
from training.registry.storing import Storage

_FOLDER = "releases/"


def place(number: int) -> str:
    return f"{_FOLDER}{number}.json"


def keep(storage: Storage, release: Release) -> Release:
    """Under the next number; one with the same content is returned instead, however it is numbered."""
    for one in read_all(storage):
        if _content(one) == _content(release):
            return one
    for number in itertools.count(_last(storage) + 1):
        numbered = msgspec.structs.replace(release, number=number)
        if storage.create(place(number), encode(numbered)):
            return numbered
        taken = read(storage, number)  # by another process, just now
        if _content(taken) == _content(release):
            return taken
    raise AssertionError


def read(storage: Storage, number: int) -> Release:
    """Raises TrainingError where there is none."""
    try:
        release = msgspec.json.decode(storage.read(place(number)), type=Release)
    except FileNotFoundError:
        raise TrainingError(
            f"There is no release {number} in the registry {storage.url}: `bestow release list` shows what there is."
        ) from None
    except msgspec.DecodeError as error:
        raise TrainingError(f"{storage.url}/{place(number)} cannot be read: {error}.") from error
    if release.layout != LAYOUT_VERSION:
        raise TrainingError(f"Release {number} has layout {release.layout}; this Bestow reads layout {LAYOUT_VERSION}.")
    return release


def read_all(storage: Storage) -> list[Release]:
    """By number."""
    return [read(storage, number) for number in _numbers(storage)]


def _content(release: Release) -> bytes:
    return encode(msgspec.structs.replace(release, number=0, facts={}))


def _last(storage: Storage) -> int:
    removed = [int(one.of.removeprefix("release:")) for one in removed_labels(storage, None)]
    return max((*_numbers(storage), *removed), default=0)


def _numbers(storage: Storage) -> list[int]:
    names = [path.removeprefix(_FOLDER).removesuffix(".json") for path, _ in storage.list(_FOLDER)]
    return sorted(int(name) for name in names if name.isdecimal())
