"""The registry as a directory, by any fsspec path: immutable versions of models, and releases that bundle them.

    policies/<name>@<N>/          Hugging Face layout: a LoRA adapter or whole weights; version.json is written last
    reward-models/<name>@<N>/     the same
    releases/<N>.json             what is served together
    verdicts/<ref>/<digest>.json  what gates said of a version or a release, one file a run; never changed
    uses/<data>/<ref>.json        this data decided about this version; one file each, so that wear can be counted
    erased/<ref>/<digest>.json    it has learned from a person who was erased since
    removed/<ref>.json            the card of what garbage collection took: its number is never given again

A version is there when its version.json is; what was left by a killed writer is not, and is written over.
"""

from typing import Any, Literal

import msgspec

LAYOUT_VERSION = 1
VERSION = "version.json"

Kind = Literal["policy", "reward_model"]
FOLDERS: dict[Kind, str] = {"policy": "policies", "reward_model": "reward-models"}


class FileFacts(msgspec.Struct, frozen=True):
    """sha256: in hex."""

    sha256: str
    bytes: int


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version of a policy or of a reward model: its folder's files, and where they come from.

    adapter: a LoRA for `base`, not whole weights. base: {"model", "weights"}: what training started from, and the
    SHA-256 of its safetensors. parents: refs (`policy:name@N`, `reward_model:name@N`) of all that it was made with.
    snapshot: id of the data. method, settings, measures: as the trainer says them. facts: what does not decide what is
    in it (seconds, created).
    """

    layout: int = LAYOUT_VERSION
    kind: Kind
    name: str
    number: int
    adapter: bool = False
    base: dict[str, str] = {}
    parents: list[str] = []
    snapshot: str = ""
    scope: str = ""
    method: str = ""
    settings: dict[str, Any] = {}
    measures: dict[str, Any] = {}
    files: dict[str, FileFacts] = {}
    facts: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """name@N"""
        return f"{self.name}@{self.number}"

    @property
    def ref(self) -> str:
        return f"{self.kind}:{self.label}"

    @property
    def served_as(self) -> str:
        """The name under which workers have it."""
        return f"{self.name}-v{self.number}"


class Release(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is served together. policy, reward_model: refs; None: as the configuration says.

    calibration: profile settings that were measured with this reward model (thresholds, prices, quantiles); a release
    with a new reward model and without them serves with none. verdicts: by ref, the files of the gates' verdicts that
    it was made on. digests: by ref, the digest of each version.json.
    """

    layout: int = LAYOUT_VERSION
    number: int
    model: str
    policy: str | None = None
    reward_model: str | None = None
    calibration: dict[str, Any] = {}
    verdicts: dict[str, str] = {}
    digests: dict[str, str] = {}
    passed: bool = False
    reason: str = ""
    facts: dict[str, Any] = {}

    @property
    def ref(self) -> str:
        return f"release:{self.number}"
