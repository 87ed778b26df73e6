"""The scorers of one server: loading them one after the other in a thread, then answering for them.

Those of the configuration come first, and the server ends where one of them cannot be loaded. Others come and go while
it runs: a new version is loaded beside the one that answers, takes its place at once, and the old one is closed after
its last call. A version that cannot be loaded changes nothing.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from scorers.contract import ScoreRequest, ScoreResponse, ScorerInfo, ScorerStatus, ServedScorer
from scorers.errors import ScorerInUse, ScorerUnavailable, UnknownScorer
from scorers.in_use import InUse
from scorers.live_settings import fingerprint, parse_scorer
from scorers.loading import Loading
from scorers.metrics import Metrics
from scorers.scorer_settings import EnsembleConfig, ScorerConfig
from scorers.settings import ScorerServerConfig

logger = logging.getLogger(__name__)


Load = Callable[[str, ScorerConfig, Loading], tuple[ServedScorer, str]]
"""Loads one scorer, in a thread: its name and settings to the scorer and a few words about it."""

# How often the loading thread looks whether the event loop that it waits for is gone.
_LOOK_S = 1.0


@dataclass(slots=True, eq=False)
class _Slot:
    """A name: what is wanted of it, and what answers to it meanwhile.

    print: the fingerprint of the settings that are wanted. failed: why they could not be loaded.
    turn: grows with each thing that is wanted, so that a load that nobody waits for any more is known.
    """

    config: ScorerConfig
    print: str
    ready: bool = False
    failed: str = ""
    turn: int = 0
    serving: InUse | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    slot: _Slot
    turn: int


class Service:
    """Starts empty; `start` loads. `failed` is called, in the event loop, with a sentence when a model cannot load."""

    def __init__(
        self,
        configs: Mapping[str, ScorerConfig],
        server: ScorerServerConfig,
        load: Load,
        metrics: Metrics,
        failed: Callable[[str], None],
    ) -> None:
        self._server = server
        self._own = {name: _Slot(configs[name], "") for name in members_first(configs)}
        self._slots = dict(self._own)
        self._load = load
        self._metrics = metrics
        self._failed = failed
        self._jobs: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._busy = False
        self.loader: threading.Thread | None = None

    @property
    def loading(self) -> list[str]:
        """Names of the configuration's that are not loaded yet; the first is being loaded."""
        return [name for name, slot in self._own.items() if not slot.ready]

    def infos(self) -> list[ScorerInfo]:
        """What answers."""
        return [slot.serving.scorer.info for slot in self._slots.values() if slot.serving is not None]

    def added(self) -> list[ScorerStatus]:
        """The scorers that came while the server runs."""
        return [_status(name, slot) for name, slot in self._slots.items() if name not in self._own]

    def start(self) -> None:
        """Begin to load. Call it inside the event loop."""
        for name, slot in self._own.items():
            self._queue(name, slot)

    def put(self, name: str, settings: dict[str, Any]) -> ScorerStatus:
        """Begin to load a scorer beside the others, or a new version of one; the same settings again change nothing.

        What could not be loaded is tried again. Raises WrongSetting, ScorerInUse.
        """
        config, wanted = parse_scorer(name, settings), fingerprint(settings)
        self._must_be_free(name)
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = _Slot(config, wanted)
        elif slot.print == wanted and not slot.failed:
            return _status(name, slot)
        slot.config, slot.print = config, wanted
        slot.ready, slot.failed, slot.turn = False, "", slot.turn + 1
        self._queue(name, slot)
        return _status(name, slot)

    async def remove(self, name: str) -> ScorerStatus:
        """Nobody gets it any more; it is gone when this returns. Raises UnknownScorer, ScorerInUse."""
        if name not in self._slots:
            raise UnknownScorer(f"There is no scorer {name!r} here; there is {self._known()}.")
        self._must_be_free(name)
        slot = self._slots.pop(name)
        slot.turn += 1
        status = _status(name, slot)
        if slot.serving is not None:
            self._metrics.queue_depth.remove(name)
            logger.info("removed %s", name)
            await asyncio.shield(self._in_background(slot.serving.drain()))
        return status

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Raises UnknownScorer, ScorerUnavailable while it loads, and what the scorer raises."""
        name = request.model
        slot = self._slots.get(name)
        if slot is None:
            raise UnknownScorer(f"There is no scorer {name!r} here; there is {self._known()}.")
        serving = slot.serving
        if serving is None:
            raise ScorerUnavailable(
                f"The scorer {name!r} could not be loaded." if slot.failed else f"The scorer {name!r} is still loading."
            )
        began = time.perf_counter()
        scores = await serving.score(request)
        self._metrics.request_seconds.labels(name).observe(time.perf_counter() - began)
        for score in scores:
            outcome = "error" if score.error is not None else "value" if score.value is not None else "categories"
            self._metrics.scores.labels(name, outcome).inc()
        self._metrics.tokens.labels(name).inc(sum(score.tokens for score in scores))
        return ScoreResponse(name, serving.scorer.info.version, scores)

    async def close(self) -> None:
        """Finish what waits."""
        serving = [slot.serving.scorer for slot in self._slots.values() if slot.serving is not None]
        await asyncio.gather(*(scorer.close() for scorer in serving), *self._closing)

    def _known(self) -> str:
        return ", ".join(sorted(self._slots))

    def _must_be_free(self, name: str) -> None:
        """Raises ScorerInUse where this scorer has to stay what it is."""
        if name in self._own:
            raise ScorerInUse(
                f"The scorer {name} is in this server's configuration: change it there, or add one by another name."
            )
        for other, slot in self._slots.items():
            if isinstance(slot.config, EnsembleConfig) and name in slot.config.members and not slot.failed:
                raise ScorerInUse(f"The scorer {name} is a member of the ensemble {other}: remove {other} first.")

    def _queue(self, name: str, slot: _Slot) -> None:
        with self._lock:
            self._jobs.append(_Job(name, slot, slot.turn))
            if self._busy:
                return
            self._busy = True
            # A daemon, so that a stop during a long download or load need not wait for it.
            loop = asyncio.get_running_loop()
            self.loader = threading.Thread(target=self._load_all, args=(loop,), name="load", daemon=True)
        self.loader.start()

    def _next(self) -> _Job | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            self._busy = False
            return None

    def _load_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: until nothing is left to load, or the loop has ended."""
        while (job := self._next()) is not None:
            if job.slot.turn != job.turn:
                continue
            began = time.perf_counter()
            done: Callable[[], None]
            try:
                answering = {name: slot.serving.scorer for name, slot in list(self._slots.items()) if slot.serving}
                loading = Loading(
                    self._server, self._metrics.observer(job.name), answering, self._metrics.cached(job.name)
                )
                scorer, about = self._load(job.name, job.slot.config, loading)
            except Exception as error:  # whatever stops a model from loading is told in one sentence
                done = _later(self._give_up, job, " ".join(str(error).split()) or type(error).__name__)
            else:
                done = _later(self._take, job, scorer, about, time.perf_counter() - began)
            if not _run_in(loop, done):
                return

    def _take(self, job: _Job, scorer: ServedScorer, about: str, seconds: float) -> None:
        name, slot = job.name, job.slot
        if slot.turn != job.turn:
            self._in_background(scorer.close())
            return
        before, slot.serving = slot.serving, InUse(scorer)
        slot.ready = True
        self._metrics.load_seconds.labels(name).set(seconds)
        self._metrics.queue_depth.labels(name).set_function(lambda: scorer.waiting)
        logger.info("loaded %s: %s (%.1f s)", name, about, seconds)
        if before is not None:
            self._in_background(before.drain())
        if name in self._own and not self.loading:
            logger.info("ready")

    def _give_up(self, job: _Job, reason: str) -> None:
        name, slot = job.name, job.slot
        if name in self._own:
            with self._lock:
                self._jobs.clear()
            self._failed(f"The scorer {name} cannot be served. {reason}")
        elif slot.turn == job.turn:
            slot.failed = reason
            logger.warning("%s cannot be served: %s", name, reason)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


def members_first(configs: Mapping[str, ScorerConfig]) -> list[str]:
    """The names in their order, but ensembles behind all others: they are made of them."""
    return sorted(configs, key=lambda name: isinstance(configs[name], EnsembleConfig))


def _status(name: str, slot: _Slot) -> ScorerStatus:
    return ScorerStatus(
        id=name,
        version=f"{name}@{slot.config.version}",
        settings=slot.print,
        state="ready" if slot.ready else "failed" if slot.failed else "loading",
        serving=slot.serving.scorer.info.version if slot.serving else "",
        reason=slot.failed,
    )


def _later(function: Callable[..., None], *args: object) -> Callable[[], None]:
    return lambda: function(*args)


def _run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> bool:
    """Run it in the loop and wait until it has; False where the loop ended."""
    done = threading.Event()

    def run() -> None:
        try:
            function()
        finally:
            done.set()

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:  # the server stopped while this model was loading
        logger.debug("stopped while loading")
        return False
    while not done.wait(_LOOK_S):
        if loop.is_closed():
            return False
    return True
