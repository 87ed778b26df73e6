"""A model's release as a page for a terminal, from what the admin API says of it. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.shared.command_line import made_by, plain

Json = Mapping[str, Any]

_PHASES = {
    "preparing": "being brought to the workers; nobody gets it",
    "shadow": "its reward model scores beside the deciding one; nobody gets it",
    "watch": "promoted; the hold-back group still has the one before",
}


def page(one: Json, now: float, *, last: int = 8) -> list[str]:
    """Lines. now: seconds since 1970. last: moves that are shown."""
    lines = [f"{one['model']}, policy {one['policy']}", ""]
    if one["safe_mode"]:
        lines += [f"  SAFE MODE is on, {when(one['safe_mode']['at'])} {made_by(one['safe_mode'])}.", ""]
    lines.append(f"  champion    {bundle(one['champion'])}")
    challenger = one["challenger"]
    if challenger is None:
        lines.append("  challenger  none")
    else:
        lines += _challenger(challenger, now)
    back = [bundle(before) for before in one["previous"]]
    lines.append(f"  rollback    {'to ' + ', then to '.join(back) if back else 'to nothing: nothing was promoted'}")
    if one["moves"]:
        lines += ["", f"  last moves (all: bestow release history --model {one['model']})"]
        lines += [f"    {text}" for text in moves(one["moves"][:last])]
    return [plain(line) for line in lines]


def moves(found: Sequence[Json]) -> list[str]:
    return [
        f"{when(move['note']['at'])}  {move['act']:<13} {number(move['release'])}  {made_by(move['note'])}"
        for move in found
    ]


def bundle(one: Json) -> str:
    """In a few words."""
    said = one["policy"] or "the configuration's weights"
    if one["reward"]:
        said += f", ranked by {one['reward']}"
    if one["settings"]:
        said += f", {', '.join(one['settings'])} set"
    return (
        f"{number(one['release'])}: {said}"
        if one["release"]
        else said
        if one["policy"]
        else "what the configuration says"
    )


def number(release: int) -> str:
    return f"release {release}" if release else "no release"


def when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _challenger(one: Json, now: float) -> list[str]:
    lines = [f"  challenger  {bundle(one['bundle'])}", f"    phase     {_phase(one, now)}"]
    if one["held"]:
        by = f"by {one['held_by']}" if one["held_by"] else "by itself"
        lines.append(f"    held      {by}: {one['held']}")
    if one["waits_for"]:
        lines.append(f"    lacks     {one['waits_for']}")
    users, asked = one["users"], one["interactions"]
    if one["phase"] in ("canary", "watch"):
        lines.append(
            f"    users     {users['challenger']} with the challenger ({asked['challenger']} interactions), "
            f"{users['control']} with the control ({asked['control']})"
        )
        lines += [f"    {_verdict(signal):<9} {signal['says']}" for signal in one["signals"]]
    if one["shadow"]:
        lines.append(f"    shadow    {_shadow(one['shadow'])}")
    if one["decision"]:
        lines.append(f"    next      {_next(one['decision'])}")
    elif one["phase"] != "preparing":
        lines.append("    next      what users did cannot be read now")
    if one["outlook"]:
        lines.append(f"    outlook   {one['outlook']['says']}")
    if one["approvals"] or one["approvals_needed"]:
        lines.append(
            f"    approved  by {', '.join(one['approvals']) or 'nobody yet'}; {one['approvals_needed']} more needed"
        )
    return lines


def _phase(one: Json, now: float) -> str:
    hours = (now - (one["stage_began"] or one["began"])) / 3600
    if one["phase"] == "canary":
        said = f"stage {one['stage']} of {len(one['stages'])}: {100 * one['share']:.3g} % of the users get it"
    else:
        said = f"{one['phase']}: {_PHASES[one['phase']]}"
    return f"{said}, for {hours:.1f} h"


def _verdict(signal: Json) -> str:
    if signal["harm"]:
        return "HARM"
    return "ok" if signal["ok"] else "open"


def _shadow(facts: Json) -> str:
    other, tau = facts["other_winner"], facts["rank_correlation"]
    said = f"{facts['requests']} requests, {facts['failures']} of {facts['candidates']} candidates without a score"
    if other["share"] is not None:
        said += f"; another winner in {100 * other['share']:.0f} % (+- {100 * (other['stderr'] or 0):.0f})"
    if tau["mean"] is not None:
        said += f"; rank correlation {tau['mean']:.2f}" + (f" (+- {tau['stderr']:.2f})" if tau["stderr"] else "")
    return said


_ACTS = {
    "stay": "it stays",
    "next": "it goes to the next stage",
    "promote": "it is promoted",
    "roll_back": "it is rolled back",
    "hold": "it waits",
    "expire": "it expires",
    "watched": "the hold-back group gets it too",
    "reject": "it is rejected",
}


def _next(decision: Json) -> str:
    return f"{_ACTS[decision['act']]}: {decision['why']}"
