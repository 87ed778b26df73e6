"""A version and a release in words, for people and for programs."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.table import Table

from gateway.shared.command_line import plain, print_table
from training.gates.verdicts import GateReport, Verdict
from training.registry.layout import Release, Version
from training.registry.registry import CREATED, Registry, bytes_of

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def described_version(registry: Registry, version: Version) -> dict[str, Any]:
    """For programs."""
    reports = registry.verdicts(version.ref)
    return {
        "ref": version.ref,
        "served_as": version.served_as,
        "url": registry.folder(version.ref),
        "digest": registry.digest(version.ref),
        **msgspec.to_builtins(version),
        "verdicts": msgspec.to_builtins(reports),
        "uses": _uses(registry, version.ref),
    }


def described_release(registry: Registry, release: Release) -> dict[str, Any]:
    """For programs."""
    return {
        "ref": release.ref,
        "digest": registry.release_digest(release.number),
        **msgspec.to_builtins(release),
        "passed": release.passed,
    }


def print_version(registry: Registry, version: Version) -> None:
    what = "a LoRA adapter" if version.adapter else "whole weights"
    print(f"{version.ref}  {what}, {size(bytes_of(version.files))}, made {_when(version.facts)}")
    lines = [
        ("lies at", registry.folder(version.ref)),
        ("digest", registry.digest(version.ref)),
        ("served as", version.served_as if version.kind == "policy" else f"{version.name}-{version.number}"),
        ("base", ", ".join(f"{key} {value}" for key, value in version.base.items())),
        ("parents", ", ".join(version.parents)),
        ("data", version.snapshot),
        ("scope", version.scope),
        ("method", version.method),
        ("settings", _said(version.settings)),
        ("measures", _said(version.measures)),
        ("facts", _said({key: value for key, value in version.facts.items() if key != CREATED})),
    ]
    _print_facts(lines)
    if version.ref in registry.erased():
        print("marked    It has learned from a person who was erased since: train it again, or take it out of use.")
    print()
    files = Table("file", "size", "sha256", box=None)
    for name, facts in version.files.items():
        files.add_row(plain(name), size(facts.bytes), facts.sha256)
    print_table(files)
    print_reports(registry.verdicts(version.ref))
    for data, (count, named) in _uses(registry, version.ref).items():
        print(f"data      {named} {data[:12]} has decided about {count} other versions")


def print_release(registry: Registry, release: Release, roles: Sequence[str]) -> None:
    passed = "its gates passed" if release.passed else f"made in spite of its gates: {plain(release.reason)}"
    print(f"{release.ref} of {release.model}, {passed}, made {_when(release.facts)}")
    _print_facts(
        [
            ("policy", release.policy or "as the configuration says"),
            ("rewards", release.reward_model or "as the profile says"),
            ("settings", _said(release.calibration)),
            ("digest", registry.release_digest(release.number)),
            ("serves as", ", ".join(roles)),
        ]
    )
    for objection in release.facts.get("objections", []):
        print(f"against   {plain(str(objection))}")
    for ref in release.digests:
        if registry.has(ref):
            print(f"\n{ref}")
            print_reports(registry.verdicts(ref)[-1:])
        else:
            print(f"\n{ref} was removed")


def print_reports(reports: Sequence[GateReport]) -> None:
    """What each run of a gate said; the oldest first."""
    for report in reports:
        print(f"\ngate      {_outcome(report)}, {_when(report.facts)}")
        table = Table("check", "", "value", "interval", "limit", "n", "reason", box=None)
        for verdict in [*report.verdicts, *report.waived]:
            waived = " (waived)" if verdict in report.waived else ""
            table.add_row(
                verdict.check,
                verdict.outcome + waived,
                _number(verdict.value),
                _interval(verdict),
                _number(verdict.limit),
                f"{verdict.n:,}",
                plain(verdict.reason),
            )
        if report.verdicts or report.waived:
            print_table(table)


def _outcome(report: GateReport) -> str:
    if report.vetoed:
        return f"vetoed by {plain(report.vetoed)}"
    if not report.verdicts:
        return f"veto lifted by {plain(str(report.facts.get('by', 'somebody')))}"
    return "passed" if report.passed else "stopped"


def _uses(registry: Registry, ref: str) -> dict[str, tuple[int, str]]:
    """By the digest of data that decided about it: about how many others it did, and what the data is called."""
    names = {digest: name for report in registry.verdicts(ref) for name, digest in report.data.items()}
    return {data: (registry.uses(data, but=ref), names.get(data, "data")) for data in registry.data_of(ref)}


def _print_facts(lines: Sequence[tuple[str, str]]) -> None:
    for name, value in lines:
        if value:
            print(f"{name:<9} {plain(value)}")


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_told(value)}" for key, value in values.items())


def _told(value: Any) -> str:
    """A figure with its interval; of what is long, how much there is: all of it is in --json."""
    match value:
        case {"value": int() | float() as at, "low": int() | float() as low, "high": int() | float() as high}:
            return f"{at:.4g} ({low:.4g} to {high:.4g})"
        case dict():
            return f"({_said(value)})"
        case [dict() | list(), *_]:
            return f"({len(value)} entries)"
        case float():
            return f"{value:.4g}"
    return msgspec.json.encode(value).decode()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(verdict: Verdict) -> str:
    if verdict.low is None and verdict.high is None:
        return "-"
    return f"{_number(verdict.low)} to {_number(verdict.high)}"


def _when(facts: dict[str, Any]) -> str:
    created = facts.get(CREATED)
    if not isinstance(created, int | float):
        return "at an unknown time"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(created))
