"""All scorers at once, for operators: what each is, how it is doing, who uses it, how far it agrees. Pure."""

from collections.abc import Mapping
from typing import Any

from gateway.control.agreement import Agreement
from gateway.control.scorer_changes import uses_of
from gateway.control.shadow_sums import Pair
from gateway.control.state import ControlState, LiveScorer, read_scorer
from gateway.shared.note import Note
from scorers.contract import ScorerInfo, ScorerList, ScorerStatus
from scorers.scorer_settings import ScorerConfig

Listed = Mapping[str, ScorerList | None]
"""By a server's address, what it says; None where it does not answer."""


def overview(
    seeds: Mapping[str, ScorerConfig],
    addresses: Mapping[str, str],
    home: str | None,
    state: ControlState,
    listed: Listed,
    sums: Mapping[Pair, Agreement] | None,
) -> list[dict[str, Any]]:
    """addresses: of the file's, by name. home: where the added ones are. sums: None where they are not known now."""
    found = [_seeded(name, config, listed.get(addresses[name])) for name, config in seeds.items()]
    there = listed.get(home) if home else None
    found += [_added(name, state, there) for name in {**state.scorers, **state.failed} if name not in seeds]
    for one in found:
        uses = uses_of(one["name"], state)
        one["used_by"] = [where for where in uses if ".shadow." not in where]
        one["shadow_of"] = [where.partition(".shadow.")[0] for where in uses if ".shadow." in where]
        one["agreement"] = None if sums is None else _agreement(one["name"], sums)
    return found


def _seeded(name: str, config: ScorerConfig, there: ScorerList | None) -> dict[str, Any]:
    info = _info(name, there)
    return {
        **_described(name, config, "file", config.version, None),
        "state": "unreachable" if there is None else "ready" if info else "loading",
        "serving": info.version if info else None,
        "info": info,
        "reason": None,
    }


def _added(name: str, state: ControlState, there: ScorerList | None) -> dict[str, Any]:
    live, failed = state.scorers.get(name), state.failed.get(name)
    if live is None:
        assert failed is not None
        return {
            **_nothing(name),
            "version": f"{name}@{failed.number}",
            "state": "failed",
            "reason": failed.reason,
            "changed": failed.note,
        }
    info = _info(name, there)
    status = next((one for one in there.added if one.id == name), None) if there else None
    config = read_scorer(name, live)
    return {
        **(_described(name, config, "added", live.number, live.note) if config else _unread(name, live)),
        "state": "unreachable" if there is None else _state(status, live.print),
        "serving": info.version if info else None,
        "info": info,
        # A version that was given up, where the one before it stays.
        "reason": f"{name}@{failed.number}: {failed.reason}" if failed else (status.reason or None) if status else None,
    }


def _state(status: ScorerStatus | None, wanted: str) -> str:
    """What is wanted may be the version before one that failed: then it is ready where it answers."""
    if status is None:
        return "loading"
    if status.settings != wanted:
        return "ready" if status.serving else "loading"
    return status.state


def _described(name: str, config: ScorerConfig, source: str, number: int, made: Note | None) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude_defaults=True)
    # Addresses and what opens them are nobody's business here.
    hidden = {"url", "api_key_file", "api_key_env", "ca_file", "cert_file", "key_file", "verify"}
    return {
        **_nothing(name),
        "kind": config.kind,
        "gives": config.gives,
        "source": source,
        "version": f"{name}@{number}",
        "settings": {key: value for key, value in settings.items() if key not in hidden},
        "changed": made,
    }


def _unread(name: str, live: LiveScorer) -> dict[str, Any]:
    """Of a newer release, which this one cannot read."""
    return {**_nothing(name), "version": f"{name}@{live.number}", "settings": live.settings, "changed": live.note}


def _nothing(name: str) -> dict[str, Any]:
    return {
        "object": "scorer",
        "name": name,
        "kind": None,
        "gives": None,
        "source": "added",
        "version": None,
        "state": None,
        "serving": None,
        "reason": None,
        "info": None,
        "settings": {},
        "changed": None,
        "used_by": [],
        "shadow_of": [],
        "agreement": None,
    }


def _info(name: str, there: ScorerList | None) -> ScorerInfo | None:
    return next((info for info in there.data if info.id == name), None) if there else None


def _agreement(name: str, sums: Mapping[Pair, Agreement]) -> list[dict[str, Any]]:
    """Newest versions first."""
    pairs = sorted((pair for pair in sums if pair.name == name), key=_newest, reverse=True)
    return [
        {"scorer": pair.scorer, "profile": pair.profile, "decided_by": pair.decided, **sums[pair].figures()}
        for pair in pairs
    ]


def _newest(pair: Pair) -> tuple[int, str, int, str]:
    profile, _, number = pair.profile.rpartition("@")
    return int(pair.scorer.rpartition("@")[2]), profile, int(number), pair.decided
