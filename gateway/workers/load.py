"""How busy a worker is: one number, in tokens that are still to be worked off.

    score = (own + strange) * pressure

own       Tokens of this gateway's requests in flight, by estimate. Taken before a request is sent, so that a burst does
          not meet the same idle worker; given back as tokens arrive, but for a tenth of a sequence's estimate until it
          ends: one that is longer than expected is not nothing.
strange   What other gateways make the worker do. Its newest report counts all sequences, so ours at that time come off,
          and those that run and those that wait share what remains as they share the whole:

              others  = max(0, running + waiting - own sequences)
              strange = others * typical * (running / 2 + waiting) / (running + waiting)

          `typical` is what our own sequences there have had to do: a moving mean, TYPICAL_TOKENS before the first, each
          counted by its tokens, since at any moment it is the long ones that one finds running. One that waits has all
          of that ahead, one that runs is on average half way.
pressure  1 up to a KV cache that is CROWDED_KV full, rising to 2 when it is full: vLLM then preempts, and what was
          preempted is read and sampled again.

A report is up to some seconds old. What we send or finish after it changes `own` alone, so nothing is counted twice and
our own work never lingers in it; `report(None)` forgets what others did when a worker has stopped reporting.
"""

from dataclasses import dataclass

TYPICAL_TOKENS = 256.0
CROWDED_KV = 0.9

_RUNNING_SHARE = 0.5
_MEMORY = 0.9
_KEPT_TO_THE_END = 0.1


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What a worker says of itself, everybody's requests together.

    running, waiting: sequences being decoded, and waiting for a place. kv_usage: share of its KV cache in use, 0 to 1.
    kv_tokens: how many tokens that cache holds. None: it does not say.
    """

    running: float
    waiting: float
    kv_usage: float | None = None
    kv_tokens: int | None = None


class WorkerLoad:
    """One worker's load as this gateway knows it.

    sequences, tokens: our own, in flight. engine: its newest report. others: sequences of other gateways, by that.
    queued: what waits there by its last two reports, both: a request that has just arrived waits for a moment too.
    """

    def __init__(self) -> None:
        self.sequences = 0
        self.tokens = 0.0
        self.engine: EngineLoad | None = None
        self.others = 0.0
        self.queued = 0.0
        self._typical = TYPICAL_TOKENS
        self._typical_weight = TYPICAL_TOKENS
        self._strange = 0.0
        self._pressure = 1.0

    def take(self, sequences: int, tokens: float) -> "Lease":
        """Count a request of that many sequences, prompt and samples about that many tokens, before it is sent."""
        self.sequences += sequences
        self.tokens += tokens
        self._typical_weight = _MEMORY * self._typical_weight + tokens
        self._typical += tokens / self._typical_weight * (tokens / sequences - self._typical)
        return Lease(self, sequences, tokens)

    def report(self, engine: EngineLoad | None) -> None:
        """The worker's newest word of its load; None: it gives none."""
        before, self.engine = self.engine, engine
        self.queued = min(before.waiting, engine.waiting) if before and engine else 0.0
        self.others, self._strange, self._pressure = 0.0, 0.0, 1.0
        if engine is None:
            return
        sequences = engine.running + engine.waiting
        self.others = max(0.0, sequences - self.sequences)
        if self.others:
            ahead = (_RUNNING_SHARE * engine.running + engine.waiting) / sequences
            self._strange = self.others * ahead * self._typical
        if engine.kv_usage is not None:
            self._pressure = 1.0 + max(0.0, min(engine.kv_usage, 1.0) - CROWDED_KV) / (1.0 - CROWDED_KV)

    def score(self) -> float:
        """Tokens still to be worked off; 0 for an idle worker."""
        return (self.tokens + self._strange) * self._pressure

    def _give_back(self, sequences: int, tokens: float) -> None:
        self.sequences -= sequences
        # With nothing in flight, nothing is left of what rounding left over.
        self.tokens = max(0.0, self.tokens - tokens) if self.sequences else 0.0


class Lease:
    """One request's part of a worker's load, until it is closed."""

    def __init__(self, load: WorkerLoad, sequences: int, tokens: float) -> None:
        self._load = load
        self._sequences = sequences
        self._tokens = tokens
        self._least_each = _KEPT_TO_THE_END * tokens / sequences

    def progress(self, tokens: int) -> None:
        """That many tokens are done: read or sampled."""
        self._release(0, max(0.0, min(float(tokens), self._tokens - self._least_each * self._sequences)))

    def finished(self) -> None:
        """One of its sequences is done: its share of what is left, never to be sampled, goes with it."""
        if self._sequences:
            self._release(1, self._tokens / self._sequences)

    def close(self) -> None:
        """It is over, however it ended. Any number of calls does it once."""
        self._release(self._sequences, self._tokens)

    def _release(self, sequences: int, tokens: float) -> None:
        self._sequences -= sequences
        self._tokens -= tokens
        self._load._give_back(sequences, tokens)
