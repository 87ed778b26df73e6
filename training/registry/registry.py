"""The registry: versions of policies and reward models, releases of them, and what gates said. See `layout`.

    registry = Registry("s3://bucket/registry")
    version = registry.publish(Version(kind="policy", name="demo-policy", number=0, ...), folder)
    registry.add_verdicts(version.ref, report)
    registry.release(Release(number=0, model="bestow-demo", policy=version.ref, ...))

Whatever is in it is never changed. What was removed (`collect`) leaves its card behind, so that no number is given
twice: workers know adapters by their numbers.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from gateway.config import Config
from training.data.places import home_of, registry_folder
from training.errors import TrainingError
from training.gates.verdicts import GateReport
from training.registry import publishing, releases
from training.registry.checking import Fault, faults
from training.registry.fetching import fetch
from training.registry.layout import FOLDERS, VERSION, FileFacts, Kind, Release, Version
from training.registry.reading import Removed, encode, removed_labels
from training.registry.refs import parse_label, parse_ref
from training.registry.storing import Storage, open_storage

CREATED = "created"


def configured_registry(settings: Config, url: str | None = None) -> "Registry":
    """That of a configuration, `<data_dir>/training/registry`; or of a URL."""
    home = home_of(settings)
    return Registry(url or str(registry_folder(home)), home / "cache")


class Registry:
    """All methods are synchronous. They raise TrainingError where something is missing or is not what it should be, and
    OSError where the store cannot be reached."""

    def __init__(self, url: str, cache: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """url: a folder or an fsspec URL. cache: where a registry that is no folder keeps local copies."""
        self.storage: Storage = open_storage(url)
        self.url = self.storage.url
        self._cache = cache or Path("~/.cache/bestow/registry").expanduser()
        self._clock = clock

    # Versions.

    def publish(self, version: Version, folder: Path, *, above: int = 0, only: Sequence[str] | None = None) -> Version:
        """Copy a folder in as the next version of its name, and return it with number, files and `facts.created`.

        version.number and .files are ignored. above: no number up to this one is given (the configuration's own
        weights have one too). only: names of the folder's files and subfolders to take; None: all but hidden ones.
        The same `measures["jobs"]` with the same weights is the same version, which is returned as it is.
        """
        stamped = msgspec.structs.replace(version, facts={CREATED: self._clock(), **version.facts})
        return publishing.publish(self.storage, stamped, folder, above, only)

    def publish_reward_model(self, folder: Path) -> Version:
        """One that `bestow train reward` made (`rewards`)."""
        from training.registry.rewards import publish_reward_model  # noqa: PLC0415  # it needs this class

        return publish_reward_model(self, folder)

    def made_by(self, kind: Kind, name: str, jobs: Sequence[str]) -> Version | None:
        """The latest version that these jobs have made already (`measures["jobs"]`)."""
        found = [one for one in self.versions(kind, name) if one.measures.get("jobs") == list(jobs)]
        return found[-1] if found else None

    def versions(self, kind: Kind, name: str | None = None) -> list[Version]:
        """By name, then number."""
        found = []
        for path, _ in self.storage.list(f"{FOLDERS[kind]}/"):
            _, label, *rest = path.split("/")
            parts = parse_label(label)
            if parts and rest == [VERSION] and name in (None, parts[0]):
                found.append(self.open(f"{kind}:{label}"))
        return sorted(found, key=lambda one: (one.name, one.number))

    def open(self, ref: str) -> Version:
        return self._read(ref)[0]

    def digest(self, ref: str) -> str:
        """SHA-256 of its version.json, which has those of its files."""
        return self._read(ref)[1]

    def has(self, ref: str) -> bool:
        try:
            self.open(ref)
        except TrainingError:
            return False
        return True

    def folder(self, ref: str) -> str:
        """Its URL; a path where the registry is a folder."""
        return f"{self.url}/{parse_ref(ref).place}"

    def local(self, ref: str) -> Path:
        """Its folder on this machine; where the registry is elsewhere, a copy that is checked when it is made."""
        version, digest = self._read(ref)
        if self.storage.root is not None:
            return self.storage.root / parse_ref(ref).place
        return fetch(self.storage, version, digest, self._cache)

    def faults(self, ref: str) -> list[Fault]:
        """What is wrong with its files: missing, damaged, or not its own. Reads all of them."""
        return faults(self.storage, self.open(ref))

    def verify(self, ref: str) -> Version:
        """Raises TrainingError that names the first file which is not as it was published."""
        found = self.faults(ref)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise TrainingError(f"{ref} is not as it was published: {found[0]}{more}. Publish it again from its job.")
        return self.open(ref)

    def removed(self, kind: Kind) -> list[Removed]:
        """What was collected, by name and number."""
        return removed_labels(self.storage, kind)

    # What gates said, and which data they went by.

    def add_verdicts(self, ref: str, report: GateReport) -> str:
        """Keep a report of a version, a release (release:N) or a snapshot. Returns its digest, the name of its file.

        The same report is kept once; `facts.created` is no part of what it says.
        """
        said = {key: value for key, value in report.facts.items() if key != CREATED}
        digest = hashlib.sha256(encode(msgspec.structs.replace(report, facts=said))).hexdigest()
        stamped = msgspec.structs.replace(report, facts={CREATED: self._clock(), **report.facts})
        self.storage.create(f"verdicts/{_file_name(ref)}/{digest}.json", encode(stamped))
        return digest

    def verdicts(self, ref: str) -> list[GateReport]:
        """The oldest first."""
        return [report for _, report in self.named_verdicts(ref)]

    def named_verdicts(self, ref: str) -> list[tuple[str, GateReport]]:
        """Each with its digest."""
        found = []
        for path, _ in self.storage.list(f"verdicts/{_file_name(ref)}/"):
            try:
                report = msgspec.json.decode(self.storage.read(path), type=GateReport)
            except msgspec.DecodeError as error:
                raise TrainingError(f"{self.url}/{path} cannot be read: {error}.") from error
            found.append((path.rpartition("/")[2].removesuffix(".json"), report))
        return sorted(found, key=lambda one: (float(one[1].facts.get(CREATED, 0.0)), one[0]))

    def note_use(self, data: str, ref: str) -> None:
        """This data (its digest) has decided about this version. To say it twice is no second use."""
        self.storage.create(_use(data, ref), encode({"data": data, "of": ref, CREATED: self._clock()}))

    def uses(self, data: str, but: str | None = None) -> int:
        """About how many versions data has decided; but: not counting this one."""
        return len(set(self.used_for(data)) - {but})

    def used_for(self, data: str) -> list[str]:
        """The versions that it has decided about."""
        paths = self.storage.list(f"uses/{_file_name(data)}/")
        return sorted(unquote(path.rpartition("/")[2].removesuffix(".json")) for path, _ in paths)

    def data_of(self, ref: str) -> list[str]:
        """The data that has decided about a version."""
        name = f"{_file_name(ref)}.json"
        paths = [path.split("/") for path, _ in self.storage.list("uses/")]
        return sorted(unquote(parts[1]) for parts in paths if parts[2:] == [name])

    # Whose data it was made of was erased since.

    def mark_erased(self, ref: str, snapshot: str, orders: Sequence[str]) -> None:
        """What it learned stays in its weights; a mark says so. Once for each snapshot and orders."""
        said = encode({"of": ref, "snapshot": snapshot, "orders": list(orders)})
        digest = hashlib.sha256(said).hexdigest()
        self.storage.create(f"erased/{_file_name(ref)}/{digest}.json", said)

    def erased(self) -> frozenset[str]:
        """The versions and releases with such a mark."""
        return frozenset(unquote(path.split("/")[1]) for path, _ in self.storage.list("erased/"))

    # Releases.

    def release(self, release: Release) -> Release:
        """Keep it under the next number, with the digests of its versions. The same content is the same release."""
        digests = {ref: self.digest(ref) for ref in (release.policy, release.reward_model) if ref is not None}
        stamped = msgspec.structs.replace(release, digests=digests, facts={CREATED: self._clock(), **release.facts})
        return releases.keep(self.storage, stamped)

    def releases(self) -> list[Release]:
        """By number."""
        return releases.read_all(self.storage)

    def open_release(self, number: int) -> Release:
        return releases.read(self.storage, number)

    def release_digest(self, number: int) -> str:
        """SHA-256 of its file."""
        self.open_release(number)
        return hashlib.sha256(self.storage.read(releases.place(number))).hexdigest()

    def _read(self, ref: str) -> tuple[Version, str]:
        place = parse_ref(ref).place
        try:
            data = self.storage.read(f"{place}/{VERSION}")
        except FileNotFoundError:
            raise TrainingError(
                f"There is no {ref} in the registry {self.url}: `bestow release list` shows what there is."
            ) from None
        return publishing.decode(data, f"{self.url}/{place}"), hashlib.sha256(data).hexdigest()


def bytes_of(files: dict[str, FileFacts]) -> int:
    return sum(one.bytes for one in files.values())


def _file_name(text: str) -> str:
    """Of a ref or a digest, as a name of a file. The colon and the @ of refs stay."""
    return quote(text, safe=":@")


def _use(data: str, ref: str) -> str:
    return f"uses/{_file_name(data)}/{_file_name(ref)}.json"
