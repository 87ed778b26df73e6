"""The anchor of each policy: the version that every KL is measured to, and that trainings start from, over all rounds.

    <data_dir>/training/anchor.json    by policy: who made which version the anchor, when and why, the oldest first

Without an entry it is the configuration's own weights. Measured to the round before, a policy may walk any distance in
small steps (a trial went 2.8, 6.3, 7.3 nats); so no round moves the anchor by itself. To move it is a decision of an
operator, who has read what the policy says by now; it is kept with its reason, and so are those before it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.config import Config
from gateway.shared.note import Note
from training.data.places import make_folder, write_durably
from training.errors import TrainingError
from training.registry.refs import parse_label

if TYPE_CHECKING:
    from training.registry.registry import Registry

FILE = "anchor.json"


class Anchor(msgspec.Struct, frozen=True):
    """version: name@N. note: who made it the anchor; None: nobody, it is the configuration's own weights."""

    version: str
    note: Note | None = None


class Anchors(msgspec.Struct, frozen=True):
    """By policy, the oldest first; the last one holds."""

    policies: dict[str, list[Anchor]] = {}


def read_anchors(home: Path) -> Anchors:
    """Raises TrainingError where the file is damaged."""
    path = home / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Anchors)
    except FileNotFoundError:
        return Anchors()
    except msgspec.DecodeError as error:
        raise TrainingError(
            f"{path} cannot be read: {error}. Put back a copy of it, for it says who decided."
        ) from None


def anchor_of(home: Path, settings: Config, policy: str) -> Anchor:
    """Which version holds. Raises TrainingError where there is no such policy."""
    own = _own(settings, policy)
    return (read_anchors(home).policies.get(policy) or [Anchor(own)])[-1]


def anchor_folder(home: Path, settings: Config, policy: str, registry: "Registry") -> Path:
    """Its weights: the configuration's own model, or a version of the registry. Raises TrainingError."""
    from training.jobs.models import base_folder  # noqa: PLC0415  # huggingface_hub: 0.5 s

    anchor = anchor_of(home, settings, policy)
    if anchor.version == _own(settings, policy):
        return base_folder(settings.policies[policy].model)
    return registry.local(f"policy:{anchor.version}")


def set_anchor(home: Path, settings: Config, version: str, note: Note, registry: "Registry") -> Anchor:
    """Makes a version its policy's anchor. Raises TrainingError where there is none, or no reason is given."""
    label = parse_label(version)
    if label is None:
        raise TrainingError(f"{version!r} names no version: write POLICY@N, such as demo-policy@3.")
    if not note.reason.strip():
        raise TrainingError("Say with --reason why: from now on the distance that the policy has gone counts as none.")
    policy, _ = label
    if version != _own(settings, policy) and not registry.has(f"policy:{version}"):
        known = [one.label for one in registry.versions("policy", policy)]
        raise TrainingError(
            f"There is no version {version} in the registry {registry.url}; there is "
            f"{', '.join([_own(settings, policy), *known])}."
        )
    made = Anchor(version, note)
    with _held(home):
        known_anchors = read_anchors(home)
        before = known_anchors.policies.get(policy, [])
        write_durably(
            home / FILE,
            msgspec.json.format(
                msgspec.json.encode(Anchors({**known_anchors.policies, policy: [*before, made]}), order="sorted"),
                indent=2,
            )
            + b"\n",
        )
    return made


def _own(settings: Config, policy: str) -> str:
    found = settings.policies.get(policy)
    if found is None:
        known = ", ".join(settings.policies) or "none"
        raise TrainingError(f"The configuration has no policy {policy!r}; it has {known}.")
    return f"{policy}@{found.version}"


@contextmanager
def _held(home: Path) -> Iterator[None]:
    make_folder(home)
    with (home / f".{FILE}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
