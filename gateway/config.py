"""The configuration file: each key declared once, with its type, default, bounds and one sentence.

`deploy/bestow.example.yaml` is generated from this module (`bestow config example`), and `load` reads a file into a
`Config` or raises a `ConfigError` that names the key, what is wrong with it and how to mend it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from gateway.errors import ConfigError
from gateway.feedback.settings import FeedbackConfig
from gateway.log import redis_url
from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.plugins import check as check_redactors
from gateway.profile_settings import ProfileConfig, check_scorers, listed
from gateway.release.settings import ReleaseConfig
from scorers.scorer_settings import UNKNOWN_KIND, ScorerConfig, location, no_such_kind
from scorers.settings import (
    Name,
    Port,
    ScorerServerConfig,
    Section,
    Tls,
    Upstream,
    Url,
    Variable,
    check_address,
)


def check_origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}".lower()):
        raise ValueError(
            f"{value!r} is no origin: write scheme, host and port alone and in lower case, without a slash at the end, "
            'such as https://app.example.com, or "*"'
        )
    return value


Origin = Annotated[str, AfterValidator(check_origin)]


class GatewayConfig(Section):
    host: str = Field(
        "127.0.0.1",
        description="Address the gateway listens on; anything but loopback needs API keys (`bestow keys create`).",
    )
    port: Port = Field(8000, description="Port of the OpenAI-compatible API.")
    allow_anonymous: bool = Field(
        False,
        description="Serve chat and feedback without API keys; only behind something that checks who calls.",
    )
    max_body_bytes: int = Field(8_388_608, ge=1024, description="Largest request body; beyond it the answer is a 413.")
    max_prompts: int = Field(
        128, ge=1, le=4096, description="Most prompts in a /v1/completions request; each is sampled and judged alone."
    )
    request_timeout_s: float = Field(
        120.0, gt=0, description="Longest a request may take, sampling and scoring included."
    )
    drain_timeout_s: float = Field(20.0, ge=0, description="How long a stopping gateway lets running requests finish.")
    drain_delay_s: float = Field(
        2.0,
        ge=0,
        description="How long a stopping gateway still takes requests while /readyz says 503, so that load balancers "
        "turn away first.",
    )
    max_waiting: int = Field(
        1000,
        ge=0,
        description="Requests that may wait while the workers are full; beyond it the lowest class gets a 429.",
    )
    max_wait_s: float = Field(10.0, gt=0, description="Longest that a request waits for a place; then it gets a 429.")
    idempotency_ttl_s: int = Field(
        3600, ge=1, description="How long an answer is kept for requests that repeat its Idempotency-Key."
    )
    feedback_secret_file: Path | None = Field(
        None,
        description="File with the secret that signs feedback tokens; empty: made in data_dir. Gateways must share it.",
    )
    feedback_token_ttl_s: int = Field(2_592_000, ge=60, description="How long a feedback token can be used (30 days).")
    responses_ttl_s: int = Field(
        2_592_000, ge=60, description="How long a stored response can be continued by previous_response_id (30 days)."
    )
    cors_origins: list[Origin] = Field(
        [],
        description="Web pages that browsers let call this gateway: origins such as https://app.example.com, or "
        '"*" for all; [] means none. Cookies are never part of it: a page sends a feedback token or a key.',
    )
    cors_endpoints: list[Literal["feedback", "chat"]] = Field(
        ["feedback"],
        description="What those pages may call. chat: completions, responses and models too; a page that holds an API "
        "key shows it to everybody who opens it.",
    )
    tls_cert_file: Path | None = Field(
        None, description="Certificate (PEM, its chain included) to serve HTTPS with; empty: plain HTTP."
    )
    tls_key_file: Path | None = Field(None, description="Key of that certificate (PEM); empty: it is in tls_cert_file.")

    @model_validator(mode="after")
    def _tls_agrees(self) -> "GatewayConfig":
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file needs tls_cert_file, the certificate it belongs to")
        return self


class _Redis(Section):
    url: str | None = Field(
        None,
        pattern=redis_url.PATTERN,
        description="Redis >= 6.2 or Valkey: redis://host:port/db, redis+cluster://host:port,host:port, or "
        "redis+sentinel://host:port,host:port/master/db (rediss for TLS); empty: `bestow up` starts one of its own.",
    )
    port: Port = Field(8379, description="Port of the Redis that `bestow up` starts.")
    username: str | None = Field(None, min_length=1, description="User of its access list; empty: the default user.")
    password_file: Path | None = Field(
        None, description="File with the password; read again at each new connection, so that it can be changed."
    )
    password_env: Variable | None = Field(None, description="Environment variable with it, instead of a file.")
    sentinel_password_file: Path | None = Field(None, description="File with the password that the Sentinels ask for.")


# The fields of the base named last come first in the generated example.
class RedisConfig(Tls, _Redis):
    @model_validator(mode="after")
    def _access_agrees(self) -> "RedisConfig":
        secret = " and ".join(key for key in ("password_file", "password_env") if getattr(self, key))
        if " and " in secret:
            raise ValueError(f"{secret} both name the password: keep one of them")
        if self.username and not secret:
            raise ValueError("username needs password_file or password_env")
        if self.url is None:
            if given := secret or self.tls_keys or ("sentinel_password_file" if self.sentinel_password_file else ""):
                raise ValueError(f"{given} is for a Redis that url names; the one started here needs none")
            return self
        parts = urlsplit(self.url)
        if secret and (parts.username or parts.password or "password" in parse_qs(parts.query)):
            raise ValueError(f"url holds a name or a password already, and {secret} names one: keep one of them")
        if self.tls_keys and not parts.scheme.startswith("rediss"):
            raise ValueError(f"{self.tls_keys} would do nothing: url does not begin with rediss")
        if redis_url.parse(self.url).kind != "sentinel" and self.sentinel_password_file:
            raise ValueError("sentinel_password_file is for a url that begins with redis+sentinel:// (or rediss)")
        if option := next((key for key in parse_qs(parts.query) if key.startswith("ssl_")), None):
            raise ValueError(f"{option} in url: say it with ca_file, cert_file, key_file or verify, beside url")
        return self


class ArchiveConfig(Section):
    enabled: bool = Field(
        True,
        description="Move old records from Redis to Parquet files. Off, or without the extra `archive`: they stay in "
        "Redis, which grows.",
    )
    url: str | None = Field(
        None,
        min_length=1,
        description="A folder, or any fsspec URL (s3://bucket/bestow), that all gateways can write; empty: "
        "data_dir/archive.",
    )
    after_s: float = Field(
        3600.0, gt=0, description="Age at which a record is moved, together with all that are half as old."
    )
    keep_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="Memory of Redis that the streams may take; beyond it records are moved before they are old.",
    )
    every_s: float = Field(30.0, gt=0, description="How often gateways look whether there is something to move.")
    retain_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days for which an interaction is kept, with all that was said of it, and a day more at most; "
        "empty: for ever. Where a model (models.NAME.log) or a tenant says less, that holds.",
    )


Redactors = Annotated[list[Name], AfterValidator(check_redactors)]
_REDACTORS = f"{', '.join(KINDS)}, presidio, or an entry point of bestow.redactors"


class KeepConfig(Section):
    share: float = Field(
        1.0, ge=0, le=1, description="Share of interactions that is stored, drawn by their id; the others are counted."
    )
    prompts: bool = Field(True, description="Keep what was asked; false: only the answers.")
    media: bool = Field(
        False, description="Keep images, audio and files, which nothing redacts; false: their type and size alone."
    )
    redact: Redactors = Field(
        list(KINDS),
        description=f"What is taken out of all texts before they are written: {_REDACTORS}; [] takes out nothing.",
    )


class ModelLogConfig(Section):
    share: float | None = Field(None, ge=0, le=1, description="Share that is stored, if less than log.keep's.")
    prompts: bool | None = Field(None, description="Keep what was asked, where log.keep does.")
    media: bool | None = Field(None, description="Keep images, audio and files, where log.keep does.")
    redact: Redactors | None = Field(None, description="What is redacted, instead of log.keep's.")
    retain_days: int | None = Field(
        None, ge=1, le=36_500, description="Days for which it is kept, if less than log.archive's."
    )


class LogConfig(Section):
    shard: Name = Field("0", description="Shard in the stream's key, bestow:{log-<shard>}:interactions.")
    flush_ms: float = Field(
        20.0, gt=0, le=1000, description="How often queued records are written to the journal, at most."
    )
    queue_records: int = Field(
        100_000, ge=100, description="Records held in memory while the journal cannot be written."
    )
    segment_bytes: int = Field(16_777_216, ge=4096, description="Size at which the journal begins a new segment file.")
    keep_bytes: int = Field(
        268_435_456,
        ge=0,
        description="Without an archive: shipped journal segments kept on disk, oldest deleted first, in case Redis "
        "loses its tail. With one, each is kept until its records are archived, however much that is.",
    )
    archive: ArchiveConfig = Field(ArchiveConfig(), description="Where old records go, so that Redis stays small.")
    keep: KeepConfig = Field(
        KeepConfig(), description="What is kept, unless a model (models.NAME.log) or a tenant keeps less."
    )
    redact_archive: Redactors = Field(
        [],
        description="What else is taken out before the archive, by redactors that are too slow for the journal: "
        "presidio, or an entry point of bestow.redactors.",
    )
    compress_above: int = Field(
        16_384,
        ge=0,
        description="Bytes from which a record is compressed in the journal and in Redis; 0: never. Feedback never is.",
    )
    token_ids: bool = Field(
        True, description="Keep each candidate's token ids, so that nothing is tokenised again later."
    )
    logprobs: bool = Field(
        False,
        description="Ask the workers for log-probabilities of all tokens, and keep those of delivered answers beside "
        "their token ids; false: kept where a client asks for them.",
    )

    @model_validator(mode="after")
    def _logprobs_have_tokens(self) -> "LogConfig":
        if self.logprobs and not self.token_ids:
            raise ValueError("logprobs: they need the token ids: set token_ids: true, or logprobs: false")
        return self


class _Worker(Section):
    url: Url = Field(description="Base address of a vLLM server, without /v1.")
    dns: bool = Field(
        False,
        description="The host stands for many servers, one for each address it resolves to (a headless service).",
    )


class WorkerConfig(Upstream, _Worker):
    @model_validator(mode="after")
    def _address_agrees(self) -> "WorkerConfig":
        check_address(self.url, self)
        return self


# A parser's name goes to vLLM's command line, and must not begin with a dash there.
PARSER = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class EngineConfig(Section):
    """How `bestow up` starts vLLM for a policy that has no workers."""

    port: Port = Field(8101, description="Port of the vLLM server that `bestow up` starts.")
    max_model_len: int | None = Field(None, ge=16, description="Context length; empty: the model's own.")
    kv_cache_gib: int = Field(1, ge=1, description="Memory for the KV cache on a machine without a GPU.")
    tool_call_parser: str | None = Field(
        None,
        pattern=PARSER,
        description="How this model writes tool calls, for vLLM to read (hermes, llama3_json, ...); empty: no tools.",
    )
    reasoning_parser: str | None = Field(
        None,
        pattern=PARSER,
        description="How this model marks its reasoning, for vLLM to read (qwen3, deepseek_r1, ...); empty: none.",
    )
    lora: bool = Field(False, description="Whether LoRA adapters can be loaded into it while it runs.")
    args: list[str] = Field([], description="More arguments for vLLM's server, as on its command line.")

    @model_validator(mode="after")
    def _parsers_are_named_once(self) -> "EngineConfig":
        given = {arg.partition("=")[0].replace("_", "-") for arg in self.args}
        for key in ("tool_call_parser", "reasoning_parser"):
            flag = f"--{key.replace('_', '-')}"
            if getattr(self, key) is not None and flag in given:
                raise ValueError(f"{key} and {flag} in args both name a parser: keep one of them")
        return self


class LimitsConfig(Section):
    """How long a worker may be silent, by phase; the whole is bounded by gateway.request_timeout_s."""

    connect_s: float = Field(2.0, gt=0, description="Seconds to open a connection to a worker.")
    first_token_s: float = Field(
        60.0,
        gt=0,
        description="Seconds until a worker's first token, its own queue and the reading of the prompt included.",
    )
    token_s: float = Field(20.0, gt=0, description="Seconds between two signs of life while a worker samples.")


class PolicyConfig(Section):
    model: str = Field(description="Hugging Face id or local folder of the weights; served by vLLM.")
    version: int = Field(1, ge=1, description="The N of name@N in receipts and in the log.")
    workers: list[WorkerConfig] = Field([], description="vLLM servers of this policy; empty: `bestow up` starts one.")
    max_sequences: int = Field(
        256, ge=1, description="Samples that one worker runs at once (vLLM's --max-num-seqs); beyond it requests wait."
    )
    split_n: int = Field(
        32, ge=1, description="Most candidates of a request that one worker samples while others have room."
    )
    affinity_bound: float = Field(
        1.25,
        ge=1,
        description="How far over the average load a worker may be for the sake of a prefix that it has cached.",
    )
    limits: LimitsConfig = Field(LimitsConfig(), description="How long a worker may be silent.")
    engine: EngineConfig = Field(EngineConfig(), description="How `bestow up` starts that vLLM server.")


class ModelConfig(Section):
    policy: Name = Field(description="The policy that samples.")
    profile: Name = Field("default", description="The profile that decides how.")
    adapter: Name | None = Field(
        None,
        description="LoRA adapter of the policy that samples (`bestow adapters load`); empty: the policy itself.",
    )
    log: ModelLogConfig | None = Field(None, description="What the log keeps of it; empty: what log.keep says.")


class Config(Section):
    """The whole file."""

    data_dir: Path = Field(Path(".bestow"), description="Where journals, secrets, logs and the local Redis are kept.")
    gateway: GatewayConfig = Field(GatewayConfig(), description="The HTTP front.")
    redis: RedisConfig = Field(RedisConfig(), description="Where interactions and feedback go.")
    log: LogConfig = Field(LogConfig(), description="How records reach Redis.")
    feedback: FeedbackConfig = Field(
        FeedbackConfig(), description="What people say: what is taken, what it weighs, who is told."
    )
    scorer_server: ScorerServerConfig = Field(ScorerServerConfig(), description="The scorer server on this machine.")
    policies: dict[Name, PolicyConfig] = Field({}, description="The language models that sample.")
    scorers: dict[Name, ScorerConfig] = Field({}, description="The reward models and safety classifiers.")
    profiles: dict[Name, ProfileConfig] = Field(
        {}, description="Named settings; applications get one by the model they name."
    )
    models: dict[Name, ModelConfig] = Field({}, description="The public names: what an application puts in `model`.")
    release: ReleaseConfig = Field(ReleaseConfig(), description="How a better policy or reward model reaches users.")

    @model_validator(mode="after")
    def _names_resolve(self) -> "Config":
        for name, model in self.models.items():
            if model.policy not in self.policies:
                raise ValueError(f"models.{name}.policy: no policy {model.policy!r} (there is {listed(self.policies)})")
            if model.profile not in self.profiles:
                raise ValueError(
                    f"models.{name}.profile: no profile {model.profile!r} (there is {listed(self.profiles)})"
                )
        for name, profile in self.profiles.items():
            check_scorers(f"profiles.{name}", profile, self.scorers)
        return self


def load(path: Path) -> Config:
    """Read a configuration file. Relative paths in it are relative to the working directory.

    Raises ConfigError with one line a mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.") from None
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold keys and values, such as `gateway:`; it holds {type(data).__name__}.")
    return parse(data, source=str(path))


def parse(data: dict[str, Any], source: str = "the configuration") -> Config:
    """Check a configuration given as plain data. Raises ConfigError with one line a mistake."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = [f"{source}: {_explain(one)}" for one in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _explain(error: Any) -> str:
    where = location(error) if error["loc"] else ""
    if error["type"] in UNKNOWN_KIND:
        return f"{where}: {no_such_kind(error)}"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such key; `bestow config example` prints all of them"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def dump(config: Config) -> str:
    """The configuration as YAML, defaults left out: what `load` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
