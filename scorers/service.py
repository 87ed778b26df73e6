"""The scorers of one server: loading them one after the other in a thread, then answering for them."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping

from scorers.contract import ScoreRequest, ScoreResponse, ScorerInfo
from scorers.errors import ScorerUnavailable, UnknownScorer
from scorers.loading import Loading, ServedScorer
from scorers.metrics import Metrics
from scorers.scorer_settings import ScorerConfig
from scorers.settings import ScorerServerConfig

logger = logging.getLogger(__name__)


Load = Callable[[str, ScorerConfig, Loading], tuple[ServedScorer, str]]
"""Loads one scorer, in a thread: its name and settings to the scorer and a few words about it."""


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
        self._configs = dict(configs)
        self._load = load
        self._metrics = metrics
        self._failed = failed
        self._scorers: dict[str, ServedScorer] = {}
        self.loader: threading.Thread | None = None

    @property
    def loading(self) -> list[str]:
        """Names not loaded yet; the first is being loaded."""
        return [name for name in self._configs if name not in self._scorers]

    def infos(self) -> list[ScorerInfo]:
        """What is loaded."""
        return [scorer.info for scorer in self._scorers.values()]

    def start(self) -> None:
        """Begin to load. Call it inside the event loop."""
        loop = asyncio.get_running_loop()
        # A daemon, so that a stop during a long download or load need not wait for it.
        self.loader = threading.Thread(target=self._load_all, args=(loop,), name="load", daemon=True)
        self.loader.start()

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Raises UnknownScorer, ScorerUnavailable while it loads, and what the scorer raises."""
        name = request.model
        scorer = self._scorers.get(name)
        if scorer is None:
            if name in self._configs:
                raise ScorerUnavailable(f"The scorer {name!r} is still loading.")
            known = ", ".join(sorted(self._configs))
            raise UnknownScorer(f"There is no scorer {name!r} here; there is {known}.")
        began = time.perf_counter()
        scores = await scorer.score(request)
        self._metrics.request_seconds.labels(name).observe(time.perf_counter() - began)
        for score in scores:
            outcome = "error" if score.error is not None else "value" if score.value is not None else "categories"
            self._metrics.scores.labels(name, outcome).inc()
        self._metrics.tokens.labels(name).inc(sum(score.tokens for score in scores))
        return ScoreResponse(name, scorer.info.version, scores)

    async def close(self) -> None:
        """Finish what waits."""
        await asyncio.gather(*(scorer.close() for scorer in self._scorers.values()))

    def _load_all(self, loop: asyncio.AbstractEventLoop) -> None:
        for name, config in self._configs.items():
            began = time.perf_counter()
            try:
                loading = Loading(self._server, self._metrics.observer(name), dict(self._scorers))
                scorer, about = self._load(name, config, loading)
            except Exception as error:  # whatever stops a model from loading ends the server, with one sentence
                reason = " ".join(str(error).split()) or type(error).__name__
                _call(loop, self._failed, f"The scorer {name} cannot be served. {reason}")
                return
            seconds = time.perf_counter() - began
            self._metrics.load_seconds.labels(name).set(seconds)
            logger.info("loaded %s: %s (%.1f s)", name, about, seconds)
            _call(loop, self._add, name, scorer)

    def _add(self, name: str, scorer: ServedScorer) -> None:
        self._scorers[name] = scorer
        self._metrics.queue_depth.labels(name).set_function(lambda: scorer.waiting)
        if not self.loading:
            logger.info("ready")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # the server stopped while this model was loading
        logger.debug("stopped while loading")
