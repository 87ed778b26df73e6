"""Opens a backend at a vLLM server: waits for it while it starts, and sees that it serves the model and the head.

What would only look like scores is refused here, with a sentence that says how to start the server: another task or
model, a shorter context, probabilities where logits were asked for (a server too old for `use_activation` squashes all
rewards over 17 to 1.0), log-probabilities that are none. Two things cannot be seen from outside and stay the
operator's: other weights under the same name, and a pooler that was told to shift logits (`logit_mean`, `logit_sigma`).
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from scorers.backend import Backend, Head, NextToken, Pooled, Row, Steps
from scorers.backends.vllm import Limits, VllmBackend
from scorers.backends.vllm_client import KeyRefused, Refused, TlsFails, VllmClient
from scorers.backends.vllm_wire import (
    MAX_LABEL_IDS,
    Broken,
    Classify,
    NextTokenOf,
    StepsOf,
    Wire,
    next_token_body,
    next_token_logprobs,
    wire_of,
)
from scorers.endpoint import endpoint
from scorers.errors import ConfigurationError, Overloaded, ScorerError, ScorerUnavailable
from scorers.loading import Loading
from scorers.model_files import ModelFiles
from scorers.model_path import LoadError
from scorers.scorer_settings import VllmConfig
from scorers.tokens import Hidden

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_TOP = 5
_PROBES = (
    "Hello",
    "What is the capital of France?",
    "The capital of France is Paris.",
    "How do I bake bread? Mix flour, water, salt and yeast, and wait an hour.",
    "I cannot help with that.",
    "1 2 3 4 5 6 7 8 9 0",
)
_HOW = {
    Pooled: "--runner pooling --convert classify",
    Steps: """--runner pooling --pooler-config '{"task": "token_classify"}'""",
    NextToken: "--runner generate",
}
# vLLM 0.32 has no such route (404, 501), or one for another task of the model (400 of /pooling).
_OTHER_TASK: dict[type[Head], tuple[int, ...]] = {Pooled: (404, 501), Steps: (400, 404, 501), NextToken: (404, 501)}


class _Card(msgspec.Struct, frozen=True):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[_Card]


def open_vllm(name: str, files: ModelFiles, head: Head, config: VllmConfig, loading: Loading) -> tuple[Backend, str]:
    """The backend of the scorer `name`, and where it runs in a few words. Blocks. Raises LoadError."""
    if isinstance(head, NextToken) and len(set(head.ids)) > MAX_LABEL_IDS:
        raise LoadError(f"{len(set(head.ids))} label tokens are too many: vLLM reads at most {MAX_LABEL_IDS}.")
    try:
        at = endpoint(f"scorers.{name}.vllm", config.url, config)
    except ConfigurationError as error:
        raise LoadError(str(error)) from error
    client = VllmClient(name, at, config.timeout_s)

    async def look() -> tuple[Wire, _Card]:
        card = await _until_ready(name, client, config)
        wire = wire_of(head, card.id, len(files.labels), _ignored_at_end(files))
        try:
            await _check(wire, head, files, client)
        finally:
            await client.close()
        return wire, card

    with ThreadPoolExecutor(1) as thread:  # this one may run an event loop already
        wire, card = thread.submit(asyncio.run, look()).result()
    _check_context(files, card, client.url)
    server = loading.server
    limits = Limits(server.max_batch_tokens, server.max_queue, card.max_model_len)
    return VllmBackend(name, client, wire, limits, loading.observe), f"on vLLM at {client.url}"


async def _until_ready(name: str, client: VllmClient, config: VllmConfig) -> _Card:
    """The model that the scorer is to use, once the server answers. Raises LoadError."""
    told = False
    last: ScorerError | None = None
    try:
        async with asyncio.timeout(config.start_timeout_s):
            while True:
                try:
                    return _chosen(await client.get("/v1/models"), config, client.url)
                except (KeyRefused, TlsFails) as error:
                    raise LoadError(str(error)) from error
                except Refused as error:
                    raise LoadError(
                        f"At {client.url} is no vLLM server: it answers GET /v1/models with status {error.http_status}."
                    ) from error
                except (ScorerUnavailable, Overloaded) as error:
                    last = error
                if not told:
                    logger.info(
                        "waiting for vLLM at %s, for %s, up to %g s: %s", client.url, name, config.start_timeout_s, last
                    )
                told = True
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise LoadError(
            f"The vLLM server at {client.url} was not ready within {config.start_timeout_s:g} s: "
            f"{last or 'it did not answer.'}"
        ) from None


def _chosen(answer: bytes, config: VllmConfig, url: str) -> _Card:
    """The model that the settings name, else the only one. Raises LoadError."""
    try:
        cards = msgspec.json.decode(answer, type=_Cards).data
    except (ValueError, RecursionError) as error:
        raise LoadError(f"At {url} is no vLLM server: its /v1/models cannot be read ({error}).") from error
    by_id = {card.id: card for card in cards}
    if config.model is not None:
        if config.model not in by_id:
            raise LoadError(f"The vLLM server at {url} serves {_listed(cards)}, and not {config.model}.")
        card = by_id[config.model]
        # An adapter has the context of its base.
        base = by_id.get(card.parent or "", card)
        return msgspec.structs.replace(card, max_model_len=card.max_model_len or base.max_model_len)
    bases = [card for card in cards if card.parent is None]
    # One model may be listed under several names.
    if len({card.root or card.id for card in bases}) != 1:
        raise LoadError(f"The vLLM server at {url} serves {_listed(cards)}: name one with the key `model` of `vllm`.")
    return bases[0]


def _listed(cards: Sequence[_Card]) -> str:
    names = [card.id[:64] for card in cards[:8]]
    return ", ".join(names + ["..."] * (len(cards) > 8)) or "nothing"


def _check_context(files: ModelFiles, card: _Card, url: str) -> None:
    if card.max_model_len is not None and card.max_model_len < files.max_tokens:
        raise LoadError(
            f"The vLLM server at {url} reads at most {card.max_model_len} tokens and the scorer up to "
            f"{files.max_tokens}: set its max_tokens to {card.max_model_len}, or start vLLM with a larger "
            "--max-model-len."
        )


async def _check(wire: Wire, head: Head, files: ModelFiles, client: VllmClient) -> None:
    """Ask for a few inputs. Raises LoadError."""
    inputs = _probes(files, head)
    try:
        answer = await client.post(wire.path, wire.body(inputs))
        rows = wire.rows(answer, inputs)
        if isinstance(wire, NextTokenOf):
            top = await client.post(wire.path, next_token_body(wire.model, inputs, _TOP))
            _check_logprobs(next_token_logprobs(top, inputs))
        elif isinstance(wire, Classify | StepsOf):
            squashed = replace(wire, activation=True)
            others = squashed.rows(await client.post(wire.path, squashed.body(inputs)), inputs)
            _check_raw(rows, others, files.config)
    except Refused as error:
        raise LoadError(_other_task(error, head, client.url)) from error
    except Broken as error:
        raise LoadError(
            f"The vLLM server at {client.url} serves another model, or is too old for the scorer: it answered {error}."
        ) from error
    except ScorerError as error:
        raise LoadError(str(error)) from error


def _probes(files: ModelFiles, head: Head) -> list[list[int]]:
    """A few texts as token ids, each with a step where steps are scored."""
    step = [head.token_id] if isinstance(head, Steps) else []
    return [files.tokens.encode(text, Hidden(text)) + step for text in _PROBES]


def _other_task(error: Refused, head: Head, url: str) -> str:
    if error.http_status in _OTHER_TASK[type(head)]:
        return (
            f"The vLLM server at {url} does not serve this model as the scorer needs it (status {error.http_status}): "
            f"start it with {_HOW[type(head)]}."
        )
    return f"The vLLM server at {url} fails at a first input (status {error.http_status}); our log has its words."


def _check_raw(rows: Sequence[Row], squashed: Sequence[Row], config: Any) -> None:
    """Raises Broken where what should be logits are what the model's activation makes of them."""
    numbers = [x for row in rows for x in row]
    same = all(
        math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-6)
        for row, other in zip(rows, squashed, strict=True)
        for x, y in zip(row, other, strict=True)
    )
    # A model for regression has no activation: its numbers are the same with and without.
    if same and config.problem_type != "regression" and all(0.0 <= x <= 1.0 for x in numbers):
        raise Broken("with probabilities where raw logits were asked for (it takes no heed of use_activation: false)")


def _check_logprobs(told: Sequence[Any]) -> None:
    """Raises Broken where the likeliest tokens have more than all of the probability: then these are no such logs."""
    if any(sum(map(math.exp, by_id.values())) > 1.001 for by_id in told):
        raise Broken("log-probabilities that are none (start it with --logprobs-mode raw_logprobs)")


def _ignored_at_end(files: ModelFiles) -> int | None:
    """The id before which Hugging Face's classifiers on top of decoders read their answer, where a model has one."""
    kind = type(files.config)
    is_decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    pad: int | None = files.config.get_text_config().pad_token_id if is_decoder else None
    return pad
