"""`bestow release start`, `status`, `promote`, ...: thin shells around a gateway's admin API."""

import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from gateway.errors import StartError
from gateway.release import status_page
from gateway.shared.command_line import (
    ConfigOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    UrlOption,
    made_by,
    plain,
    print_json,
    with_reason,
)
from gateway.workers.admin_client import AdminClient, find_gateway

# ruff: noqa: PLC0415  # the gateway imports nothing of training

RELEASES = "/admin/v1/releases"
SAFE_MODE = "/admin/v1/safe-mode"
WATCH_S = 2.0

ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="The public model; may be left out where only one can be meant.")
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry", metavar="URL", help="A folder or an fsspec URL.  (default: training/registry in data_dir)"
    ),
]


def start(
    release: Annotated[int, typer.Argument(metavar="N", min=1, help="The release, as `bestow release list` shows it.")],
    registry: RegistryOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Bring a release to the users of its model: to few of them first, then to more, as long as it does no harm.

    Its files are verified, its adapter is loaded on every worker and its reward model on the scorer server before
    anybody gets it. A new reward model scores beside the old one first. Then 1, 5, 25 and 100 % of the users get it
    (release.stages), always the same ones; what they do is compared with the others, and harm takes it back at once.

    \b
      bestow release start 3 --reason "trained on June's thumbs"
      bestow release status --watch
    """
    from training.registry.commands import opened
    from training.registry.releasing import to_bundle

    gateway = find_gateway(url, config, api_key)
    _, found = opened(registry, config)
    made = found.open_release(release)
    if not made.passed:
        print(f"Release {release} did not pass its gates: {made.reason or 'no reason was given'}.")
    policy = gateway.call("GET", _place(made.model))["policy"]
    bundle = to_bundle(found, made, policy)
    body = {"bundle": _plain_bundle(bundle), "reason": reason}
    answer = gateway.call("POST", _place(made.model), body)
    if as_json:
        print_json(answer)
        return
    print(f"Release {release} of {made.model} is on its way: {status_page.bundle(answer['challenger']['bundle'])}.")
    print("How it goes: bestow release status --watch")


def status(
    model: ModelOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew every 2 s, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Show who serves, what is being tried, what its users did, what is missing until it goes on, and the last moves.

    Each line of a signal begins with its verdict: ok; open, more is needed; HARM, it is rolled back. Shares are of
    users, each of whom counts once; e-values and intervals hold however often one looks.

    \b
      bestow release status
      bestow release status --model bestow-demo --watch
      bestow release status --json
    """
    gateway = find_gateway(url, config, api_key)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    while True:
        if model:
            one = gateway.call("GET", _place(model))
            found: dict[str, Any] = {"safe_mode": one["safe_mode"], "data": [one]}
        else:
            found = gateway.call("GET", RELEASES)
        if as_json:
            print_json(found)
        else:
            if watch:
                console.clear()
            pages = ["\n".join(status_page.page(one, time.time())) for one in found["data"]]
            console.print("\n\n".join(pages))
        if not watch:
            return
        time.sleep(WATCH_S)


def history(
    model: ModelOption = None,
    last: Annotated[int, typer.Option("-n", "--last", min=1, help="How many of the last moves.")] = 50,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """List the moves of a model's releases, newest first: what, by whom, and why. With --json, with their figures.

    \b
      bestow release history
      bestow release history --model bestow-demo -n 200 --json
    """
    gateway = find_gateway(url, config, api_key)
    one = gateway.call("GET", _place(model or _only(gateway, lambda one: bool(one["moves"]), "was ever released")))
    found = one["moves"][:last]
    if as_json:
        print_json(found)
    else:
        print("\n".join(plain(line) for line in status_page.moves(found)) or f"Nothing of {one['model']} was released.")


def promote(
    model: ModelOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though it is not shown to be as good: on your word, which is kept.")
    ] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Promote the challenger, once it is shown to be as good. Where two people are wanted, this approves it.

    A challenger that is shown to be as good is promoted by itself, unless release.two_person is on: then two operators
    (two API keys) say so here, and it is promoted when the figures agree.

    \b
      bestow release promote --reason "read 50 of its answers"
      bestow release promote --force --reason "the old one answers in the wrong language"
    """
    gateway = find_gateway(url, config, api_key)
    model = model or _with_challenger(gateway)
    one = gateway.call("POST", f"{_place(model)}/promote", {"force": force, "reason": reason})
    challenger = one["challenger"]
    if as_json:
        print_json(one)
    elif challenger is None or challenger["phase"] == "watch":
        print(f"{model} is answered by {status_page.bundle(one['champion'])}.")
        if challenger:
            print("The hold-back group keeps the one before for a while. To go back: bestow release rollback")
    else:
        missing = challenger["approvals_needed"]
        what = (
            f"{missing} more operator must approve it" if missing else "it is promoted when it is shown to be as good"
        )
        print(f"Approved by {', '.join(challenger['approvals'])}; {what}.")


def rollback(
    model: ModelOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Take back the challenger, or where there is none the champion: weights, reward model and settings together.

    Every gateway routes by it within about a second; what is being answered is finished as it began.

    \b
      bestow release rollback --reason "it answers in French"
    """
    gateway = find_gateway(url, config, api_key)
    model = model or _with_something(gateway)
    _tell_back(gateway.call("POST", f"{_place(model)}/rollback", {"reason": reason}), as_json)


def veto(
    release: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, help="The release; none: what is on its way, or the champion.")
    ] = None,
    model: ModelOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Take a release back, and bar it from being started again.

    \b
      bestow release veto --reason "it praises whatever it is asked about"
      bestow release veto 7 --model bestow-demo --reason "before it begins: its data is wrong"
    """
    gateway = find_gateway(url, config, api_key)
    model = model or _with_something(gateway)
    _tell_back(gateway.call("POST", f"{_place(model)}/veto", {"release": release, "reason": reason}), as_json)


def hold(
    model: ModelOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Keep the challenger at its stage until `resume`. Harm still takes it back.

    \b
      bestow release hold --reason "over the holidays"
    """
    gateway = find_gateway(url, config, api_key)
    model = model or _with_challenger(gateway)
    one = gateway.call("POST", f"{_place(model)}/hold", {"reason": reason})
    print_json(one) if as_json else print(f"The challenger of {model} stays where it is. On: bestow release resume")


def resume(
    model: ModelOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Let a held challenger go on.

    \b
      bestow release resume
    """
    gateway = find_gateway(url, config, api_key)
    model = model or _with_challenger(gateway)
    one = gateway.call("POST", f"{_place(model)}/resume", {"reason": reason})
    print_json(one) if as_json else print(f"The challenger of {model} goes on.")


def safe_mode(
    on: Annotated[str, typer.Argument(metavar="on|off", help="Which; without it, how it is now.")] = "",
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """The one switch for when something is wrong and nobody knows what yet.

    On: every model is answered by the configuration's own policy and profile, no answer is drawn to explore, and
    nothing that is logged is trained on. Releases stay where they are, and go on from there when it is off.

    \b
      bestow release safe-mode on --reason "complaints from support"
      bestow release safe-mode off
      bestow release safe-mode
    """
    if on not in ("on", "off", ""):
        raise typer.BadParameter(f"{on!r} is neither on nor off")
    gateway = find_gateway(url, config, api_key)
    if on == "on":
        found = gateway.call("POST", SAFE_MODE, {"reason": reason})
    elif on == "off":
        found = gateway.call("DELETE", with_reason(SAFE_MODE, reason))
    else:
        changed = gateway.call("GET", RELEASES)["safe_mode"]
        found = {"object": "safe_mode", "on": changed is not None, "changed": changed}
    if as_json:
        print_json(found)
    elif found["on"]:
        made = found["changed"]
        print(f"Safe mode is on, since {status_page.when(made['at'])} {plain(made_by(made))}.")
        print("Every model is answered as the configuration says. To end it: bestow release safe-mode off")
    else:
        print("Safe mode is off.")


def _tell_back(one: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    print(
        f"{one['model']} is answered by {status_page.bundle(one['champion'])}, on every gateway within a second or so."
    )


def _with_challenger(gateway: AdminClient) -> str:
    return _only(gateway, lambda one: one["challenger"] is not None, "has a release on its way")


def _with_something(gateway: AdminClient) -> str:
    return _only(gateway, lambda one: bool(one["challenger"] or one["previous"]), "has a release to take back")


def _only(gateway: AdminClient, wanted: Any, what: str) -> str:
    """The model that is meant where none was named. Raises StartError."""
    data = gateway.call("GET", RELEASES)["data"]
    if len(data) == 1:
        return str(data[0]["model"])
    found = [str(one["model"]) for one in data if wanted(one)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(found or [one["model"] for one in data])
    count = "No model" if not found else "More than one model"
    raise StartError(f"{count} {what}: name it with --model (there is {known}).")


def _plain_bundle(bundle: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(bundle)
    return found


def _place(model: str) -> str:
    return f"{RELEASES}/{quote(model, safe='')}"
