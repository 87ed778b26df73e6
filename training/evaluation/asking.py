"""Asking a side for its answers, conversation by conversation; each is kept as it comes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.log.own_requests import mark
from gateway.shared.together import together
from training.errors import TrainingError
from training.evaluation.answers import Answer, Which, conversation, seed_of
from training.evaluation.items import Item
from training.evaluation.servers import Refused, Server
from training.evaluation.settings import SamplingSettings
from training.evaluation.sides import Named, Side

# The gateway was short of workers and chose among fewer than the profile says: that is not what is to be measured.
_SHORT = "load"
_SHORT_TRIES = 5
_SHORT_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Asker:
    """One side at its server. bestow: it is a gateway of ours. profile: to ask for; None for the model's own.

    policy: weights to ask for by the name that workers have them under, which takes an admin's key; None: what serves.
    purpose: the command that asks.
    """

    server: Server
    side: Side
    profile: str | None
    bestow: bool
    policy: str | None = None
    purpose: str = "evaluate"

    def body(self, messages: Sequence[dict[str, str]], seed: int, settings: SamplingSettings) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.side.model, "messages": list(messages), "seed": seed}
        if settings.max_tokens is not None:
            body["max_tokens"] = settings.max_tokens
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if self.bestow:
            # Seeded requests never explore; nobody is here to compare two answers.
            guidance: dict[str, Any] = {"comparison": False}
            if self.profile:
                guidance["profile"] = self.profile
            if self.policy:
                guidance["policy"] = self.policy
            if self.side.n:
                guidance["n"] = self.side.n
            body |= {"guidance": guidance, "metadata": mark(self.purpose), "service_tier": "flex"}
        return body


@dataclass(frozen=True, slots=True)
class Begun:
    """A conversation, and that side's answers to its first turns, where there are any already."""

    item: Item
    sample: int
    answers: tuple[Answer, ...] = ()


async def find_side(named: Named, server: Server, *, policy: str | None = None, purpose: str = "evaluate") -> Asker:
    """Who will answer, by one short request: its receipt names the versions. policy: in place of the named one's.

    policy, purpose: as an `Asker` has them. Raises TrainingError.
    """
    policy = policy or named.policy
    models, bestow = await server.models()
    model, profile = named.split(models)
    if not bestow:
        if profile or named.n or policy:
            raise TrainingError(
                f"{server.url} is no Bestow gateway: a profile, n and a policy are for one. Name the model alone."
            )
        return Asker(server, Side(model=model, url=named.url or ""), None, False)
    asker = Asker(server, Side(model=model, n=named.n), profile, True, policy, purpose)
    body = asker.body([{"role": "user", "content": "Hello."}], 0, SamplingSettings(max_tokens=1))
    try:
        receipt = (await server.chat(body))["guidance"]
    except Refused as error:
        raise TrainingError(f"{named.name} does not answer: {error}") from None
    side = Side(
        model=model,
        profile=str(receipt["profile"]),
        policy=str(receipt["policy"]),
        n=named.n,
        url=named.url or "",
    )
    return replace(asker, side=side)


async def ask(
    asker: Asker,
    which: Which,
    work: Sequence[Begun],
    settings: SamplingSettings,
    places: asyncio.Semaphore,
    keep: Callable[[Answer], None],
    done: Callable[[], None],
) -> None:
    """Conversations to their ends. keep: called with each answer. done: with each turn.

    A prompt that fails is kept as failed, and so are its further turns. Raises TrainingError where versions changed.
    """

    async def one(begun: Begun) -> None:
        item, sample = begun.item, begun.sample
        async with places:
            texts = [answer.text for answer in begun.answers]
            ended = next((answer for answer in begun.answers if not answer.shown), None)
            for turn in range(len(texts), len(item.turns)):
                if ended is None:
                    seed = seed_of(settings.seed, which, item.id, sample, turn)
                    answer = await _answer(asker, which, item, sample, turn, seed, texts, settings)
                else:
                    # Nobody goes on talking where there was no answer.
                    answer = Answer(
                        side=which, item=item.id, sample=sample, turn=turn, outcome=ended.outcome, error=ended.error
                    )
                if not answer.shown:
                    ended = answer
                texts.append(answer.text)
                keep(answer)
                done()

    await together(one(begun) for begun in work)


async def _answer(
    asker: Asker,
    which: Which,
    item: Item,
    sample: int,
    turn: int,
    seed: int,
    before: list[str],
    settings: SamplingSettings,
) -> Answer:
    def made(**more: Any) -> Answer:
        return Answer(side=which, item=item.id, sample=sample, turn=turn, **more)

    body = asker.body(conversation(item, turn, before), seed, settings)
    try:
        for tries_left in reversed(range(_SHORT_TRIES)):
            reply = await asker.server.chat(body)
            if receipt_of(reply).get("degraded") != _SHORT or not tries_left:
                break
            await asker.server.sleep(_SHORT_WAIT_S)
    except Refused as error:
        if error.code == "content_blocked":
            return made(outcome="blocked", error=str(error))
        return made(outcome="failed", error=str(error))
    receipt = receipt_of(reply)
    check_served(asker.side, receipt)
    try:
        choice = reply["choices"][0]
        text = choice["message"].get("content") or choice["message"].get("refusal") or ""
        refused = bool(receipt.get("refused")) or choice.get("finish_reason") == "content_filter"
        return made(
            outcome="refused" if refused else "answered",
            text=str(text),
            tokens=int((reply.get("usage") or {}).get("completion_tokens") or 0),
            sampled=int(receipt.get("sampled") or 0),
            safe=int(receipt.get("safe") or 0),
            reward=receipt.get("reward"),
            reward_model=str(receipt.get("reward_model") or ""),
            policy=str(receipt.get("policy") or ""),
            profile=str(receipt.get("profile") or ""),
            degraded=str(receipt.get("degraded") or ""),
            flags=[str(one) for one in receipt.get("flags") or []],
            interaction=str(reply.get("id") or ""),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return made(outcome="failed", error="The server's answer is no chat completion.")


def receipt_of(reply: dict[str, Any]) -> dict[str, Any]:
    """What a gateway of ours says of its answer; empty of another server."""
    receipt = reply.get("guidance")
    return receipt if isinstance(receipt, dict) else {}


def check_served(side: Side, receipt: dict[str, Any]) -> None:
    """Raises TrainingError where another version answers than the one that was found at the beginning."""
    if not receipt:
        return
    served = str(receipt["policy"]), str(receipt["profile"])
    if served != (side.policy, side.profile):
        raise TrainingError(
            f"{side.policy} through {side.profile} was asked, and now {served[0]} through {served[1]} answers: run it "
            "again, which begins with that."
        )
