"""`bestow workers` and `bestow adapters`: thin shells around a gateway's admin API, since loads are known there."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from gateway.shared.command_line import (
    ConfigOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    UrlOption,
    made_by,
    plain,
    print_json,
    print_table,
    with_reason,
)
from gateway.workers.admin_client import AdminClient, find_gateway

WORKERS = "/admin/v1/workers"
ADAPTERS = "/admin/v1/adapters"

workers_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""List, add, drain and remove workers while everything runs.

    A gateway is asked; what is changed holds on every gateway within about a second, and stays when gateways, workers
    or Redis start anew. To take a worker out of service: drain it, wait until its SAMPLES are 0, stop it.

    The key (--api-key, or BESTOW_API_KEY) needs the scope admin and the tenant default. Where no keys exist, none is
    needed on the gateway's own machine.
    """,
)
adapters_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Load and unload LoRA adapters on all workers of a policy.

    An adapter is loaded on every worker or on none. A worker that starts anew gets it before it takes requests. A model
    is answered with it by `models.NAME.adapter` in the configuration.

    vLLM must take adapters while it runs: `engine.lora: true` for one that `bestow up` starts, else
    `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.
    """,
)

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="The worker's id, as `bestow workers list` shows it.")]
AdapterName = Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name, as models.X.adapter has it.")]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", "-p", help="The policy; may be left out where there is one only.")
]


@workers_app.command("list")
def list_workers(
    as_json: JsonOption = False, url: UrlOption = None, config: ConfigOption = None, api_key: KeyOption = None
) -> None:
    """List the workers: state, load and adapters, as one gateway sees them.

    \b
      bestow workers list
      bestow workers list --url http://10.0.0.2:8000 --json
    """
    found = find_gateway(url, config, api_key).call("GET", WORKERS)
    if as_json:
        print_json(found)
        return
    print_table(workers_table(found["data"]))
    for one in found["data"]:
        if note := _note_of(one):
            print(note)
    for one in found["removed"]:
        print(f"{plain(one['url'])} of {one['policy']} was removed {made_by(one['removed'])}.")


@workers_app.command()
def add(
    worker_url: Annotated[str, typer.Argument(metavar="URL", help="Base address of a vLLM server, without /v1.")],
    policy: PolicyOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Add a worker, or bring back one that was removed. It takes requests once it answers and has the adapters.

    It is spoken to with the key and TLS settings of the policy's first worker in the configuration.

    \b
      bestow workers add http://10.0.0.7:8000 --policy demo-policy
    """
    gateway = find_gateway(url, config, api_key)
    body = {"policy": policy or only_policy(gateway), "url": worker_url, "reason": reason}
    worker = gateway.call("POST", WORKERS, body)
    if as_json:
        print_json(worker)
    else:
        print(f"The worker {worker['id']} ({plain(worker['url'])}) of {worker['policy']} is added.")
        print("It takes requests once it answers: bestow workers list")


@workers_app.command()
def drain(
    worker_id: WorkerId,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Give a worker nothing new; it finishes what it has.

    \b
      bestow workers drain w-1f2e3d4c --reason "new driver"
    """
    worker = find_gateway(url, config, api_key).call("POST", _of(worker_id, "/drain"), {"reason": reason})
    if as_json:
        print_json(worker)
    else:
        left = worker["load"]["sequences"]
        print(f"The worker {worker['id']} gets nothing new; {left} samples of this gateway still run on it.")


@workers_app.command()
def undrain(
    worker_id: WorkerId,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Let a drained worker take requests again.

    \b
      bestow workers undrain w-1f2e3d4c
    """
    worker = find_gateway(url, config, api_key).call("POST", _of(worker_id, "/undrain"), {"reason": reason})
    if as_json:
        print_json(worker)
    else:
        print(f"The worker {worker['id']} takes requests again; now it is {worker['state']}.")


@workers_app.command()
def remove(
    worker_id: WorkerId,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Remove a worker: it finishes what it has and goes, and stays away until it is added again.

    \b
      bestow workers remove w-1f2e3d4c
    """
    worker = find_gateway(url, config, api_key).call("DELETE", with_reason(_of(worker_id, ""), reason))
    if as_json:
        print_json(worker)
    else:
        print(f"The worker {worker['id']} ({plain(worker['url'])}) is removed. To have it back:")
        print(f"  bestow workers add {plain(worker['url'])} --policy {worker['policy']}")


@adapters_app.command("list")
def list_adapters(
    as_json: JsonOption = False, url: UrlOption = None, config: ConfigOption = None, api_key: KeyOption = None
) -> None:
    """List the adapters, and how many workers have each.

    \b
      bestow adapters list
    """
    found = find_gateway(url, config, api_key).call("GET", ADAPTERS)
    if as_json:
        print_json(found)
    elif found["data"]:
        print_table(adapters_table(found["data"]))
    else:
        print("There are no adapters.")


@adapters_app.command("load")
def load_adapter(
    name: AdapterName,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Where the workers can read it (absolute), or a Hugging Face id.")
    ],
    policy: PolicyOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Load an adapter on every worker of a policy, or on none.

    \b
      bestow adapters load support-2 /models/adapters/support-2 --policy demo-policy
      bestow adapters load sql someone/qwen3-sql-lora
    """
    gateway = find_gateway(url, config, api_key)
    body = {"policy": policy or only_policy(gateway), "name": name, "path": path, "reason": reason}
    adapter = gateway.call("POST", ADAPTERS, body)
    if as_json:
        print_json(adapter)
    else:
        count = len(adapter["loaded_on"])
        workers = "1 worker" if count == 1 else f"{count} workers"
        print(f"The adapter {adapter['name']} of {adapter['policy']} is loaded, on {workers}.")


@adapters_app.command("unload")
def unload_adapter(
    name: AdapterName,
    policy: PolicyOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    api_key: KeyOption = None,
) -> None:
    """Unload an adapter from every worker. What runs on it ends first; models that name it are not answered after it.

    \b
      bestow adapters unload support-1 --policy demo-policy
    """
    gateway = find_gateway(url, config, api_key)
    where = f"{ADAPTERS}/{quote(policy or only_policy(gateway), safe='')}/{quote(name, safe='')}"
    gone = gateway.call("DELETE", with_reason(where, reason))
    if as_json:
        print_json(gone)
    else:
        print(f"The adapter {gone['name']} of {gone['policy']} is unloaded.")


def only_policy(gateway: AdminClient) -> str:
    """The policy of a gateway that has one. Raises BadParameter where there are several."""
    found = gateway.call("GET", WORKERS)
    policies = sorted({one["policy"] for one in (*found["data"], *found["removed"])})
    if len(policies) != 1:
        raise typer.BadParameter(f"name the policy: {', '.join(policies) or 'there is no worker to tell it by'}")
    return str(policies[0])


def workers_table(workers: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        "ID", "POLICY", "STATE", "SOURCE", "SAMPLES", "RUNS", "WAITS", "KV", "VLLM", "ADAPTERS", "URL",
        box=None,
        pad_edge=False,
    )  # fmt: skip
    for one in workers:
        load = one["load"]
        breaker = "" if one["breaker"] == "closed" else f", breaker {one['breaker'].replace('_', '-')}"
        table.add_row(
            one["id"],
            one["policy"],
            one["state"] + breaker,
            one["source"],
            str(load["sequences"]),
            _count(load["running"]),
            _count(load["waiting"]),
            "-" if load["kv_usage"] is None else f"{load['kv_usage']:.0%}",
            one["version"] or "-",
            ", ".join(map(plain, [*one["adapters"], *([one["alias"]] if one["alias"] else [])])) or "-",
            plain(one["url"]),
        )
    return table


def adapters_table(adapters: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("NAME", "POLICY", "WORKERS", "PATH", "BY", "REASON", box=None, pad_edge=False)
    for one in adapters:
        having, lacking = len(one["loaded_on"]), len(one["missing_on"])
        on = f"{having} of {having + lacking}"
        reason = plain(one["reason"] or "-")
        table.add_row(one["name"], one["policy"], on, plain(one["path"]), one["created_by"], reason)
    return table


def _note_of(worker: Mapping[str, Any]) -> str | None:
    """What the table leaves out: why it is down, or who drained it."""
    if worker["state"] == "down":
        return f"{worker['id']} is down: {plain(worker['reason'] or 'not asked yet')}."
    if worker["state"] == "draining" and worker["changed"]:
        return f"{worker['id']} was drained {made_by(worker['changed'])}."
    return None


def _of(worker_id: str, rest: str) -> str:
    return f"{WORKERS}/{quote(worker_id, safe='')}{rest}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
