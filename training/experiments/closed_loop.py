"""The closed loop: does a policy get better from its users' thumbs alone, turn by turn, through the real machine?

In each seed simulated people ask a demo stack (Redis, vLLM, scorers, gateway) and give thumbs; `bestow train cycle`
makes a turn of them (snapshot, reward model, gates, policy by KTO, release), and what passes serves the next round. The
control goes through the same turns with the same thumbs on other answers of the round. Each version's answers are
held against the first policy's by the gold judge, which nothing in the loop has seen: one sample (n = 1), and the
profile's choice.

    python -m training.experiments.closed_loop --write          about 40 minutes a seed
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import aiohttp
import yaml

from gateway.workers.admin_client import AdminClient
from scorers.endpoint import Endpoint
from training.cycle.child import run_bestow
from training.demo.conversation import Prompt
from training.demo.gold import judge
from training.demo.prompts import held_out
from training.demo.statistics import Figure, mean
from training.errors import TrainingError
from training.experiments.report import (
    COLOURS,
    Options,
    band,
    drawing,
    over_seeds,
    progress,
    run,
    table,
    told,
    write_drawing,
    write_results,
    write_section,
)
from training.experiments.stack import MODEL, POLICY, DemoStack, demo_stack
from training.experiments.voting_round import Round, vote
from training.registry.registry import Registry
from training.simulation.people import people

NAME = "closed-loop"
TURNS, THUMBS, PEOPLE, PROMPTS, SAMPLES, N = 3, 1500, 400, 200, 2, 4
Arm = Literal["thumbs", "shuffled"]
ARMS: tuple[Arm, ...] = ("thumbs", "shuffled")
_AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Version:
    """What a turn came to. single, chosen: gold win rate over the first policy with one sample and through the profile.

    ending, why: of the turn. nats: KL to the first policy, per answer.
    """

    ref: str
    ending: str
    why: str
    up: float
    single: Figure | None
    chosen: Figure | None
    seconds: float


def settings_file(stack: DemoStack) -> Path:
    """Of the turns: KTO on all thumbs so far, released at once where the gates allow it."""
    path = stack.data_dir / "cycle.yaml"
    wanted = {
        "model": MODEL,
        "policy": {"method": "kto"},
        "reward": {"seeds": 1, "serve": False, "settings": {"epochs": 3, "batch": 8}},
        "release": "create",
    }
    path.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    return path


async def loop(seed: int, arm: Arm, options: Options) -> list[Version]:
    """All turns of one arm."""
    turns, thumbs, count = (2, 300, 40) if options.quick else (TURNS, THUMBS, PROMPTS)
    crowd = people(PEOPLE, seed=seed, feedback=1.0)
    prompts = held_out(count, seed=9000 + seed)
    found: list[Version] = []
    over = {
        "profiles": {"default": {"n": N}},
        "gateway": {"max_wait_s": 120, "request_timeout_s": 300},
        "policies": {POLICY: {"engine": {"lora": True}}},
    }
    async with demo_stack(over) as stack:
        admin = AdminClient(Endpoint(stack.url), stack.admin_key)
        await asyncio.to_thread(admin.call, "PUT", "/admin/v1/tenants/default", {"log": {"training": "tenant"}})
        first = {way: await answers(stack, prompts, seed, None, way) for way in (1, N)}
        for turn in range(turns):
            began = time.monotonic()
            with progress(f"seed {seed}, {arm}, turn {turn + 1}: thumbs", thumbs) as done:
                round_ = await vote(stack, crowd, thumbs, 100 * seed + turn, shuffled=arm == "shuffled", done=done)
            ended = await asyncio.to_thread(take_turn, stack)
            found.append(await measured(stack, admin, prompts, seed, first, ended, round_, began))
    return found


def take_turn(stack: DemoStack) -> dict[str, Any]:
    """`bestow train cycle`, and what passed the gates is given to everybody. The turn, as it says it."""
    os.environ["BESTOW_API_KEY"] = stack.admin_key
    at = ["--config", str(stack.config_file)]
    log = stack.data_dir / "cycle.log"
    answer = run_bestow(["train", "cycle", "--settings", str(settings_file(stack)), "--json", *at], log)
    if answer.said is None or answer.said["ending"] == "failed":
        raise TrainingError(f"A turn failed: {answer.said['why'] if answer.said else answer.words}")
    if answer.said["ending"] == "created":
        number = str(said_of(answer.said, "create")["number"])
        for command in (["release", "start", number], ["release", "promote", "--force"]):
            moved = run_bestow([*command, "--reason", "the experiment's turn", *at], log)
            if moved.code:
                raise TrainingError(f"bestow {' '.join(command)} failed: {moved.words}")
    return answer.said


def said_of(turn: dict[str, Any], stage: str) -> dict[str, Any]:
    return next((one.get("said", {}) for one in turn["stages"] if one["name"] == stage), {})


async def measured(
    stack: DemoStack,
    admin: AdminClient,
    prompts: Sequence[Prompt],
    seed: int,
    first: dict[int, list[list[str]]],
    turn: dict[str, Any],
    round_: Round,
    began: float,
) -> Version:
    """The turn's policy against the first one, whether or not it passed the gates."""
    ref = str(said_of(turn, "policy").get("ref", ""))
    single = chosen = None
    if ref:
        registry = Registry(str(stack.data_dir / "training" / "registry"))
        version = registry.open(ref)
        body = {"policy": POLICY, "name": version.served_as, "path": str(registry.local(ref))}
        await asyncio.to_thread(admin.call, "POST", "/admin/v1/adapters", body)
        new = {way: await answers(stack, prompts, seed, version.served_as, way) for way in (1, N)}
        single, chosen = (wins(prompts, new[way], first[way], seed) for way in (1, N))
    return Version(
        ref, str(turn["ending"]), str(turn.get("why", "")), round_.up, single, chosen, time.monotonic() - began
    )


async def answers(
    stack: DemoStack, prompts: Sequence[Prompt], seed: int, served_as: str | None, n: int
) -> list[list[str]]:
    """SAMPLES answers to each prompt, of one version."""
    places = asyncio.Semaphore(_AT_ONCE)
    headers = {"authorization": f"Bearer {stack.admin_key}"}

    async with aiohttp.ClientSession(stack.url, headers=headers, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def one(index: int, sample: int) -> str:
            guidance: dict[str, Any] = {"n": n, "comparison": False}
            if served_as:
                guidance["policy"] = served_as
            body = {
                "model": MODEL,
                "messages": prompts[index].as_messages(),
                "seed": 1_000_000 * seed + 1000 * index + 100 * sample,
                "guidance": guidance,
                "metadata": {"purpose": "evaluate"},
            }
            async with places, session.post("/v1/chat/completions", json=body) as reply:
                answer = json.loads(await reply.read())
                if reply.status != 200:
                    raise TrainingError(f"The gateway refused to answer: {answer['error']['message']}")
            return str(answer["choices"][0]["message"]["content"] or "")

        flat = await asyncio.gather(*(one(index, sample) for index in range(len(prompts)) for sample in range(SAMPLES)))
    return [list(flat[start : start + SAMPLES]) for start in range(0, len(flat), SAMPLES)]


def wins(prompts: Sequence[Prompt], new: list[list[str]], old: list[list[str]], seed: int) -> Figure:
    """Share of comparisons that the new version wins by the gold judge, ties half; its interval is by prompt."""
    by_prompt = []
    for prompt, its, others in zip(prompts, new, old, strict=True):
        messages = prompt.as_messages()
        a, b = ([judge(messages, text).total for text in texts] for texts in (its, others))
        by_prompt.append(fmean(0.5 + 0.5 * ((x > y) - (x < y)) for x in a for y in b))
    return mean(by_prompt, "prompts", seed)


def experiment(options: Options) -> None:
    """Raises TrainingError, StartError."""
    found: dict[Arm, list[list[Version]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in random.Random(seed).sample(ARMS, len(ARMS)):
            found[arm].append(asyncio.run(loop(seed, arm, options)))
            print(markdown(found) if min(map(len, found.values())) > 1 else found[arm][-1], flush=True)
    text = markdown(found)
    print(text)
    if options.write:
        draw(found)
        write_results(NAME, {"thumbs_a_turn": THUMBS, "people": PEOPLE, "n": N, "arms": as_json(found)})
        write_section(NAME, "Closed loop: a policy that learns from thumbs alone", text)


def markdown(found: dict[Arm, list[list[Version]]]) -> str:
    rows = []
    for arm, seeds in found.items():
        for turn in range(min(map(len, seeds))):
            its = [versions[turn] for versions in seeds]
            row = [arm, str(turn + 1)]
            for values in ([one.single for one in its], [one.chosen for one in its], [one.up for one in its]):
                known = [one.value if isinstance(one, Figure) else one for one in values if one is not None]
                row.append(told(over_seeds(known)) if len(known) > 1 else "-")
            passed = sum(one.ending in ("created", "released") for one in its)
            rows.append([*row, f"{passed} of {len(its)}", f"{fmean(one.seconds for one in its) / 60:.0f} min"])
    heads = ["thumbs", "turn", "gold win rate, n = 1", f"through the profile, n = {N}", "thumbs up", "passed", "took"]
    return table(heads, rows)


def as_json(found: dict[Arm, list[list[Version]]]) -> dict[str, Any]:
    return {
        arm: [
            [
                {
                    "ref": one.ref,
                    "ending": one.ending,
                    "why": one.why,
                    "up": one.up,
                    "single": one.single,
                    "chosen": one.chosen,
                    "seconds": one.seconds,
                }
                for one in versions
            ]
            for versions in seeds
        ]
        for arm, seeds in found.items()
    }


def draw(found: dict[Arm, list[list[Version]]]) -> None:
    """Win rates by turn: one sample on the left, through the profile on the right."""
    drawn, axes = drawing(2)
    for axis, way, title in ((axes[0], "single", "one sample"), (axes[1], "chosen", f"the profile's choice, n = {N}")):
        for arm, colour in zip(found, COLOURS, strict=False):
            turns = [0, *range(1, 1 + min(map(len, found[arm])))]
            figures = [Figure(0.5, 0.5, 0.5, len(found[arm]), "seeds", 0)]
            for turn in turns[1:]:
                values = [figure.value for one in found[arm] if (figure := getattr(one[turn - 1], way)) is not None]
                figures.append(over_seeds(values))
            band(axis, turns, figures, arm, colour)
        axis.set(title=title, xlabel="turn", ylabel="gold win rate over the first policy", xticks=turns)
    axes[0].legend(loc="upper left")
    write_drawing(NAME, drawn)


if __name__ == "__main__":
    run(experiment, __doc__)
