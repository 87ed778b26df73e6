"""The sampler of one request: turns a worker's choices into candidates, and adds up what was spent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from gateway.decoding.candidate import Candidate
from gateway.telemetry.waiting import WaitClock
from gateway.workers.client import SampleUsage
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Choice


@dataclass(slots=True)
class PoolSampler:
    """Samples from a pool. Candidate i of all waves has the seed `seed + i` (vLLM's own rule within a request).

    prompt_tokens: of the prompt, once. sampled_tokens: of everything that finished.
    """

    pool: WorkerPool
    body: dict[str, Any]
    seed: int | None
    waiting: WaitClock
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    _sampled: int = field(default=0)

    async def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        """n candidates, each as it finishes. Raises ApiError."""
        first = self._sampled
        self._sampled += n
        body = dict(self.body)
        if self.seed is not None:
            body["seed"] = self.seed + first
        with self.waiting:
            async with aclosing(self.pool.sample(body, n)) as choices:
                async for candidate in self._candidates(choices, first, wave):
                    yield candidate

    async def _candidates(
        self, choices: AsyncGenerator[Choice | SampleUsage, None], first: int, wave: int
    ) -> AsyncGenerator[Candidate, None]:
        counted = 0
        async for choice in choices:
            if isinstance(choice, SampleUsage):
                self.prompt_tokens = choice.prompt_tokens
                # The worker's own count includes tokens that no choice carries.
                self.sampled_tokens += choice.completion_tokens - counted
                continue
            tokens = len(choice.token_ids or ())
            counted += tokens
            self.sampled_tokens += tokens
            index = first + choice.index
            yield Candidate(
                index=index,
                wave=wave,
                seed=None if self.seed is None else self.seed + index,
                message=choice.message,
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
                logprobs=choice.logprobs,
                token_ids=choice.token_ids,
                completion_tokens=tokens,
                finished_s=asyncio.get_running_loop().time(),
            )
