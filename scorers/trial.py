"""A first exchange, scored while a scorer loads: what cannot work fails here, and the first request is fast."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from scorers.backend import Backend
from scorers.errors import ScorerError
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, Encoder, Reader

_USER = {"role": "user", "content": "Hello"}
_ANSWER = {"role": "assistant", "content": "Hi"}


def try_scorer(name: str, model: str, encoder: Encoder, reader: Reader, backend: Backend) -> None:
    """Score one short exchange, in an event loop of its own. Raises LoadError."""
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may run an event loop already
            thread.submit(asyncio.run, _score(encoder, reader, backend)).result()
    except (ScorerError, CannotScore, RuntimeError, ValueError, IndexError) as error:
        raise LoadError(f"The scorer {name} ({model}) cannot score a short exchange: {error}") from error


async def _score(encoder: Encoder, reader: Reader, backend: Backend) -> None:
    ids = encoder.encode([_USER], _ANSWER, [])
    inputs: Sequence[list[int]] = reader.windows(ids)
    rows = []
    for row in await backend.run(inputs):
        if isinstance(row, ScorerError):
            raise row
        rows.append(row)
    reader.score(rows, len(ids))
