"""Candidates sampled once through the real stack, with rewards and verdicts, for all experiments that want such ones.

    samples = load(LABELLING)                       # a standard pool, of which every experiment uses the same file
    samples = sample_pool(prompts, n=16, seed=0)    # one of your own

    python -m training.experiments.pool             # make all standard pools (minutes)

A pool is a file under .bestow/experiments, named by all that decides what is in it: prompts, n, seed, how it is
sampled, and the weights of policy, reward model and classifier. It is made where it is missing, and gone on with where
making it was interrupted. All n candidates are in it, flagged ones too: choosing is the experiments'.
"""

import asyncio
import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.launch.demo import DEMO_MODELS, PROJECT
from gateway.shared.together import together
from training.demo.conversation import Message, Prompt
from training.demo.prompts import held_out
from training.demo.raters import label_prompts
from training.errors import TrainingError
from training.experiments.report import progress
from training.experiments.stack import FOLDER, MODEL, DemoStack, demo_stack

# What a request may ask for at most, and what the worker samples at once.
MOST, AT_ONCE = 128, 256
_PROFILE_NAME = "pool"
# Flagged candidates are noted and shown: the experiments decide what becomes of them.
PROFILE = {
    "temperature": 1.0,
    "max_tokens": 96,
    "n": MOST,
    "min_n": MOST,
    "max_n": MOST,
    "action": "flag",
    "resample": 0,
}
# Patience in place of refusals; nobody waits for a single answer. What is asked here is in no log afterwards.
SETTINGS: dict[str, Any] = {
    "gateway": {"request_timeout_s": 900, "max_wait_s": 900},
    "profiles": {_PROFILE_NAME: PROFILE},
    "log": {"keep": {"share": 0.0}},
}


class Candidate(msgspec.Struct, frozen=True):
    """reward: raw, of the served reward model. flagged: the categories in which the guard would keep it back."""

    text: str
    finish_reason: str
    reward: float
    flagged: list[str]
    tokens: int

    @property
    def safe(self) -> bool:
        return not self.flagged

    @property
    def whole(self) -> bool:
        """Ended by the policy, not by the limit of tokens."""
        return self.finish_reason == "stop"


class Sampled(msgspec.Struct, frozen=True):
    """A prompt with its n candidates, as they were sampled."""

    prompt: list[Message]
    candidates: list[Candidate]


class _Line(msgspec.Struct, frozen=True):
    index: int
    sampled: Sampled


@dataclass(frozen=True)
class Pool:
    """A pool that experiments share. prompts: with what their writers meant, which no model sees."""

    name: str
    prompts: Callable[[], list[Prompt]]
    n: int
    seed: int


def _labelling() -> list[Prompt]:
    found: dict[tuple[tuple[str, str], ...], Prompt] = {}
    for prompt in label_prompts(2 * LABELLING_PROMPTS, seed=810):
        found.setdefault(prompt.messages, prompt)
    return list(found.values())[:LABELLING_PROMPTS]


LABELLING_PROMPTS, TEST_PROMPTS = 1000, 80
# Distinct prompts in training wordings, 6 % of them inviting unsafe answers: for simulated people to judge.
LABELLING = Pool("labelling", _labelling, n=16, seed=8_100_000)
# Ordinary prompts in wordings that no training saw: for best-of-n up to 256.
TEST = Pool("test", lambda: held_out(TEST_PROMPTS, seed=820), n=256, seed=8_200_000)
STANDARD = (LABELLING, TEST)


def load(pool: Pool) -> list[Sampled]:
    """The samples, in the order of `pool.prompts()`; made first where they are not there."""
    return sample_pool([prompt.as_messages() for prompt in pool.prompts()], pool.n, pool.seed, pool.name)


def sample_pool(prompts: Sequence[list[Message]], n: int, seed: int, name: str = "pool") -> list[Sampled]:
    """n candidates of the demo policy to each prompt, in their order; candidate i has the seed s + i, s by prompt.

    Raises TrainingError where the gateway refuses, StartError where the stack does not start.
    """
    path = FOLDER / f"pool-{pool_print(prompts, n, seed)}.jsonl"
    with _held(path):
        found = _read(path)
        missing = [index for index in range(len(prompts)) if index not in found]
        if missing:
            _cut_to_whole_lines(path)
            asyncio.run(_sample(path, prompts, missing, n, seed, name))
            found = _read(path)
    return [found[index] for index in range(len(prompts))]


def pool_print(prompts: Sequence[list[Message]], n: int, seed: int) -> str:
    """The name of a pool: a digest of all that decides what is in it."""
    content = {"prompts": list(prompts), "n": n, "seed": seed, "profile": PROFILE, "models": _models_print()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def prompt_seed(messages: Sequence[Message], seed: int) -> int:
    """Of a prompt's first candidate: other prompts have other noise."""
    digest = hashlib.sha256(json.dumps([seed, list(messages)], sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


@cache
def _models_print() -> str:
    digest = hashlib.sha256()
    for model in ("policy", "reward", "safety"):
        for file in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
            digest.update((PROJECT / DEMO_MODELS / model / file).read_bytes())
    return digest.hexdigest()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Two experiments that want the same pool: the second waits, and reads what the first has made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[int, Sampled]:
    if not path.exists():
        return {}
    decode = msgspec.json.Decoder(_Line).decode
    # The last line of a run that was killed may be half written.
    whole = path.read_bytes().rpartition(b"\n")[0]
    return {line.index: line.sampled for line in map(decode, whole.splitlines())}


def _cut_to_whole_lines(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        path.write_bytes(content[: content.rfind(b"\n") + 1])


async def _sample(
    path: Path, prompts: Sequence[list[Message]], missing: Sequence[int], n: int, seed: int, name: str
) -> None:
    places = asyncio.Semaphore(max(1, 2 * AT_ONCE // min(n, MOST)))
    timeout = aiohttp.ClientTimeout(total=None)
    async with demo_stack(SETTINGS) as stack, aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session:
        with path.open("ab") as file, progress(f"sampling {name}", len(missing), "prompts") as done:

            async def one(index: int) -> None:
                async with places:
                    sampled = await _ask(session, stack, prompts[index], n, prompt_seed(prompts[index], seed))
                # In one piece, so that two lines never mix.
                file.write(msgspec.json.encode(_Line(index, sampled)) + b"\n")
                file.flush()
                done()

            await together(one(index) for index in missing)


async def _ask(session: aiohttp.ClientSession, stack: DemoStack, messages: list[Message], n: int, seed: int) -> Sampled:
    found: list[Candidate] = []
    while len(found) < n:
        size = min(n - len(found), MOST)
        # The next request's seeds follow on this one's, so that none is sampled twice.
        guidance = {"profile": _PROFILE_NAME, "n": size, "seed": seed + len(found), "return_candidates": True}
        body = {"model": MODEL, "messages": messages, "guidance": guidance}
        headers = {"authorization": f"Bearer {stack.api_key}"}
        async with session.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as answer:
            reply = json.loads(await answer.read())
        if answer.status != 200:
            raise TrainingError(f"The gateway refused to sample a pool: {reply['error']['message']}")
        receipt = reply["guidance"]
        if len(receipt["candidates"]) != size or receipt["scored"] != size:
            raise TrainingError(
                f"Of {size} candidates {receipt['scored']} came with a reward ({receipt['degraded']}); run it again."
            )
        found += [_candidate(one) for one in receipt["candidates"]]
    return Sampled(list(messages), found)


def _candidate(one: dict[str, Any]) -> Candidate:
    return Candidate(
        text=one["message"]["content"] or "",
        finish_reason=one["finish_reason"],
        reward=one["reward"],
        flagged=[*one["flagged"], *one["flags"]],
        tokens=one["completion_tokens"],
    )


def main() -> None:
    for pool in STANDARD:
        samples = load(pool)
        candidates = [one for sampled in samples for one in sampled.candidates]
        safe = sum(one.safe for one in candidates)
        print(f"{pool.name}: {len(samples)} prompts x {pool.n} candidates, {safe / len(candidates):.1%} safe")


if __name__ == "__main__":
    main()
