"""A round of the closed loop: simulated people ask a running stack and give thumbs, as they are or shuffled.

Shuffled, the same thumbs fall on other answers of the round: as many people speak, as many are pleased, and nothing can
be learnt from it. That is the control of `closed_loop`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from training.demo.conversation import Prompt
from training.errors import TrainingError
from training.experiments.stack import MODEL, DemoStack
from training.simulation.people import Person, read
from training.simulation.visits import first_question

AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Thumb:
    """A person's verdict on an answer that was delivered."""

    interaction: str
    person: Person
    up: bool


@dataclass(frozen=True, slots=True)
class Round:
    """asked: questions that were answered. up: share of thumbs up, as people felt them."""

    asked: int
    thumbs: int
    up: float


async def vote(
    stack: DemoStack, crowd: Sequence[Person], thumbs: int, seed: int, *, shuffled: bool, done: Callable[[], None]
) -> Round:
    """People ask until `thumbs` of them have something to say, and say it. Raises TrainingError."""
    rng = random.Random(f"round-{seed}")
    headers = {"authorization": f"Bearer {stack.api_key}"}
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(stack.url, headers=headers, timeout=timeout) as session:
        said: list[Thumb] = []
        asked = 0
        weights = [person.activity for person in crowd]
        while len(said) < thumbs:
            some = [(rng.choices(crowd, weights)[0], first_question(rng), rng.random()) for _ in range(AT_ONCE)]
            found = await asyncio.gather(*(_ask(session, *one) for one in some))
            asked += len(found)
            for thumb in found:
                if thumb is not None and len(said) < thumbs:
                    said.append(thumb)
                    done()
        felt = [thumb.up for thumb in said]
        given = random.Random(f"shuffled-{seed}").sample(felt, len(felt)) if shuffled else felt
        places = asyncio.Semaphore(AT_ONCE)

        async def send(thumb: Thumb, up: bool) -> None:
            body = {"id": thumb.interaction, "kind": "thumbs", "value": up, "user": thumb.person.name}
            async with places, session.post("/v1/feedback", json=body) as reply:
                if reply.status != 202:
                    raise TrainingError(f"The gateway refused a thumb: {await reply.text()}")

        async with asyncio.TaskGroup() as group:
            for thumb, up in zip(said, given, strict=True):
                group.create_task(send(thumb, up))
    return Round(asked, len(said), sum(felt) / len(felt))


async def _ask(session: aiohttp.ClientSession, person: Person, prompt: Prompt, chance: float) -> Thumb | None:
    """None where the person has nothing to say."""
    body = {
        "model": MODEL,
        "messages": prompt.as_messages(),
        "safety_identifier": person.name,
        "guidance": {"comparison": False},
    }
    async with session.post("/v1/chat/completions", json=body) as reply:
        answer = await reply.json()
        if reply.status != 200:
            raise TrainingError(f"The gateway refused a question: {answer['error']['message']}")
    rng = random.Random(f"{answer['id']}-{chance}")
    what = read(prompt.as_messages(), answer["choices"][0]["message"]["content"] or "")
    return Thumb(answer["id"], person, person.thumbs_up(what, rng)) if person.speaks(what, rng) else None
