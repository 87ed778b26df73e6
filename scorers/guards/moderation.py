"""A guard at another's service: an endpoint that answers as OpenAI's /v1/moderations does.

    POST {url}/moderations   {"input": text or list of texts, "model"?}
        -> {"results": [{"category_scores": {category: probability, ...}, ...}, ...]}

The endpoint takes text alone. Sent is all text of the candidate by itself, without the conversation before it; where
the conversation is asked about, all text of its messages and tools, joined by blank lines. A longer text than `window`
is sent in pieces that overlap by a quarter, and the largest probability of each category counts; more than 64 pieces
are an error. An empty text flags nothing and is not sent. Whether the endpoint takes lists, and which categories it
has, is found out when the scorer loads, by asking it about harmless texts.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import msgspec

from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.endpoint import Endpoint, endpoint
from scorers.errors import (
    BadScoreRequest,
    ConfigurationError,
    Overloaded,
    ScorerError,
    ScorerFailed,
    ScorerUnavailable,
    Unauthorized,
)
from scorers.guards.texts import all_texts
from scorers.loading import Loading, declared
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.plain_scorer import Places
from scorers.scorer_settings import ModerationConfig
from scorers.tls import tls_problem

MAX_WINDOWS = 64
MAX_INPUTS = 32
"""Texts in one call."""
_CALLS = 8  # at a time
_CONNECT_S = 5.0
_HARMLESS = ["Good morning.", "The sun is shining."]

Probabilities = dict[str, float]


class _Result(msgspec.Struct, frozen=True):
    category_scores: Any


class _Response(msgspec.Struct, frozen=True):
    results: list[_Result]


class _Rejected(ScorerFailed):
    """The endpoint does not take what it was sent."""


class ModerationClient:
    """One endpoint. lists: whether it is sent several texts in one call."""

    def __init__(self, at: Endpoint, model: str | None, timeout_s: float, *, lists: bool = True) -> None:
        self._endpoint = at
        self._url = f"{at.url}/moderations"
        self._model = model
        self._timeout_s = timeout_s
        self.lists = lists

    @property
    def inputs(self) -> int:
        """How many texts go into one call."""
        return MAX_INPUTS if self.lists else 1

    async def ask(self, session: aiohttp.ClientSession, texts: Sequence[str]) -> list[Any]:
        """The scores of each text as they came, unchecked. Raises a ScorerError."""
        body = {"input": list(texts) if self.lists else texts[0]} | ({"model": self._model} if self._model else {})
        raw = await self._call(session, msgspec.json.encode(body))
        try:
            answer = _read_response(raw)
        except (ValueError, RecursionError) as error:
            raise _Rejected(f"The moderation endpoint {self._url} does not answer as OpenAI's: {error}.") from error
        if len(answer.results) != len(texts):
            raise _Rejected(
                f"The moderation endpoint {self._url} gave {len(answer.results)} results for {len(texts)} texts."
            )
        return [result.category_scores for result in answer.results]

    async def _call(self, session: aiohttp.ClientSession, body: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._send(session, body)
                except Unauthorized:
                    if not self._endpoint.reread_key():
                        raise
                    return await self._send(session, body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # It closed an idle kept-alive connection as we reused it. Asking again changes nothing there.
                    return await self._send(session, body)
        except TimeoutError as error:  # aiohttp's for a new connection is one too
            raise ScorerUnavailable(
                f"The moderation endpoint {self._url} did not answer within {self._timeout_s:g} s."
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = tls_problem(error)
            reason = f"TLS fails: {reason}" if reason else str(error) or type(error).__name__
            raise ScorerUnavailable(f"The moderation endpoint {self._url} cannot be reached: {reason}.") from error

    async def _send(self, session: aiohttp.ClientSession, body: bytes) -> bytes:
        async with session.post(
            self._url,
            data=body,
            headers=self._endpoint.headers | {"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            allow_redirects=False,
            ssl=self._endpoint.verification,
        ) as response:
            raw = await response.read()
            if response.status != 200:
                raise self._failure(response.status)
            return raw

    def _failure(self, status: int) -> ScorerError:
        """Nothing of the answer's own words is in it: they may quote the text."""
        if status in (401, 403):
            held = "the key it was sent" if self._endpoint.key else "calls without a key"
            return Unauthorized(
                f"The moderation endpoint {self._url} refuses {held}: set its api_key_file or api_key_env."
            )
        if status == 429:
            return Overloaded(f"The moderation endpoint {self._url} has had too many requests.")
        if status >= 500:
            return ScorerUnavailable(f"The moderation endpoint {self._url} answered with status {status}.")
        return _Rejected(f"The moderation endpoint {self._url} refuses the request with status {status}.")


class ModerationScorer:
    """Implements `scorers.contract.Scorer`. limit: inputs that may wait, and so candidates of one request."""

    def __init__(self, info: ScorerInfo, client: ModerationClient, *, window: int, limit: int) -> None:
        self._info = info
        self._client = client
        self._window = window
        self._places = Places(info, limit)
        self._turns = asyncio.Semaphore(_CALLS)
        self._session: aiohttp.ClientSession | None = None

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """Inputs not judged yet."""
        return self._places.taken

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. Raises BadScoreRequest, Overloaded, and what every call failed with."""
        count = self._places.take(request)
        try:
            inputs = [self._pieces(request, candidate) for candidate in request.candidates or (None,)]
            sent = [piece for pieces in inputs if not isinstance(pieces, Score) for piece in pieces]
            size = self._client.inputs
            calls = [self._ask(sent[start : start + size]) for start in range(0, len(sent), size)]
            answers = [answer for call in await asyncio.gather(*calls) for answer in call]
        finally:
            self._places.give_back(count)
        failures = [answer for answer in answers if isinstance(answer, ScorerError)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        waiting = iter(answers)
        return [
            pieces if isinstance(pieces, Score) else self._assembled([next(waiting) for _ in pieces])
            for pieces in inputs
        ]

    def _pieces(self, request: ScoreRequest, candidate: Message | None) -> list[str] | Score:
        """The texts to send for one input, or why there are none. Raises BadScoreRequest."""
        try:
            pieces = windows("\n\n".join(all_texts(request, candidate)), self._window)
        except BadScoreRequest as error:
            if candidate is None:
                raise
            return Score(error=str(error), unreadable=True)
        if len(pieces) > MAX_WINDOWS:
            return Score(
                error=f"The text takes {len(pieces)} pieces of {self._window} characters; {MAX_WINDOWS} are judged at "
                "most.",
                unreadable=True,
            )
        return pieces

    async def _ask(self, texts: list[str]) -> list[Any]:
        """What the endpoint says of each text, or the error that all of them met."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._turns:
                return await self._client.ask(self._session, texts)
        except ScorerError as error:
            return [error] * len(texts)

    def _assembled(self, answers: Sequence[Any]) -> Score:
        largest = dict.fromkeys(self._info.categories, 0.0)
        try:
            for answer in answers:
                if isinstance(answer, ScorerError):
                    return Score(error=str(answer))
                read = probabilities(answer, self._info.categories)
                largest |= {name: max(one, largest.get(name, 0.0)) for name, one in read.items()}
        except CannotScore as error:
            return Score(error=str(error))
        return Score(categories=largest)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def windows(text: str, size: int) -> list[str]:
    """Pieces of at most `size` characters that cover a text, neighbours sharing at least a quarter; none for blanks."""
    if not text.strip():
        return []
    step = size - math.ceil(size / 4)
    starts = [*range(0, max(0, len(text) - size), step), max(0, len(text) - size)]
    return [text[start : start + size] for start in starts]


def probabilities(scores: Any, due: Sequence[str] = ()) -> Probabilities:
    """One result's category_scores. Raises CannotScore where they are no probabilities, or one that is due lacks."""
    if not isinstance(scores, dict) or not scores:
        raise CannotScore("The moderation endpoint answered without category_scores.")
    for name, one in scores.items():
        if isinstance(one, bool) or not isinstance(one, int | float) or not 0.0 <= one <= 1.0:  # NaN is not either
            raise CannotScore(f"The moderation endpoint's answer for {name!r} is not a probability in [0, 1].")
    if missing := [name for name in due if name not in scores]:
        raise CannotScore(f"The moderation endpoint did not answer for {', '.join(missing)}.")
    return {str(name): float(one) for name, one in scores.items()}


def _read_response(raw: bytes) -> _Response:
    """Raises ValueError (msgspec's errors are ones) where the answer is of another shape."""
    try:
        return msgspec.json.decode(raw, type=_Response)
    except msgspec.DecodeError:
        # NaN is no JSON, but Python servers write it; only its own text shall fail.
        return msgspec.convert(json.loads(raw), _Response)


async def _first_answer(client: ModerationClient) -> Probabilities:
    """What it says of harmless texts; from then on the client sends lists only where they are taken."""
    async with aiohttp.ClientSession() as session:
        try:
            [first, _] = await client.ask(session, _HARMLESS)
        except _Rejected:
            client.lists = False
            [first] = await client.ask(session, _HARMLESS[:1])
    return probabilities(first)


def load(name: str, config: ModerationConfig, loading: Loading) -> tuple[ModerationScorer, str]:
    """The scorer, and whom it asks about what in a few words. Raises LoadError."""
    service = config.endpoint
    try:
        at = endpoint(f"scorers.{name}.endpoint", service.url, service)
        client = ModerationClient(at, service.model, service.timeout_s)
        with ThreadPoolExecutor(1) as thread:  # this one may run an event loop already
            categories = list(thread.submit(asyncio.run, _first_answer(client)).result())
    except (ConfigurationError, ScorerError, CannotScore) as error:
        raise LoadError(str(error)) from error
    info = declared(name, config, prompt_only=True, categories=categories)
    scorer = ModerationScorer(info, client, window=config.window, limit=loading.server.max_queue)
    return scorer, f"{at.url} {service.model or ''}, categories: {', '.join(categories)}".replace(" ,", ",")
