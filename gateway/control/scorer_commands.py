"""`bestow scorers`: a thin shell around a gateway's admin API."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from gateway.control.profile_commands import place as profile_place
from gateway.control.profile_commands import put as put_profile
from gateway.errors import StartError
from gateway.shared.command_line import (
    ConfigOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    UrlOption,
    plain,
    print_json,
    print_table,
    read_changes,
    with_reason,
)
from gateway.workers.admin_client import AdminClient, find_gateway

SCORERS = "/admin/v1/scorers"
# Of settings that name files and folders, those that may be given as they are found from here.
_PATHS = ("model", "calibration", "constitution", "template")

scorers_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Add reward models and other scorers while everything runs, try them in the shadow, promote them.

    \b
    A new reward model, from a folder to traffic:
      bestow scorers add reward-2 --model ./reward-2 --shadow default
      bestow scorers list                    how far it agrees, as requests come
      bestow scorers promote reward-2 --profile default
      bestow profile revert default          if it was a mistake

    The scorer server must be able to read the folder. Those of the configuration file are listed too, and stay.
    """,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The scorer's name: letters, digits, dots, dashes.")]
ProfileOption = Annotated[str, typer.Option("--profile", "-p", help="The profile to change.")]


@scorers_app.command("list")
def list_scorers(
    as_json: JsonOption = False, url: UrlOption = None, config: ConfigOption = None, api_key: KeyOption = None
) -> None:
    """List the scorers: state, who uses them, and how far those in the shadow agree with what decides.

    \b
    RANKS   Kendall's tau-b with the deciding scores, -1 to 1, over so many requests
    OTHER   share of requests in which it would have chosen another answer

    \b
      bestow scorers list
      bestow scorers list --json            all that is known, each version and profile
    """
    found = find_gateway(url, config, api_key).call("GET", SCORERS)
    if as_json:
        print_json(found)
        return
    print_table(scorers_table(found["data"]))
    for one in found["data"]:
        if one["reason"]:
            print(f"{one['name']} could not be loaded: {plain(one['reason'])}")


@scorers_app.command()
def add(
    name: Name,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Local folder or Hugging Face id of the model.")
    ] = None,
    kind: Annotated[str, typer.Option(help="As in the file: reward, safety, process, judge, verifier, ...")] = "reward",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Another setting, as in the file; may be repeated."),
    ] = None,
    shadow: Annotated[
        str | None, typer.Option("--shadow", metavar="PROFILE", help="Let it score in this profile's shadow.")
    ] = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Add a scorer, or a new version of one that was added; it is loaded beside those that answer.

    It decides nothing until a profile names it. What cannot be loaded changes nothing.

    \b
      bestow scorers add reward-2 --model ./reward-2 --shadow default
      bestow scorers add sky --model Skywork/Skywork-Reward-V2-Qwen3-0.6B --set dtype=bfloat16
      bestow scorers add short --kind verifier --set check=length --set 'options={max: 120}'
    """
    gateway = find_gateway(url, config, api_key)
    given = {"kind": kind, **({"model": model} if model else {}), **read_changes(settings or [])}
    body = {"settings": _absolute(given), "reason": reason}
    if shadow:
        gateway.call("GET", profile_place(shadow))  # Before minutes are spent on loading.
    made = gateway.call("PUT", _place(name), body)
    if made["state"] != "ready":
        print(f"The scorer {name} is still being loaded. See how far it is with: bestow scorers list")
        if shadow:
            print(f"Once it is ready: bestow profile set {shadow} 'shadow=[{name}]'")
        return
    if shadow:
        _into_shadow(gateway, name, shadow, reason)
        made = gateway.call("GET", _place(name))
    if as_json:
        print_json(made)
        return
    print(f"The scorer {made['version']} is ready.")
    if shadow:
        print(f"It scores in the shadow of the profile {shadow}: bestow scorers list")
        print(f"To let it decide: bestow scorers promote {name} --profile {shadow}")


@scorers_app.command()
def promote(
    name: Name,
    profile: ProfileOption,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Let a scorer rank a profile's candidates, in place of the one that does, and take it out of the shadow.

    \b
      bestow scorers promote reward-2 --profile default --reason "tau 0.9 over 2,000 requests"
    """
    gateway = find_gateway(url, config, api_key)
    held = gateway.call("GET", profile_place(profile))
    settings = held["settings"]
    changed = {**settings, "reward": name, "shadow": [one for one in settings["shadow"] if one != name]}
    made = put_profile(gateway, profile, changed, held["version"], reason)
    if as_json:
        print_json(made)
        return
    print(
        f"{name} decides in the profile {profile} now, at version {made['version']}, in place of {settings['reward']}."
    )
    print(f"To go back: bestow profile revert {profile} --to {held['version']}")


@scorers_app.command()
def remove(
    name: Name,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Remove a scorer that was added and that no profile names.

    \b
      bestow scorers remove reward-2
    """
    gone = find_gateway(url, config, api_key).call("DELETE", with_reason(_place(name), reason))
    if as_json:
        print_json(gone)
    else:
        print(f"The scorer {name} is removed.")


@scorers_app.command()
def families(as_json: JsonOption = False) -> None:
    """List the model families whose prompts are known: what `family` in a scorer's settings may say."""
    from scorers.families import FAMILIES  # noqa: PLC0415
    from scorers.guards.guard_format import shipped_formats  # noqa: PLC0415

    known = [(one.name, list(one.kinds), one.about) for one in FAMILIES]
    known += [(name, ["generative_safety"], one.about) for name, one in shipped_formats().items()]
    if as_json:
        print_json([{"name": name, "kinds": kinds, "about": about} for name, kinds, about in known])
        return
    table = Table("FAMILY", "KINDS", "WHAT", box=None, pad_edge=False)
    for name, kinds, about in known:
        table.add_row(name, ", ".join(kinds), about)
    print_table(table)


@scorers_app.command()
def verifiers(as_json: JsonOption = False) -> None:
    """List the checks that a verifier can do, with their options; own ones that are installed too."""
    from scorers.verifiers.loading import describe_checks  # noqa: PLC0415

    checks = describe_checks()
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "about": one.about,
                    "options": [
                        {"name": o.name, "type": o.type, "default": o.default, "about": o.about} for o in one.options
                    ],
                }
                for one in checks
            ]
        )
        return
    for one in checks:
        print(f"{one.name}: {one.about}")
        for option in one.options:
            default = "must be given" if option.default is None else f"default {option.default}"
            print(f"    {option.name} ({option.type}; {default}): {option.about}")


def scorers_table(scorers: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        "NAME", "KIND", "VERSION", "STATE", "SOURCE", "USED BY", "SHADOW OF", "RANKS", "OTHER", "REQUESTS",
        box=None,
        pad_edge=False,
    )  # fmt: skip
    for one in scorers:
        newest = next(iter(one["agreement"] or ()), None)
        table.add_row(
            one["name"],
            one["kind"] or "-",
            one["version"],
            one["state"],
            one["source"],
            ", ".join(one["used_by"]) or "-",
            ", ".join(one["shadow_of"]) or "-",
            _figure(newest["rank_correlation"]["mean"], newest["rank_correlation"]["stderr"]) if newest else "-",
            _figure(newest["other_winner"]["share"], newest["other_winner"]["stderr"]) if newest else "-",
            str(newest["requests"]) if newest else "-",
        )
    return table


def _into_shadow(gateway: AdminClient, name: str, profile: str, reason: str | None) -> None:
    held = gateway.call("GET", profile_place(profile))
    settings = held["settings"]
    if name in settings["shadow"]:
        return
    try:
        put_profile(gateway, profile, {**settings, "shadow": [*settings["shadow"], name]}, held["version"], reason)
    except StartError as error:
        raise StartError(f"The scorer {name} is ready, but not in the shadow of {profile}. {error}") from None


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Paths that exist here as absolute ones: the scorer server runs in another folder."""
    found = dict(settings)
    for key in _PATHS:
        path = Path(str(found.get(key) or "")).expanduser()
        if found.get(key) and path.exists():
            found[key] = str(path.absolute())
    return found


def _place(name: str) -> str:
    return f"{SCORERS}/{quote(name, safe='')}"


def _figure(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"
