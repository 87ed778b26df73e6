"""The scorers that this gateway can ask: the file's, and those that were added while it runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.control.state import ControlState
from gateway.errors import Unavailable
from gateway.scoring import ScorerHandle
from scorers.contract import ScorerInfo

Make = Callable[[str, str], ScorerHandle]
"""From a scorer's name and its name@N to the handle of one that was added."""


class ScorerDirectory(Mapping[str, ScorerHandle]):
    """By name. The file's win where both have one.

    A name that is missing is an Unavailable: the profile that says it was checked where it was set, so that this
    gateway's file is another, or not all has been heard yet. make: None where this gateway has no server for them.
    """

    def __init__(self, configured: Mapping[str, ScorerHandle], make: Make | None) -> None:
        self._configured = dict(configured)
        self._make = make
        self._added: dict[str, ScorerHandle] = {}

    def __getitem__(self, name: str) -> ScorerHandle:
        try:
            return self._configured.get(name) or self._added[name]
        except KeyError:
            raise Unavailable(
                f"the profile names the scorer {name!r}, which this gateway does not have", retry_after=2.0
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._configured or name in self._added

    def __iter__(self) -> Iterator[str]:
        return iter({**self._added, **self._configured})

    def __len__(self) -> int:
        return len({**self._added, **self._configured})

    def needed(self, used: Iterable[str]) -> dict[str, ScorerHandle]:
        """Those without which requests are not answered as they should be: the file's, and of the others those used."""
        wanted = set(used)
        return {**{name: one for name, one in self._added.items() if name in wanted}, **self._configured}

    def hold(self, state: ControlState) -> None:
        """From now on these are the added ones. A request that runs keeps the version that it began with."""
        added = {}
        for name, live in state.scorers.items():
            answering = live.answering
            if answering is not None and self._make is not None:
                version = f"{name}@{answering.number}"
                held = self._added.get(name)
                added[name] = held if held is not None and held.version == version else self._make(name, version)
        self._added = added

    def declared(self, infos: Iterable[ScorerInfo]) -> None:
        """What their server says that the added ones can do."""
        for info in infos:
            handle = self._added.get(info.id)
            # A judge's version ends in a digest of its constitution: name@N+digest.
            if handle is not None and handle.version == info.version.partition("+")[0]:
                handle.relative, handle.prompt_only = info.relative, info.prompt_only
