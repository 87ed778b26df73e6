"""Who has seen whom: which snapshots have rows of a person or an interaction, and which models were made of those.

A row is tied to them by its sidecar (`Side.interactions`, `Side.people`). A snapshot that was rewritten without
somebody (`forgetting`) remembers what it took the place of, with the ids that were taken out: models made of that have
seen them.
A model has seen what its snapshot has, and what the models that it was made from have seen; a release, what the
versions that it bundles have seen.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.log.erase.judge import About, Judge
from gateway.log.erase.orders import subject_of
from training.data.layout import File, Snapshot, open_snapshot
from training.data.places import known_snapshots, registry_folder, reward_models_of
from training.errors import TrainingError
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # pyarrow: 0.3 s

CARD, ERASED = "card.json", "erased.json"
# In a manifest's facts: what it takes the place of, the oldest first.
REPLACED = "replaced"


class Replaced(msgspec.Struct, frozen=True):
    """A snapshot that is no more. interactions: taken out of it. orders: to erase, by which."""

    id: str
    interactions: list[str]
    orders: list[str]


class _Card(msgspec.Struct):
    """What is read of any model's card. snapshot: its id, or {"id", ...}. base: {"model": a name or a folder}."""

    snapshot: str | dict[str, Any] | None = None
    parents: list[str] = []
    base: dict[str, Any] = {}


@dataclass(frozen=True)
class Model:
    """A version. name: name@N, as its folder has it; of one in the registry its ref (policy:name@N, release:N).

    folder: of its card; None in the registry. parents: models that it was made from, by any of their names.
    """

    name: str
    folder: Path | None
    snapshot: str | None
    parents: tuple[str, ...]
    erased: bool


class Sought(Protocol):
    """Whom or what one looks for."""

    @property
    def interactions(self) -> Collection[str]: ...

    def person(self, tenant: str, user: str, created: float | None) -> bool:
        """Whether it is a person looked for. user: the keyed hash. created: when what the row is made of was said."""

    def taken_out(self, replaced: Replaced) -> bool:
        """Whether it was taken out of a snapshot that is no more."""


@dataclass(frozen=True)
class OfPerson:
    """A person of a tenant. interactions: theirs as far as they are known. orders: to erase them."""

    tenant: str
    user: str
    interactions: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()

    def person(self, tenant: str, user: str, created: float | None) -> bool:
        return (tenant, user) == (self.tenant, self.user)

    def taken_out(self, replaced: Replaced) -> bool:
        return not self.orders.isdisjoint(replaced.orders) or not self.interactions.isdisjoint(replaced.interactions)


@dataclass(frozen=True)
class OfInteractions:
    interactions: frozenset[str]

    def person(self, tenant: str, user: str, created: float | None) -> bool:
        return False

    def taken_out(self, replaced: Replaced) -> bool:
        return not self.interactions.isdisjoint(replaced.interactions)


@dataclass(frozen=True)
class OfErased:
    """All that was ever ordered to be erased and is under no legal hold. interactions: those that are known."""

    judge: Judge
    interactions: frozenset[str]

    def person(self, tenant: str, user: str, created: float | None) -> bool:
        return self.judge.order_of(About(created=created or 0.0, tenant=tenant, user=user)) is not None

    def taken_out(self, replaced: Replaced) -> bool:
        return bool(replaced.orders or replaced.interactions)

    def orders(self, interactions: Iterable[str], people: Iterable[tuple[str, str]]) -> list[str]:
        """By which orders these are erased."""
        found = {self.judge.order_of_id(one) for one in interactions}
        found |= {self.judge.order_of(About(tenant=tenant, user=user)) for tenant, user in people}
        return sorted(order for order in found if order is not None)


@dataclass(frozen=True)
class Found:
    """Rows of a file and whom they are about: indices of rows, interactions and (tenant, person) that were sought."""

    file: File
    rows: frozenset[int]
    interactions: frozenset[str]
    people: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Seen:
    """holding: snapshots with rows of it, and these. replaced: ids of those that had some and are no more. models: all
    that have seen it, those made from others included.
    """

    holding: list[tuple[Snapshot, list[Found]]]
    replaced: list[str]
    models: list[Model]


def snapshots(home: Path) -> list[Snapshot]:
    """All that are known. Raises TrainingError where one cannot be read."""
    found = []
    for url in known_snapshots(home):
        try:
            found.append(open_snapshot(url))
        except OSError as error:
            raise TrainingError(f"The snapshot {url} cannot be read: {error}.") from error
        except TrainingError:
            if Path(url).is_absolute() and not Path(url).exists():
                continue  # Deleted by hand.
            raise
    return found


def models(home: Path, registry: Registry | None = None) -> list[Model]:
    """All versions with a card that can be read, by name; then those in the registry, and its releases.

    registry: None: the one in `home`.
    """
    found = []
    for path in sorted(reward_models_of(home).glob(f"*/{CARD}")):
        try:
            card = msgspec.json.decode(path.read_bytes(), type=_Card)
        except msgspec.DecodeError as error:
            raise TrainingError(f"{path} is no model's card: {error}.") from error
        snapshot = card.snapshot.get("id") if isinstance(card.snapshot, dict) else card.snapshot
        base = Path(str(card.base.get("model", ""))).name
        parents = (*card.parents, *([base, f"policy:{base}", f"reward_model:{base}"] if base else []))
        found.append(Model(path.parent.name, path.parent, snapshot, parents, (path.parent / ERASED).exists()))
    return found + _registered(registry or Registry(str(registry_folder(home))))


def _registered(registry: Registry) -> list[Model]:
    erased = registry.erased()
    found = []
    for version in (*registry.versions("reward_model"), *registry.versions("policy")):
        # A reward model may be in the registry, or only where it was made.
        parents = [name for ref in version.parents for name in (ref, ref.removeprefix("reward_model:"))]
        base = Path(str(version.base.get("model", ""))).name
        known = dict.fromkeys([*parents, *([f"{version.kind}:{base}"] if base else [])])
        found.append(Model(version.ref, None, version.snapshot or None, tuple(known), version.ref in erased))
    for release in registry.releases():
        bundled = tuple(ref for ref in (release.policy, release.reward_model) if ref is not None)
        found.append(Model(release.ref, None, None, bundled, release.ref in erased))
    return found


def replaced_by(snapshot: Snapshot) -> list[Replaced]:
    """What a snapshot took the place of, the oldest first."""
    return msgspec.convert(snapshot.manifest.facts.get(REPLACED, []), list[Replaced])


def look(all_snapshots: Sequence[Snapshot], all_models: Sequence[Model], sought: Sought) -> Seen:
    """Raises TrainingError where a sidecar cannot be read."""
    holding = [(snapshot, found) for snapshot in all_snapshots if (found := found_in(snapshot, sought))]
    gone: dict[str, None] = {}
    for snapshot in all_snapshots:
        before = replaced_by(snapshot)
        last = max((place for place, one in enumerate(before) if sought.taken_out(one)), default=-1)
        # Whatever went before it had the same rows, and more.
        gone.update(dict.fromkeys(one.id for one in before[: last + 1]))
        if any(snapshot.manifest.id == held.manifest.id for held, _ in holding):
            gone.update(dict.fromkeys(one.id for one in before))
    ids = {snapshot.manifest.id for snapshot, _ in holding} | set(gone)
    return Seen(holding, list(gone), made_of(all_models, ids))


def made_of(all_models: Sequence[Model], ids: Collection[str]) -> list[Model]:
    """The models made of these snapshots, or from a model that was."""
    seen = {model.name for model in all_models if model.snapshot in ids}
    while True:
        more = {model.name for model in all_models if not seen.isdisjoint(model.parents)} - seen
        if not more:
            return [model for model in all_models if model.name in seen]
        seen |= more


def found_in(snapshot: Snapshot, sought: Sought) -> list[Found]:
    """The files with rows of it."""
    found = []
    for file in snapshot.manifest.files:
        try:
            one = _found_in_file(snapshot, file, sought)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors.
            raise TrainingError(f"{snapshot.url}/{file.side} cannot be read: {error}.") from error
        if one.rows:
            found.append(one)
    return found


def _found_in_file(snapshot: Snapshot, file: File, sought: Sought) -> Found:
    import fsspec
    import pyarrow.parquet as parquet

    with fsspec.open(f"{snapshot.url.rstrip('/')}/{file.side}", "rb") as opened:
        table = parquet.read_table(opened, columns=["interactions", "people", "tenant", "created"])
    interactions = _pairs(table, "interactions", sought.interactions)
    rows = {row for row, _ in interactions}
    people: set[tuple[str, str]] = set()
    tenants, created = table.column("tenant").to_pylist(), table.column("created").to_pylist()
    for row, person in _pairs(table, "people", None):
        if sought.person(tenants[row], person, created[row]):
            rows.add(row)
            people.add((tenants[row], person))
    return Found(file, frozenset(rows), frozenset(one for _, one in interactions), frozenset(people))


def _pairs(table: Any, name: str, wanted: Collection[str] | None) -> list[tuple[int, str]]:
    """(row, value) of a column of lists. wanted: those values alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name).combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    rows, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    if wanted is not None:
        mask = pc.is_in(values, value_set=pa.array(sorted(wanted), pa.string()))
        rows, values = rows.filter(mask), values.filter(mask)
    return list(zip(rows.to_pylist(), values.to_pylist(), strict=True))


def person_of(tenant: str, user: str, orders: Iterable[tuple[str, str, Collection[str]]]) -> OfPerson:
    """orders: all there are: (id, subject, interactions)."""
    own = [one for one in orders if one[1] == subject_of(tenant, user)]
    interactions = frozenset(identifier for _, _, its in own for identifier in its)
    return OfPerson(tenant, user, interactions, frozenset(identifier for identifier, _, _ in own))
