"""The strategies by name: those in this folder, and those that other packages declare.

A package adds one by a line in its pyproject.toml, and a profile then names it as it names any other:

    [project.entry-points."bestow.strategies"]
    my_strategy = "my_package.my_module:STRATEGY"
"""

import importlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from gateway.decoding.strategy import Options, Strategy

GROUP = "bestow.strategies"
BUILT_IN = ("best_of_n", "halving", "early_stopping", "blockwise", "step_search", "vote")


class NoStrategy(ValueError):
    """There is none of that name, or it cannot be loaded; one sentence."""


@cache
def strategy(name: str) -> Strategy:
    """The strategy of that name; one of ours wins over another's. Raises NoStrategy."""
    if name in BUILT_IN:
        found: Strategy = importlib.import_module(f"gateway.decoding.{name}").STRATEGY
        return found
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        raise NoStrategy(f"no strategy {name!r} (there is {', '.join(names())})")
    try:
        loaded = others[name].load()
    except (Exception, SystemExit) as error:
        raise NoStrategy(
            f"the strategy {name!r} of {others[name].value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, Strategy):
        raise NoStrategy(f"{others[name].value} is no gateway.decoding.strategy.Strategy, so {name!r} cannot be used")
    if not (isinstance(loaded.options, type) and issubclass(loaded.options, Options)):
        raise NoStrategy(f"the options of {others[name].value} are no class of gateway.decoding.strategy.Options")
    return loaded


def names() -> list[str]:
    """All there are, ours first."""
    return [*BUILT_IN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN))]


@dataclass(frozen=True, slots=True)
class Installed:
    """A strategy that is there. package: what brings it, None for ours. reason: why it cannot be used, if it cannot."""

    name: str
    package: str | None
    strategy: Strategy | None
    reason: str | None = None


def installed() -> list[Installed]:
    """All there are, ours first, those that cannot be loaded too."""
    packages = {entry.name: entry.dist for entry in entry_points(group=GROUP)}
    found = []
    for name in names():
        ours, brings = name in BUILT_IN, packages.get(name)
        package = None if ours else f"{brings.name} {brings.version}" if brings else "unknown"
        try:
            found.append(Installed(name, package, strategy(name)))
        except NoStrategy as error:
            found.append(Installed(name, package, None, str(error)))
    return found
