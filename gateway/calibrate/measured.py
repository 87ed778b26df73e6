"""What `bestow calibrate MODEL` has measured so far, kept in a file so that a run that was cut off goes on.

One line a measurement, each with a fingerprint of what was measured (`Setup`): lines of another policy, reward model or
sampling are of no use any more, and go when the file is opened.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.log.records import Message


class Setup(msgspec.Struct, frozen=True):
    """What is measured, and how. Versions are name@N. thresholds: the guard's, `` for the general one."""

    model: str
    policy: str
    reward_model: str
    safety_model: str | None
    temperature: float | None
    max_tokens: int
    answers: int
    thresholds: dict[str, float]

    @property
    def print(self) -> str:
        """Equal for equal setups."""
        return _digest(msgspec.json.encode(self, order="sorted"))


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sampled answer. categories, flagged: of the guard's verdict.

    text: what it says; None where that is more than plain text, so that its first tokens say nothing by themselves.
    """

    tokens: int
    reward: float
    categories: dict[str, float] = {}
    flagged: list[str] = []
    text: str | None = None
    token_ids: list[int] = []


class Sampled(msgspec.Struct, frozen=True, tag="sampled"):
    """A prompt's answers: none where the guard refused it. missing: answers without a reward."""

    setup: str
    prompt: str
    answers: list[Answer]
    missing: int = 0


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Rewards of the beginnings of a prompt's answers: `rewards[i][j]` of the first positions[i] tokens of answer j.

    None where the answer is no longer than that, or its beginning could not be scored.
    """

    setup: str
    prompt: str
    positions: list[int]
    rewards: list[list[float | None]]


class Timed(msgspec.Struct, frozen=True, tag="timed"):
    """How long a request with n candidates took: for a prompt, the try-th time."""

    setup: str
    prompt: str
    n: int
    again: int
    ms: float


Line = Sampled | Begun | Timed


def prompt_print(messages: Sequence[Message]) -> str:
    """Equal for equal prompts."""
    return _digest(msgspec.json.encode(list(messages), order="sorted"))


class Measurements:
    """The file, read and appended to."""

    def __init__(self, path: Path, setup: Setup) -> None:
        """Keeps what the file has of this very setup. Raises OSError."""
        self._path = path
        self.setup = setup.print
        self.sampled: dict[str, Sampled] = {}
        self.begun: dict[tuple[str, tuple[int, ...]], Begun] = {}
        self.timed: dict[tuple[str, int, int], Timed] = {}
        kept: list[bytes] = []
        dropped = False
        for raw in path.read_bytes().splitlines() if path.exists() else []:
            try:
                line = msgspec.json.decode(raw, type=Line)
            except msgspec.DecodeError:
                # Cut off in the middle of a line, or another release's.
                dropped = True
                continue
            if line.setup == self.setup:
                kept.append(raw)
                self._hold(line)
            else:
                dropped = True
        if dropped:
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(b"".join(raw + b"\n" for raw in kept))
            fresh.replace(path)

    def add(self, line: Line) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # It has answers to what may be users' prompts.
        self._path.touch(mode=0o600)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
        self._hold(line)

    def _hold(self, line: Line) -> None:
        match line:
            case Sampled():
                self.sampled[line.prompt] = line
            case Begun():
                self.begun[line.prompt, tuple(line.positions)] = line
            case Timed():
                self.timed[line.prompt, line.n, line.again] = line


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
