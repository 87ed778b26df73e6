"""What a worker's /metrics page says of its load, whichever vLLM wrote it.

vLLM renames its metrics now and then, and a router that takes a missing one for zero sees idle workers everywhere. The
names are therefore a table by version, and a page that lacks one of them is told of: `UnknownMetrics`, never a zero.

One page may speak for several engines (data parallelism): one line each. Those that run and those that wait are
summed; the share of the KV cache in use is their mean, since the worker spreads requests over its engines itself, and
what it can still take is what all of them have left.

Only the lines asked for are parsed: 0.08 ms of the event loop for the page of vLLM 0.32 (57 KB), 0.6 ms for one of
eight engines; prometheus_client's parser takes 8 and 69 ms.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.workers.load import EngineLoad

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetricNames:
    """since: the first version that has these names, as (major, minor, patch)."""

    since: tuple[int, ...]
    running: str
    waiting: str
    kv_usage: str
    cache_config: str


# The newest first. 0.9.2 introduced the newer name of kv_usage and 0.12 removed the older one (vllm-project/vllm#18354,
# #24245, #29330); versions between show both, or by a flag.
NAMES = (
    MetricNames(
        (0, 9, 2),
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
    ),
    MetricNames(
        (0, 4, 0),
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:gpu_cache_usage_perc",
        "vllm:cache_config_info",
    ),
)

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a page. labels: as they are written, without the braces."""

    labels: str
    value: float

    def label(self, name: str) -> str | None:
        """A label's value; None where it has no such label."""
        return next((value for key, value in _LABEL.findall(self.labels) if key == name), None)


@dataclass(frozen=True, slots=True)
class UnknownMetrics:
    """A page that lacks something we look for. missing: by the names that this version should have.

    load: what could be read all the same; None where it does not say how many run and wait.
    """

    missing: tuple[str, ...]
    load: EngineLoad | None = None


def read_engine_load(text: str, version: str | None) -> EngineLoad | UnknownMetrics:
    """A worker's load by its /metrics page. version: vLLM's by /version, None where it does not say."""
    names = names_of(version)
    # A build of one's own can call itself any version: whatever the page has, by the names likeliest first.
    running = _first(text, (one.running for one in names))
    waiting = _first(text, (one.waiting for one in names))
    kv_usage = _first(text, (one.kv_usage for one in names))
    cache_config = _first(text, (one.cache_config for one in names))
    likeliest = names[0]
    found = {
        likeliest.running: running,
        likeliest.waiting: waiting,
        likeliest.kv_usage: kv_usage,
        likeliest.cache_config: cache_config,
    }
    missing = tuple(name for name, samples in found.items() if not samples)
    load = None
    if running and waiting:
        load = EngineLoad(
            sum(sample.value for sample in running),
            sum(sample.value for sample in waiting),
            sum(sample.value for sample in kv_usage) / len(kv_usage) if kv_usage else None,
            _kv_tokens(cache_config),
        )
    return load if load and not missing else UnknownMetrics(missing, load)


def names_of(version: str | None) -> tuple[MetricNames, ...]:
    """The table, the row of this version first, then the newest."""
    numbers = _numbers(version)
    if not numbers:
        return NAMES
    own = next((names for names in NAMES if names.since <= numbers), NAMES[-1])
    return (own, *(names for names in NAMES if names is not own))


def parse(text: str, name: str) -> Iterator[Sample]:
    """The samples of one metric in a page of Prometheus text; values that are no numbers are passed over."""
    at = -1
    while (at := text.find(name, at + 1)) >= 0:
        after = text[at + len(name) : at + len(name) + 1]
        if (at and text[at - 1] != "\n") or after not in ("{", " ", "\t"):
            continue
        end = text.find("\n", at)
        line = text[at + len(name) : end if end >= 0 else None]
        # A label's value may hold a brace, what follows the labels may not: the value, and perhaps a time.
        labels, _, rest = line.rpartition("}") if after == "{" else ("", "", line)
        try:
            value = float(rest.split()[0])
        except (IndexError, ValueError):
            continue
        if math.isfinite(value):
            yield Sample(labels[1:], value)


class UnknownMetricsLog:
    """Says of each worker, once a version, what its page lacks."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str | None]] = set()

    def tell(self, worker: str, version: str | None, unknown: UnknownMetrics) -> None:
        if (worker, version) in self._told:
            return
        self._told.add((worker, version))
        if unknown.load:
            instead = "its load is read without"
        else:
            instead = "its load is judged by our own requests alone (was it started with --disable-log-stats?)"
        version = version or "of an unknown version"
        logger.warning(
            "worker %s (vLLM %s) has no %s in /metrics: %s", worker, version, " and no ".join(unknown.missing), instead
        )


def _first(text: str, names: Iterable[str]) -> list[Sample]:
    for name in dict.fromkeys(names):
        if samples := list(parse(text, name)):
            return samples
    return []


def _kv_tokens(samples: list[Sample]) -> int | None:
    """What the KV caches of all engines hold. In every line kv_cache_size_tokens is its engine's own, where there is
    one; num_gpu_blocks is the sum of all engines."""
    own = [_whole(sample.label("kv_cache_size_tokens")) for sample in samples]
    if own and all(own):
        return sum(tokens for tokens in own if tokens)
    blocks = [_whole(sample.label("num_gpu_blocks")) * _whole(sample.label("block_size")) for sample in samples]
    return max(blocks, default=0) or None


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _numbers(version: str | None) -> tuple[int, ...]:
    """The release of a version: (0, 32, 0) of 0.32.0rc1+cpu; empty where it begins with no number."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version or "")
    return tuple(int(part) for part in found[1].split(".")) if found else ()
