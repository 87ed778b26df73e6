"""A snapshot from beginning to end: read, join, weigh, compile, write, publish.

Stopped anywhere, by `kill -9` too, the same call goes on behind the last file that was finished, and what comes of it
is the same. What is read is settled at the beginning. Where somebody is erased meanwhile, all is begun again: what was
collected has them in it.
"""

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from rich.console import Console

from gateway.feedback import reviews
from gateway.feedback.settings import TrustConfig
from gateway.log import audit
from gateway.log.archive.reader import Archive
from gateway.log.archive.redaction import Treatment
from gateway.log.erase.judge import Judge
from gateway.log.erase.ledger import Ledger
from gateway.log.keys import stream_key
from gateway.shared.progress import bar
from training.data import compiling, joining, reading
from training.data.joining import Counts
from training.data.layout import MANIFEST, File, Manifest, encoded
from training.data.places import (
    NAME_DIGITS,
    elsewhere,
    remove_folder,
    set_elsewhere,
    sync_folder,
    write_durably,
)
from training.data.rows import DATASETS, SPLITS
from training.data.weighing import weigh
from training.data.work import Advance, Plan, Work
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.data.writing import Curated

# ruff: noqa: PLC0415  # pyarrow: 0.3 s

_TRIES = 3


class Begun(Exception):
    """Somebody was erased since it was begun."""


@dataclass(frozen=True)
class Log:
    """Where the records are. journals: this machine's."""

    redis: Redis
    shard: str
    archive: Archive | None
    journals: Path
    ledger: Ledger
    treat: Treatment
    trust: TrustConfig


@dataclass(frozen=True)
class Wish:
    """What is to come of it. scope: as the manifest says it. to: where to put it; None: where all are."""

    scope: str
    to: str | None = None
    curated: "Curated | None" = None


@dataclass(frozen=True)
class Made:
    """url: where it lies. counts: of what was read. before: the same was made before, and nothing was written."""

    url: str
    manifest: Manifest
    counts: Counts
    before: bool


class Steps:
    """How long each step took, in seconds, of the process that came to the end."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def done(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._began, 1)
        self._began = now


async def make(log: Log, work: Work, snapshots: Path, wish: Wish, console: Console) -> Made:
    """Raises TrainingError, RedisError, OSError."""
    for _ in range(_TRIES):
        try:
            with work.held():
                return await _make(log, work, snapshots, wish, console)
        except Begun:
            console.print("Somebody was erased since this snapshot was begun: it is begun again, without them.")
    raise TrainingError("People are being erased at this moment: run the same command again when that is done.")


async def judge_of(ledger: Ledger) -> tuple[int, Judge]:
    """The ledger's revision, and who knows all that was ever ordered to be erased.

    Without the legal holds: these keep records from being erased, and train nothing.
    """
    try:
        await ledger.reconcile()
    except OSError as error:
        raise TrainingError(f"The ledger of erasures beside the archive cannot be read: {error}.") from error
    revision = await ledger.revision()
    orders = await ledger.orders()
    return revision, Judge(orders, {order.id: await ledger.ids(order.id) for order in orders})


async def _make(log: Log, work: Work, snapshots: Path, wish: Wish, console: Console) -> Made:
    from training.data.writing import write_all

    steps = Steps()
    revision, judge = await judge_of(log.ledger)
    plan = work.plan()
    if plan is not None and plan.revision != revision:
        work.begin()
        raise Begun
    if plan is None:
        plan = await _settled(log, work, revision)
    else:
        work.divide(plan.buckets)
        console.print("It goes on where it was stopped; what was logged since then is left for the next one.")
    with _bar(console, "reading the log", await _records(log)) as advance:
        for kind in reading.KINDS:
            await reading.read_stream(log.redis, work, log.shard, kind, plan.ends[kind.name], log.treat, advance)
        for kind in reading.KINDS:
            if log.archive is not None:
                reading.read_archive(work, log.archive, kind, plan.ends[kind.name], advance)
    steps.done("read")
    with _bar(console, "joining", len(work.buckets)) as advance, uncollected():
        joining.join(work, judge, advance)
    steps.done("join")
    with console.status("weighing votes"), uncollected():
        worth = weigh(work, log.trust, plan)
    steps.done("weigh")
    with _bar(console, "making rows", len(work.buckets)) as advance, uncollected():
        compiling.compile_all(work, worth, advance)
    steps.done("compile")
    with _bar(console, "writing", len(DATASETS) * len(SPLITS)) as advance:
        files = write_all(work, wish.curated, advance)
    steps.done("write")
    counts = joining.counted(joining.joined_files(work))
    if not files:
        why = why_empty(counts, work, wish.scope)
        remove_folder(work.folder)
        raise TrainingError(why)
    if (await judge_of(log.ledger))[0] != plan.revision:
        work.begin()
        raise Begun
    manifest = _manifest(work, wish, files, counts, plan, steps)
    detail = f"snapshot {manifest.id[:NAME_DIGITS]} for {wish.scope}"
    entry = audit.typed(
        "export", target=work.wanted.described, tenant=work.wanted.tenant, count=counts.taken, detail=detail
    )
    await audit.note(log.redis, log.shard, entry)
    return publish(work, manifest, counts, snapshots, wish.to)


async def _settled(log: Log, work: Work, revision: int) -> Plan:
    """Read what moves on by itself, and settle what is read of the rest."""
    work.begin()
    work.divide(work.buckets_for(await _records(log) + reading.journaled(log.journals)))
    reading.read_journals(work, log.journals, log.treat)
    plan = Plan(
        began=time.time(),
        buckets=len(work.buckets),
        ends=await reading.stream_ends(log.redis, log.shard, log.archive),
        revision=revision,
        decisions=await reviews.read(log.redis, log.shard),
        findings=await reviews.findings(log.redis, log.shard),
    )
    work.settle(plan)
    return plan


async def _records(log: Log) -> int:
    """In Redis and the archive, doubles included."""
    total = await reading.archived(log.archive) if log.archive else 0
    for kind in reading.KINDS:
        total += int(await log.redis.xlen(stream_key(log.shard, kind)))
    return total


def _manifest(work: Work, wish: Wish, files: list[File], counts: Counts, plan: Plan, steps: Steps) -> Manifest:
    skipped: Counter[str] = Counter(counts.skipped)
    for file in compiling.compiled_files(work):
        skipped.update(file.about)
    facts: dict[str, Any] = {
        "read": reading.read_facts(work),
        "read_until": plan.ends,
        "erased": counts.erased,
        "unreadable": counts.unreadable,
        "seconds": steps.seconds,
        "versions": {name: version(name) for name in ("bestow-gateway", "pyarrow")},
    }
    sources = {"interactions": counts.asked, "joined": counts.taken, "votes": counts.votes}
    if wish.curated is not None:
        sources["curated"] = sum(len(wish.curated.file.rows.of(dataset)) for dataset in DATASETS)
    return Manifest(
        created=plan.began,
        scope=wish.scope,
        files=files,
        settings=work.asked,
        sources=sources,
        skipped=dict(sorted(skipped.items())),
        facts=facts,
    ).sealed()


def publish(work: Work, manifest: Manifest, counts: Counts, snapshots: Path, to: str | None) -> Made:
    """Give it its name, which says that it is whole; then the work is done with. Raises OSError."""
    name = manifest.id[:NAME_DIGITS]
    url = str(snapshots / name) if to is None else f"{to.rstrip('/')}/{name}"
    before = (snapshots / name / MANIFEST).exists() if to is None else _exists(url)
    if not before:
        write_durably(work.out / MANIFEST, encoded(manifest))
        if to is None:
            work.out.rename(snapshots / name)
            sync_folder(snapshots)
        else:
            # Known before it is whole: an erasure must find what a kill leaves.
            set_elsewhere(snapshots, [*elsewhere(snapshots), url])
            upload(work.out, manifest, url)
    remove_folder(work.folder)
    return Made(url, manifest, counts, before)


def upload(folder: Path, manifest: Manifest, url: str) -> None:
    """The manifest last. Raises OSError."""
    import fsspec

    files, root = fsspec.core.url_to_fs(url)
    for file in manifest.files:
        for name in (file.path, file.side):
            files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.put_file(str(folder / name), f"{root}/{name}")
    files.put_file(str(folder / MANIFEST), f"{root}/{MANIFEST}")


def _exists(url: str) -> bool:
    import fsspec

    files, root = fsspec.core.url_to_fs(url)
    return bool(files.exists(f"{root}/{MANIFEST}"))


def why_empty(counts: Counts, work: Work, scope: str) -> str:
    """Why there are no rows, in one sentence, and what to do."""
    wanted = work.wanted
    if not counts.interactions:
        return "The log is empty: there is nothing to make a snapshot of. Is this the right --config?"
    whose = f"of the tenant {wanted.tenant}" if wanted.tenant else "of any tenant"
    if not counts.asked:
        return f"Of the {counts.interactions} interactions in the log none is what was asked for ({wanted.described})."
    if counts.unscoped == counts.asked:
        training = "tenant" if wanted.tenant else "shared"
        return (
            f"None of the {counts.asked} interactions {whose} may train {scope}: their training scope does not allow "
            f"it, and is none until somebody says more. `bestow tenants set {wanted.tenant or 'NAME'} --training "
            f"{training}` allows it for what is logged from then on."
        )
    skipped: Counter[str] = Counter(counts.skipped)
    for file in compiling.compiled_files(work) if work.compiled.exists() else ():
        skipped.update(file.about)
    reasons = ", ".join(f"{count} {why}" for why, count in skipped.most_common(3))
    return f"The {counts.taken} interactions {whose} that may train give no rows: {reasons or 'they have no answers'}."


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for cycles: records have none, and it goes through all of them again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Advance]:
    with bar(console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
