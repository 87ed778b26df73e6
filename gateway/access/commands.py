"""`bestow keys` and `bestow tenants`: straight to Redis, so that the first key can be made before any gateway runs."""

import asyncio
import getpass
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from gateway.access import store
from gateway.access.caller import DEFAULT_TENANT, SCOPES, USUAL_SCOPES
from gateway.access.changes import (
    Decide,
    NewKey,
    create_key,
    delete_tenant,
    retirement,
    revoke_key,
    rotate_key,
    set_tenant,
)
from gateway.access.expiry import as_date, duration, expiry
from gateway.access.keys import ApiKey, described
from gateway.access.snapshot import Tenant, described_tenant
from gateway.admission.tiers import TIERS
from gateway.config import Config, load
from gateway.errors import BadRequest, ConfigError, StartError
from gateway.log import redis_url
from gateway.log.connection import RedisAddress, connect, redis_address
from gateway.log.privacy.policy import TenantLog
from gateway.log.records import Training
from gateway.log.source import DEFAULT_CONFIGS

T = TypeVar("T")

keys_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Make, list, rotate and revoke API keys.

    A gateway without any key is open to its own machine and to no other. As soon as there is one, every call under /v1
    and /admin needs a key: `Authorization: Bearer bk_...`. Changes hold on every gateway within about a second.
    /healthz, /readyz and /metrics never need one.

    Scopes: chat (answers and models), feedback, read-logs, and admin, which implies the others and manages keys. An
    admin of the tenant default manages every tenant, one of another tenant the keys of its own alone.
    """,
)
tenants_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Say which models, profiles and service tier a tenant may use.

    Each API key belongs to a tenant. Tenants share the models and nothing else: no feedback, no cache, no logs. The
    tenant `default` always exists and has those that need no key.

    While the workers are full, requests of a higher tier go first, and those of the lowest are turned away first. A
    request asks for one with OpenAI's `service_tier`; it is `default` unless it does.
    """,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration file with Redis's address.  (default: .bestow/run.yaml, else bestow.yaml)",
    ),
]
RedisOption = Annotated[str | None, typer.Option("--redis", help="Redis's address, instead of a configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands between bk_ and the secret.")]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the keys are, and the configuration where it is known."""

    address: RedisAddress
    config: Config | None


@keys_app.command()
def create(
    name: Annotated[str, typer.Option("--name", "-n", help="What the key is for, or whose it is.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(SCOPES)}; may be repeated; none: chat and feedback."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="The tenant it belongs to.")] = DEFAULT_TENANT,
    expires: Annotated[str | None, typer.Option(help="A duration (90d) or a date (2027-01-31); none: never.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
) -> None:
    """Make an API key. It is shown once: only its hash is kept.

    \b
      bestow keys create --name me --scope admin
      bestow keys create --name "web shop" --tenant shop --expires 90d
    """
    now = time.time()
    decide = create_key(
        name=name,
        tenant=tenant,
        scopes=scope or USUAL_SCOPES,
        expires=None if expires is None else expiry(expires, now),
        created_by=_me(),
        now=now,
    )
    show_new(_change(find_source(config, redis), decide), now, as_json)


@keys_app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Revoked and expired ones too.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
) -> None:
    """List the API keys; their secrets are kept nowhere.

    \b
      bestow keys list --all
    """
    now = time.time()
    found = _run(find_source(config, redis), store.read)
    keys = sorted(
        (
            key
            for key in found.keys.values()
            if tenant in (None, key.tenant) and (everything or as_json or key.usable(now))
        ),
        key=lambda key: key.created,
    )
    if as_json:
        _print_json([described(key, now) for key in keys])
        return
    _print(keys_table(keys, now))
    hidden = len(found.keys) - len(keys)
    if not found.has_keys:
        print("There are no API keys: gateways are open to their own machine, and to no other.")
    elif hidden and not everything and tenant is None:
        print(f"{hidden} revoked or expired not shown: bestow keys list --all")
    if found.unreadable:
        print(f"{found.unreadable} were written by another version of Bestow and open nothing here.")


@keys_app.command()
def rotate(
    identifier: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old key is still good; 0: not at all.")] = "24h",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
) -> None:
    """Replace a key by a new one with the same name, tenant, scopes and lifetime.

    \b
      bestow keys rotate 8f3k2m1p9q --grace 7d
    """
    now = time.time()
    decide = rotate_key(_id(identifier), grace_s=duration(grace, "--grace"), created_by=_me(), now=now)
    show_new(_change(find_source(config, redis), decide), now, as_json)


@keys_app.command()
def revoke(
    identifier: KeyId, as_json: JsonOption = False, config: ConfigOption = None, redis: RedisOption = None
) -> None:
    """Make a key useless, on every gateway within about a second. It cannot be undone.

    \b
      bestow keys revoke 8f3k2m1p9q
    """
    now = time.time()
    key = _change(find_source(config, redis), revoke_key(_id(identifier), now=now))
    if as_json:
        _print_json(described(key, now))
    else:
        print(f"The key {key.id} ({_plain(key.name)}) is revoked.")


@tenants_app.command("list")
def list_tenants(as_json: JsonOption = False, config: ConfigOption = None, redis: RedisOption = None) -> None:
    """List the tenants and what they may use."""
    found = _run(find_source(config, redis), store.read)
    if as_json:
        _print_json([described_tenant(tenant) for tenant in found.all_tenants()])
        return
    now = time.time()
    table = Table("TENANT", "MODELS", "PROFILES", "TIER", "USABLE KEYS", box=None, pad_edge=False)
    for tenant in found.all_tenants():
        count = sum(key.usable(now) for key in found.keys.values() if key.tenant == tenant.name)
        table.add_row(tenant.name, _names(tenant.models), _names(tenant.profiles), tenant.tier, str(count))
    _print(table)


@tenants_app.command("set")
def set_limits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant; made where there is none.")],
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; may be repeated; none: all.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="A profile it may use; may be repeated; none: all.")] = None,
    tier: Annotated[
        str, typer.Option(help=f"The highest service tier of its requests: {', '.join(TIERS)}.")
    ] = "default",
    store: Annotated[bool | None, typer.Option("--store/--no-store", help="Keep anything of its requests.")] = None,
    share: Annotated[float | None, typer.Option(min=0, max=1, help="Share of its interactions that is kept.")] = None,
    prompts: Annotated[bool | None, typer.Option("--prompts/--no-prompts", help="Keep what it asks.")] = None,
    media: Annotated[bool | None, typer.Option("--media/--no-media", help="Keep its images, audio and files.")] = None,
    redact: Annotated[
        list[str] | None,
        typer.Option(help="What is taken out of its texts; may be repeated; `nothing`, or `default`: as configured."),
    ] = None,
    training: Annotated[
        str | None, typer.Option(help=f"Whose models its records may train: {', '.join(get_args(Training))}.")
    ] = None,
    retain_days: Annotated[
        int | None,
        typer.Option(min=0, help="Days for which its records are kept, if less than configured; 0: as configured."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
) -> None:
    """Make a tenant, or replace what it may use. What is kept of it stays as it was, but for what is said here.

    \b
      bestow tenants set shop --model bestow-demo
      bestow tenants set shop --tier priority          all models and profiles; first where the workers are full
      bestow tenants set shop --no-store               nothing of it is stored: its requests are only counted
      bestow tenants set shop --training tenant        its records may train models of its own
      bestow tenants set shop --retain-days 30         what is logged of it is removed after 30 days
    """
    source = find_source(config, redis)
    kept = {"store": store, "share": share, "prompts": prompts, "media": media, "training": training}
    decide = set_tenant(
        name,
        model or None,
        profile or None,
        tier=tier,
        log={name: value for name, value in kept.items() if value is not None} | _redact(redact) | _retain(retain_days),
        known_models=source.config.models if source.config else None,
        known_profiles=source.config.profiles if source.config else None,
    )
    tenant = _change(source, decide)
    if as_json:
        _print_json(described_tenant(tenant))
    else:
        print(_sentence(tenant))


@tenants_app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
) -> None:
    """Delete a tenant that has no usable keys. What was logged of it stays."""
    tenant = _change(find_source(config, redis), delete_tenant(name, now=time.time()))
    if as_json:
        _print_json({**described_tenant(tenant), "deleted": True})
    else:
        print(f"The tenant {tenant.name} is deleted.")


def find_source(config: Path | None, redis: str | None) -> Source:
    """An address given wins over a file given, that over the default files. Raises ConfigError."""
    if redis is not None:
        try:
            redis_url.parse(redis)
        except ValueError as error:
            raise ConfigError(f"--redis: it is not an address of Redis: {error}.") from None
        return Source(RedisAddress(redis), load(config) if config else None)
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    if path is None:
        raise ConfigError(
            "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or Redis with --redis."
        )
    found = load(path)
    return Source(redis_address(found.redis), found)


def show_new(made: NewKey, now: float, as_json: bool) -> None:
    """The key, this once."""
    if as_json:
        _print_json({**described(made.record, now), "key": made.key})
        return
    key = made.record
    until = f", until {as_date(key.expires)}" if key.expires else ""
    print(f"The key {key.id} ({_plain(key.name)}) of the tenant {key.tenant} is for {', '.join(key.scopes)}{until}.")
    print(f"It is shown this once:\n\n  {made.key}\n")
    if made.old:
        print(retirement(made.old, now))
    if made.first:
        print("It is the first: from now on every call to a gateway needs a key (Authorization: Bearer bk_...).")


def keys_table(keys: Sequence[ApiKey], now: float) -> Table:
    table = Table("ID", "NAME", "TENANT", "SCOPES", "STATUS", "CREATED", "EXPIRES", box=None, pad_edge=False)
    for key in keys:
        status = f"replaced by {key.replaced_by}" if key.status(now) == "retiring" else key.status(now)
        expires = "never" if key.expires is None else as_date(key.expires)
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, _plain(key.name), key.tenant, scopes, status, as_date(key.created), expires)
    return table


def _change(source: Source, decide: Decide[T]) -> T:
    return _run(source, lambda redis: store.change(redis, decide))


def _run(source: Source, action: Callable[[Redis], Coroutine[Any, Any, T]]) -> T:
    """Run with a Redis client. Raises StartError where it does not answer, and what the action raises."""
    try:
        client = connect(source.address)
    except ValueError as error:
        raise ConfigError(f"Redis's address {source.address.shown!r} cannot be used: {error}") from None
    try:
        return asyncio.run(_with_client(client, action(client)))
    except (RedisError, OSError) as error:
        why = " ".join(str(error).split())
        raise StartError(f"Redis at {source.address.shown} does not answer: {why}") from None


async def _with_client(client: Redis, work: Coroutine[Any, Any, T]) -> T:
    async with client:
        return await work


def _id(identifier: str) -> str:
    if identifier.startswith("bk_"):
        raise BadRequest("name the key by its id alone: what stands between bk_ and the secret")
    return identifier


def _me() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"


def _names(names: Sequence[str] | None) -> str:
    return "all" if names is None else ", ".join(names)


def _redact(names: list[str] | None) -> dict[str, tuple[str, ...] | None]:
    """What `--redact` changes."""
    if not names:
        return {}
    if "default" in names:
        return {"redact": None}
    return {"redact": tuple(name for name in dict.fromkeys(names) if name != "nothing")}


def _retain(days: int | None) -> dict[str, int | None]:
    """What `--retain-days` changes."""
    return {} if days is None else {"retain_days": days or None}


def _kept(log: TenantLog) -> str:
    if not log.store:
        return "Nothing of it is stored."
    less = [f"no {name}" for name, kept in (("prompts", log.prompts), ("media", log.media)) if kept is False]
    less += [] if log.share is None else [f"{log.share:.0%} of its interactions"]
    less += [] if log.redact is None else [f"without {', '.join(log.redact) or 'any redaction'}"]
    less += [] if log.retain_days is None else [f"for {log.retain_days} days"]
    return f"Stored: {', '.join(less) or 'what the configuration keeps'}; training: {log.training}."


def _sentence(tenant: Tenant) -> str:
    return (
        f"The tenant {tenant.name} may use models: {_names(tenant.models)}; profiles: {_names(tenant.profiles)}; "
        f"service tier: up to {tenant.tier}. {_kept(tenant.log)}"
    )


def _plain(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _print(table: Table) -> None:
    if table.row_count:
        Console(markup=False, highlight=False, emoji=False, soft_wrap=True).print(table)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))
