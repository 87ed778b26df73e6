"""`bestow release roll`: full weights reach workers by restarting them one by one."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.errors import StartError
from gateway.release.operating import RELEASES, RegistryOption
from gateway.release.rolling import Rolling, Weights, summary, wanted_workers
from gateway.shared.command_line import ConfigOption, KeyOption, UrlOption, plain
from gateway.workers.admin_client import find_gateway

# ruff: noqa: PLC0415  # the gateway imports nothing of training


def roll(
    release: Annotated[int, typer.Argument(metavar="N", min=1, help="The release, as `bestow release list` shows it.")],
    command: Annotated[
        str,
        typer.Option(
            "--command",
            help="What restarts one worker with other weights; a shell runs it with WORKER_URL, WEIGHTS and SERVED_AS "
            "in its environment, and it may return before the worker is back.",
        ),
    ],
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="How many shall have the weights in the end; none: as many as it needs."),
    ] = None,
    drained_s: Annotated[float, typer.Option("--drain-within", help="Seconds for what runs on a worker.")] = 600.0,
    back_s: Annotated[float, typer.Option("--back-within", help="Seconds until a worker is back.")] = 900.0,
    registry: RegistryOption = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Bring a release's full weights to workers, one worker after the other, while the others answer.

    Each is drained, restarted by your command, and gets requests again once it says that it has the weights. It must
    serve them under two names: vllm serve $WEIGHTS --served-model-name POLICY $SERVED_AS. A worker with other weights
    answers for no other version, so that a challenger needs its share of the workers at each stage, and whatever else
    is served keeps one. (An adapter needs none of this.) It stops at the first failure, and goes on when started again.

    \b
      bestow release roll 7 --command './restart.sh "$WORKER_URL" "$WEIGHTS" "$SERVED_AS"'
      bestow release start 7
      bestow release roll 7 --workers 4 --command ...       before the next stage
    """
    from training.registry.commands import opened
    from training.registry.releasing import to_bundle

    gateway = find_gateway(url, config, api_key)
    _, found = opened(registry, config)
    made = found.open_release(release)
    one: Any = gateway.call("GET", f"{RELEASES}/{quote(made.model, safe='')}")
    bundle = to_bundle(found, made, one["policy"])
    if made.policy is None or bundle.served_as is None or bundle.path is not None:
        what = "an adapter, which is loaded into running workers" if bundle.path else "no weights of its own"
        raise StartError(f"Release {release} has {what}: bestow release start {release}")
    weights = Weights(release, one["policy"], bundle.served_as, str(found.local(made.policy).absolute()))
    rolling = Rolling(
        gateway, weights, command, drained_s=drained_s, back_s=back_s, told=lambda line: print(plain(line), flush=True)
    )
    count = len(rolling.workers())
    wanted = wanted_workers(weights.served_as, one, count) if workers is None else workers
    alone = one["challenger"] is None and one["champion"]["served_as"] == weights.served_as
    if wanted < 1 or wanted > count - (not alone):
        raise StartError(
            f"{one['policy']} has {count} workers, and what is served beside {weights.served_as} needs one: "
            f"between 1 and {count - (not alone)} can have it. Add workers: bestow workers add"
        )
    restarted = rolling.roll(wanted)
    print(f"{restarted} workers were restarted; {wanted} of {count} have {weights.served_as}.")
    print(plain(f"Now: {summary(rolling.workers())}"))
