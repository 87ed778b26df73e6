"""Candidates in bulk through the gateway's live workers, behind everybody else: what rejection sampling learns from.

Each request is of the class `flex`, which waits while there are others, says in its metadata that Bestow itself asks
(`gateway.log.own_requests`: nothing is learnt from it as if people had asked), and takes as many candidates as the
profile lets it, with their rewards and verdicts in the receipt. More than that are several requests with following
seeds, so that n candidates are the same however they were cut into requests. What the server cannot do now is asked for
again later (`evaluation.servers`). Each prompt is kept as it comes, so a run that was killed goes on where it stopped.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.shared.together import together
from training.data.rows import Message, PromptOnly, Side
from training.errors import TrainingError
from training.evaluation.asking import Asker, check_served, receipt_of
from training.evaluation.servers import Refused
from training.evaluation.settings import SamplingSettings
from training.jsonl import Lines

PURPOSE = "train sample"
AT_ONCE = 2
_TRIES = 5
_WAIT_S = 2.0
_MOST_MISSING = 0.02

Done = Callable[[], None]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """text: None where the guard keeps it back, or it is no plain text. finish: why it ended. reward: the receipt's.

    flagged: what the guard found in it, and what it let pass with a note.
    """

    seed: int
    text: str | None
    finish: str
    tokens: int
    reward: float | None = None
    flagged: list[str] = []

    @property
    def usable(self) -> bool:
        """Safe, and ended by the policy itself."""
        return bool(self.text) and self.finish == "stop" and not self.flagged


class Sampled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt and its candidates, by their seeds. side: of the prompt's row. why: there are none."""

    prompt: list[Message]
    side: Side
    policy: str
    profile: str
    reward_model: str
    candidates: list[Candidate]
    why: str = ""


class Served(msgspec.Struct, frozen=True):
    """What answers: versions as name@N. most: candidates that one request may ask for."""

    policy: str
    profile: str
    reward_model: str
    most: int


async def find_served(asker: Asker, n: int) -> Served:
    """By requests of one token, with ever fewer candidates until the profile allows them.

    Raises TrainingError where candidates of this profile would be no plain samples, or are not shown.
    """
    most = n
    while True:
        body = _body(asker, [{"role": "user", "content": "Hello."}], 0, most, SamplingSettings(max_tokens=1))
        try:
            receipt = receipt_of(await asker.server.chat(body))
        except Refused as error:
            if error.param == "guidance.n" and most > 1:
                most = most // 2
                continue
            if error.param == "guidance.return_candidates":
                raise TrainingError(
                    f"The profile {asker.side.profile} does not show its candidates: set show_candidates=true with "
                    "`bestow profile set`, or name another profile as MODEL:PROFILE."
                ) from None
            raise TrainingError(f"{asker.side} cannot be sampled from: {error}") from None
        break
    if receipt.get("strategy") != "best_of_n":
        raise TrainingError(
            f"The profile {asker.side.profile} answers by {receipt.get('strategy')}, whose candidates are no plain "
            "samples: name one with the strategy best_of_n and a temperature above 0, as MODEL:PROFILE."
        )
    check_served(asker.side, receipt)
    return Served(asker.side.policy, asker.side.profile, str(receipt.get("reward_model") or ""), most)


async def sample(
    asker: Asker,
    served: Served,
    prompts: Sequence[PromptOnly],
    n: int,
    how: SamplingSettings,
    kept: Lines[Sampled],
    done: Done,
    at_once: int = AT_ONCE,
) -> None:
    """n candidates to each prompt that has none in `kept` yet. at_once: requests under way together.

    Raises TrainingError where too many prompts got none, or another version answers; what there is stays.
    """
    had = {one.side.prompt for one in kept.all}
    todo = {row.side.prompt: row for row in prompts if row.side.prompt not in had}
    for _ in range(len(prompts) - len(todo)):
        done()
    places = asyncio.Semaphore(at_once)
    failed: list[str] = []

    async def one(row: PromptOnly) -> None:
        async with places:
            try:
                kept.add(await _sampled(asker, served, row, n, how))
            except Refused as error:
                failed.append(str(error))
        done()

    await together(one(row) for row in todo.values())
    if len(failed) > _MOST_MISSING * len(prompts):
        raise TrainingError(
            f"{len(failed)} of {len(prompts)} prompts got no candidates, such as: {failed[0]} The same command again "
            "asks for those that are missing."
        )


def seed_of(seed: int, prompt: str) -> int:
    """Of a prompt's first candidate; candidate i has the seed + i. Far apart for different prompts."""
    return int.from_bytes(hashlib.sha256(f"sample\0{seed}\0{prompt}".encode()).digest()[:4]) >> 1


async def _sampled(asker: Asker, served: Served, row: PromptOnly, n: int, how: SamplingSettings) -> Sampled:
    found: list[Candidate] = []
    why = ""
    begun, tries = 0, _TRIES
    first = seed_of(how.seed, row.side.prompt)
    while begun < n and tries:
        size = min(served.most, n - begun)
        try:
            receipt = receipt_of(await asker.server.chat(_body(asker, row.prompt, first + begun, size, how)))
        except Refused as error:
            if error.code != "content_blocked":
                raise
            why = "blocked"
            break
        check_served(asker.side, receipt)
        _check(receipt)
        # Candidates from a further wave are there because none of the first was safe.
        fresh = [one for one in receipt.get("candidates") or [] if one["index"] < size]
        if not fresh and receipt.get("refused"):
            why = "refused"
            break
        found += [_candidate(one, first + begun + one["index"]) for one in fresh]
        if len(fresh) < size:
            # The workers are full, and people go before.
            tries -= 1
            await asker.server.sleep(_WAIT_S)
        begun += len(fresh)
    if not found and not why:
        raise Refused("the workers had no place for it.")
    return Sampled(
        prompt=row.prompt,
        side=row.side,
        policy=served.policy,
        profile=served.profile,
        reward_model=served.reward_model,
        candidates=found,
        why=why,
    )


def _body(asker: Asker, messages: Sequence[Message], seed: int, n: int, how: SamplingSettings) -> dict[str, Any]:
    body = asker.body(messages, seed, how)
    return {**body, "guidance": {**body["guidance"], "n": n, "return_candidates": True}}


def _check(receipt: Mapping[str, Any]) -> None:
    """Raises TrainingError where the candidates are no fair sample."""
    if receipt.get("degraded") == "deadline":
        raise TrainingError(
            "A request ended at its deadline, so that its longest candidates are missing, and what is learnt from the "
            "others would be short: raise budget_ms, or lower max_tokens, of the profile."
        )


def _candidate(one: Mapping[str, Any], seed: int) -> Candidate:
    message = one.get("message") or {}
    content = message.get("content")
    plain = isinstance(content, str) and not message.get("tool_calls") and not message.get("reasoning")
    return Candidate(
        seed=seed,
        text=content if plain else None,
        finish=str(one.get("finish_reason") or ""),
        tokens=int(one.get("completion_tokens") or 0),
        reward=one.get("reward"),
        flagged=[*one.get("flagged", []), *one.get("flags", [])],
    )
