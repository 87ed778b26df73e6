"""`bestow train lineage` and `bestow train forget`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from gateway.access.caller import DEFAULT_TENANT
from gateway.config import Config
from gateway.ids import interaction_id
from gateway.log import audit
from gateway.log.erase.ledger import Ledger
from gateway.log.erase.orders import subject_of
from gateway.log.search_commands import hashed
from gateway.log.source import ConfigOption, Source, run, source_of
from training.data import lineage as seen_by
from training.data.layout import Snapshot
from training.data.lineage import Model, OfErased, OfInteractions, Replaced, Seen, Sought, person_of, replaced_by
from training.data.places import NAME_DIGITS, home_of
from training.data.snapshot_command import rows_table
from training.errors import TrainingError
from training.registry.registry import Registry, configured_registry

# ruff: noqa: PLC0415  # pyarrow: 0.3 s

RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry", metavar="URL", help="Where versions and releases are.  (default: training/registry in data_dir)"
    ),
]


def lineage(
    what: Annotated[
        str | None, typer.Argument(metavar="[SNAPSHOT|MODEL]", help="A snapshot's id or path, or a model as name@N.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="A person, as the application names them.")] = None,
    user_hash: Annotated[str | None, typer.Option(help="A person, as the log names them.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose user it is: two tenants may use one name.")] = DEFAULT_TENANT,
    interaction: Annotated[str | None, typer.Option(metavar="ID", help="An answer, by its id.")] = None,
    erased: Annotated[bool, typer.Option("--erased", help="All who were ever erased (bestow erase).")] = False,
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Say which snapshots hold somebody, and which models have seen them; without anything: what there is.

    \b
    A model has seen what its snapshot had, also where that was rewritten since, and what the models had seen that it
    was made from; a release, what its policy and its reward model had seen. Example:
      bestow train lineage
      bestow train lineage --user alice@example.org
      bestow train lineage --erased
      bestow train lineage reward@3
      bestow train lineage policy:demo-policy@2
    """
    named = sum((what is not None, user is not None or user_hash is not None, interaction is not None, erased))
    if named > 1:
        raise TrainingError("Look for one thing: a snapshot or model, or --user, --interaction or --erased.")
    source = source_of(config, None, None)
    assert source.settings is not None
    settings = source.settings
    home, registered = home_of(settings), configured_registry(settings, registry)
    if what is not None:
        _describe(home, registered, what)
    elif not named:
        _overview(home, registered)
    else:
        person = hashed(settings, user, user_hash)
        found = _interaction(interaction)
        run(source, lambda client: _look(client, source, settings, registered, tenant, person, found))


def forget(registry: RegistryOption = None, config: ConfigOption = None) -> None:
    """Take everybody who was erased (bestow erase) out of all snapshots.

    \b
    Each snapshot that has rows of theirs is written anew without these, under a new name, and the old one is deleted.
    Evaluations on its prompts and unfinished trainings go too. Models that were made of it are named, and marked with
    a file erased.json beside their card, or in the registry: what they learned stays in their weights until they are
    trained again, and `bestow release create` refuses them. Example:
      bestow erase --user alice@example.org
      bestow train forget
    """
    source = source_of(config, None, None)
    assert source.settings is not None
    settings = source.settings
    registered = configured_registry(settings, registry)
    run(source, lambda client: _forget(client, source, settings, registered))


async def erased_people(ledger: Ledger) -> OfErased:
    """All that is to be erased; not what a legal hold keeps."""
    _, judge = await ledger.judge()
    ids = {identifier for its in (await ledger.erased_ids()).values() for identifier in its}
    return OfErased(judge, frozenset(one for one in ids if judge.order_of_id(one) is not None))


async def _look(
    redis: Redis,
    source: Source,
    settings: Config,
    registry: Registry,
    tenant: str,
    person: str | None,
    interaction: str | None,
) -> None:
    ledger = Ledger(redis, settings.log, settings.data_dir)
    sought: Sought
    if person is not None:
        orders = [(one.id, one.subject, await ledger.ids(one.id)) for one in await ledger.orders()]
        sought, target = person_of(tenant, person, orders), f"subject {subject_of(tenant, person)}"
    elif interaction is not None:
        sought, target = OfInteractions(frozenset([interaction])), interaction
    else:
        sought, target = await erased_people(ledger), "all who were erased"
    entry = audit.typed("search", target=target, tenant=tenant if person else None, detail="lineage of training")
    await audit.note(redis, source.shard, entry)
    home = home_of(settings)
    seen = seen_by.look(seen_by.snapshots(home), seen_by.models(home, registry), sought)
    _print_seen(seen, isinstance(sought, OfErased))


async def _forget(redis: Redis, source: Source, settings: Config, registry: Registry) -> None:
    from training.data.forgetting import drop_copies, drop_unfinished, mark, rewrite
    from training.policy.rejection import forget as forget_sampled

    home = home_of(settings)
    ledger = Ledger(redis, settings.log, settings.data_dir)
    await ledger.reconcile()
    revision = await ledger.revision()
    erased = await erased_people(ledger)
    if dropped := drop_unfinished(home, revision):
        print(f"Deleted {dropped} unfinished snapshots that were begun before somebody was erased.")
    with Console(stderr=True).status("looking through the snapshots"):
        seen = seen_by.look(seen_by.snapshots(home), seen_by.models(home, registry), erased)
    if seen.holding:
        named = ", ".join(snapshot.manifest.id[:NAME_DIGITS] for snapshot, _ in seen.holding)
        await audit.note(
            redis, source.shard, audit.typed("erase", target="all who were erased", detail=f"from {named}")
        )
    now = time.time()
    for snapshot, found in seen.holding:
        with Console(stderr=True).status(f"rewriting {snapshot.url}"):
            new = rewrite(home, snapshot, found, erased)
        rows = sum(len(part.rows) for part in found)
        print(f"{snapshot.url}: {rows} rows taken out; it is {new.url} now.")
    # Of all that were ever taken the place of: a call before this one may have been killed before it came to this.
    all_models = seen_by.models(home, registry)
    gone = {replaced.id for snapshot in seen_by.snapshots(home) for replaced in replaced_by(snapshot)}
    if copies := drop_copies(home, gone):
        print(f"Deleted {copies} evaluations, unfinished trainings and labellings that were made of what is replaced.")
    if sampled := forget_sampled(home, erased):
        print(f"Took out the candidates that were sampled to {sampled} of their prompts.")
    for snapshot in seen_by.snapshots(home):
        for replaced in replaced_by(snapshot):
            mark(seen_by.made_of(all_models, _through(snapshot, replaced)), registry, replaced, now)
    marked = [model for model in seen_by.models(home, registry) if model.erased]
    if not seen.holding:
        print("No snapshot has rows of anybody who was erased.")
    for model in marked:
        again = "make it anew of others" if model.name.startswith("release:") else "train it again"
        print(f"{model.name} has seen somebody who was erased since: {again}, or take it out of use.")


def _through(snapshot: Snapshot, replaced: Replaced) -> list[str]:
    """The ids of what had it: that one, and what that took the place of."""
    ids = [one.id for one in replaced_by(snapshot)]
    return ids[: ids.index(replaced.id) + 1]


def _print_seen(seen: Seen, erased: bool) -> None:
    for snapshot, found in seen.holding:
        print(f"snapshot  {snapshot.url}  {sum(len(part.rows) for part in found)} rows")
    for identifier in seen.replaced:
        print(f"replaced  {identifier[:NAME_DIGITS]}  rewritten without them since")
    for model in seen.models:
        print(f"{_kind(model)} {model.name}  made of {_made_of(model)}{'  marked' if model.erased else ''}")
    if not seen.holding and not seen.replaced:
        print("No snapshot has, or had, any row of it.")
    if erased and seen.holding:
        print("next      bestow train forget")


def _overview(home: Path, registry: Registry) -> None:
    all_snapshots, all_models = seen_by.snapshots(home), seen_by.models(home, registry)
    table = Table("snapshot", "for", "rows", "models made of it", box=None)
    for snapshot in all_snapshots:
        ids = {snapshot.manifest.id, *(one.id for one in replaced_by(snapshot))}
        made = ", ".join(model.name for model in seen_by.made_of(all_models, ids))
        rows = str(sum(file.rows for file in snapshot.manifest.files))
        table.add_row(snapshot.manifest.id[:NAME_DIGITS], snapshot.manifest.scope, rows, made or "none")
    if not all_snapshots:
        print("There are no snapshots: make one with `bestow train snapshot`.")
        return
    Console().print(table)


def _describe(home: Path, registry: Registry, what: str) -> None:
    all_models = seen_by.models(home, registry)
    model = next((one for one in all_models if what in (one.name, str(one.folder), one.name.partition(":")[2])), None)
    if model is not None:
        return _print_model(model, all_models, seen_by.snapshots(home))
    all_snapshots = seen_by.snapshots(home)
    digest, path = what.rstrip("/").rpartition("/")[2], what.rstrip("/")
    for one in all_snapshots:
        if path == one.url or (len(digest) >= 6 and one.manifest.id.startswith(digest)):
            return _print_snapshot(one, all_models)
    for one in all_snapshots:
        if any(len(digest) >= 6 and before.id.startswith(digest) for before in replaced_by(one)):
            print(f"It was rewritten without somebody who was erased; now it is {one.url}.")
            return _print_snapshot(one, all_models)
    raise TrainingError(f"{what} is no snapshot or model here: `bestow train lineage` lists them.")


def _print_snapshot(snapshot: Snapshot, all_models: Sequence[Model]) -> None:
    Console().print(rows_table(snapshot.manifest))
    print(f"id        {snapshot.manifest.id}")
    for replaced in replaced_by(snapshot):
        print(f"replaces  {replaced.id[:NAME_DIGITS]}  without {len(replaced.interactions)} erased interactions")
    ids = {snapshot.manifest.id, *(one.id for one in replaced_by(snapshot))}
    for model in seen_by.made_of(all_models, ids):
        print(f"{_kind(model)} {model.name}{'  has seen somebody who was erased since' if model.erased else ''}")


def _print_model(model: Model, all_models: Sequence[Model], all_snapshots: Sequence[Snapshot]) -> None:
    print(f"{_kind(model)} {model.name}{'  has seen somebody who was erased since' if model.erased else ''}")
    by_name = {one.name: one for one in all_models}
    waiting, told = [model], {model.name}
    while waiting:
        one = waiting.pop(0)
        print(f"{one.name}  made of {_made_of(one)}{_where(one, all_snapshots)}")
        parents = [by_name[name] for name in one.parents if name in by_name and name not in told]
        told |= {parent.name for parent in parents}
        waiting += parents


def _kind(model: Model) -> str:
    return "release  " if model.name.startswith("release:") else "model    "


def _made_of(model: Model) -> str:
    """Its snapshot; a release is made of versions."""
    return " and ".join(model.parents) if model.name.startswith("release:") else _short(model.snapshot)


def _where(model: Model, all_snapshots: Sequence[Snapshot]) -> str:
    """Where its snapshot is now."""
    if model.snapshot is None:
        return ""
    now = next((s.url for s in all_snapshots if s.manifest.id == model.snapshot), None)
    after = next((s.url for s in all_snapshots if model.snapshot in [old.id for old in replaced_by(s)]), None)
    return f"  ({now or (f'rewritten since: {after}' if after else 'not here')})"


def _short(snapshot: str | None) -> str:
    return snapshot[:NAME_DIGITS] if snapshot else "no snapshot"


def _interaction(given: str | None) -> str | None:
    if given is None:
        return None
    found = interaction_id(given)
    if found is None:
        raise TrainingError(
            f"--interaction: {given[:100]!r} is not the id of an answer, such as chatcmpl-0198c0de-...."
        )
    return found
