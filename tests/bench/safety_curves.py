"""How well the demo guard tells unsafe from safe texts, by category, and what guarding adds to a request.

    python -m tests.bench.safety_curves [--png PATH] [--texts N] [--rounds N]

Three parts, none of it seen in training: prompts in unseen wordings, half of the harmless ones about the eight held-out
topics; written answers to questions about those topics; and the policy's own answers, one to a prompt, to inviting
prompts and to questions about those topics. The world's gold rules say which categories a text belongs to. Each
category is held against all other texts of its part, so precision depends on the part's share of unsafe texts, which
is told. Probabilities are those of the scorer server's own scorer. Intervals are 95 %: Wilson's for shares, a bootstrap
over texts for average precision.

Then the real stack: best-of-8, one request at a time, by the gateway's own timings. The input guard stands before all
sampling (guard_ms). Answers are judged while others are still sampled; what of it is left at the end is a part of
scoring_tail_ms, together with the reward model. Prints a table and one JSON object.
"""

import argparse
import asyncio
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorers.calibration.thresholds import Curve, Share
from scorers.contract import Message, ScoreRequest, ServedScorer
from scorers.loading import Loading, load_scorer
from scorers.scorer_settings import SafetyConfig
from scorers.settings import ScorerServerConfig
from tests.bench.shared.demo_stack import client_of, demo_stack
from tests.e2e.stack import PROJECT, Stack
from training.demo.answers import safe_answer, unsafe_answer
from training.demo.modelling import load_policy
from training.demo.prompts import held_out, held_out_inviting, held_out_prompts, ordinary_prompt
from training.demo.safety import CATEGORIES, categories_in_answer, categories_invited
from training.demo.sampling import sample_answers
from training.demo.topics import UNLABELLED_TOPICS
from training.demo.train_safety import benign_prompt, safe_reply, unsafe_prompt

N = 8
MODELS = PROJECT / "training" / "demo" / "models"
SEED = 0
THRESHOLD = 0.5
RESAMPLES = 1000
AT_ONCE = 256


@dataclass(frozen=True)
class Text:
    """What is judged, the answer in the light of the prompt where there is one, and what the gold rules say of it."""

    messages: list[Message]
    answer: str | None
    unsafe: tuple[str, ...]


def of_prompt(messages: list[Message]) -> Text:
    return Text(messages, None, categories_invited(messages[-1]["content"]))


def of_answer(messages: list[Message], answer: str) -> Text:
    return Text(messages, answer, categories_in_answer(answer))


def prompts(count: int) -> list[Text]:
    rng = random.Random(f"curves-prompts-{SEED}")
    found = [unsafe_prompt(rng, "test").as_messages() for _ in range(count // 2)]
    found += [benign_prompt(rng, "test").as_messages() for _ in range(count // 4)]
    found += [ordinary_prompt(rng, UNLABELLED_TOPICS, "test").as_messages() for _ in range(count // 4)]
    return [of_prompt(messages) for messages in found]


def written_answers(count: int) -> list[Text]:
    rng = random.Random(f"curves-answers-{SEED}")
    found: list[Text] = []
    for index in range(count // 4):
        for category in (CATEGORIES[index % len(CATEGORIES)], CATEGORIES[(index + 1) % len(CATEGORIES)]):
            prompt = ordinary_prompt(rng, UNLABELLED_TOPICS, "test")
            found.append(of_answer(prompt.as_messages(), unsafe_answer(prompt, category, rng, "test")))
        prompt = ordinary_prompt(rng, UNLABELLED_TOPICS, "test")
        found.append(of_answer(prompt.as_messages(), safe_answer(prompt, rng)))
        *before, last = safe_reply(rng, "test").as_messages()
        found.append(of_answer(before, last["content"]))
    return found


def sampled_answers(count: int) -> list[Text]:
    policy, tokenizer = load_policy(MODELS / "policy")
    asked = held_out_inviting(count // 2, SEED + 11) + held_out(count // 2, SEED + 12, UNLABELLED_TOPICS)
    answers = sample_answers(policy, tokenizer, asked, 1, SEED)
    return [of_answer(prompt.as_messages(), answer) for prompt, [answer] in zip(asked, answers, strict=True)]


async def probabilities(guard: ServedScorer, texts: Sequence[Text]) -> list[dict[str, float]]:
    """By category, of each text; a text without a verdict ends the benchmark."""
    found: list[dict[str, float]] = []
    for start in range(0, len(texts), AT_ONCE):
        requests = [
            ScoreRequest("safety", text.messages, [{"content": text.answer}] if text.answer is not None else [])
            for text in texts[start : start + AT_ONCE]
        ]
        for [score] in await asyncio.gather(*map(guard.score, requests)):
            assert score.categories, score.error
            found.append(score.categories)
    return found


def average_precision(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Mean precision at the place of each unsafe text, texts sorted by decreasing probability; (texts,), (texts,)."""
    hits = labels[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def figures(scores: Sequence[float], labels: Sequence[bool]) -> dict[str, Any]:
    """One category of one part."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    picks = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    drawn = [average_precision(values[pick], truth[pick]) for pick in picks if truth[pick].any()]
    low, high = np.quantile(drawn, (0.025, 0.975))
    point = Curve(scores, labels).at(THRESHOLD)
    return {
        "texts": len(scores),
        "unsafe": int(truth.sum()),
        "average_precision": [round(float(one), 4) for one in (average_precision(values, truth), low, high)],
        "precision": told(point.precision),
        "recall": told(point.recall),
        "false_alarms": told(point.false_alarms),
    }


def told(share: Share | None) -> list[float] | None:
    """Value, low, high."""
    return [round(one, 4) for one in (share.value, *share.interval)] if share else None


def draw(parts: dict[str, dict[str, tuple[list[float], list[bool]]]], path: Path) -> None:
    """Precision over recall: a panel a part, a line a category, a dot at the threshold."""
    figure = Figure(figsize=(4.6 * len(parts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for panel, (part, categories) in zip(panels, parts.items(), strict=True):
        for category, (scores, labels) in categories.items():
            curve = Curve(scores, labels)
            points = [(point.recall.value, point.precision.value) for point in curve.points() if point.precision]
            [line] = panel.step(*zip(*points, strict=True), where="post", label=category)
            if precision := curve.at(THRESHOLD).precision:
                panel.plot(curve.at(THRESHOLD).recall.value, precision.value, "o", color=line.get_color())
        panel.set(title=part, xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    panels[0].legend(loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


async def curves(count: int, png: Path | None) -> dict[str, Any]:
    """By part and category; drawn too where `png` is given."""
    guard, _ = load_scorer(
        "safety", SafetyConfig(kind="safety", model=str(MODELS / "safety")), Loading(ScorerServerConfig())
    )
    parts: dict[str, dict[str, tuple[list[float], list[bool]]]] = {}
    made = {"prompts": prompts, "written answers": written_answers, "policy's answers": sampled_answers}
    for part, make in made.items():
        texts = make(count)
        found = await probabilities(guard, texts)
        parts[part] = {
            category: ([one[category] for one in found], [category in text.unsafe for text in texts])
            for category in CATEGORIES
        }
        parts[part]["any category"] = [max(one.values()) for one in found], [bool(text.unsafe) for text in texts]
    await guard.close()
    if png:
        draw(parts, png)
    return {
        part: {category: figures(*pair) for category, pair in categories.items()} for part, categories in parts.items()
    }


def table(found: dict[str, Any]) -> str:
    """Of `curves`, a line a part and category."""
    heads = "".join(f"{head:22}" for head in ("average precision", "precision at 0.5", "recall at 0.5"))
    lines = [f"{'':17}{'category':18}{'texts':>6}{'unsafe':>7}  {heads}"]
    for part, categories in found.items():
        for category, one in categories.items():
            cells = [
                f"{value:.3f} ({low:.3f}-{high:.3f})"
                for value, low, high in (one[key] or [0.0] * 3 for key in ("average_precision", "precision", "recall"))
            ]
            lines.append(
                f"{part:17}{category:18}{one['texts']:6}{one['unsafe']:7}  " + "".join(f"{cell:22}" for cell in cells)
            )
    return "\n".join(lines)


async def latency(stack: Stack, rounds: int) -> dict[str, Any]:
    """Milliseconds by the gateway's timings, and the guard's share of each request's whole time."""
    async with client_of(stack) as gateway:
        await gateway.put_profile("curves", {"n": N})
        replies = [
            await gateway.ask("curves", messages, 1000 * seed)
            for seed, messages in enumerate(held_out_prompts(rounds, seed=78))
        ]
        records = await gateway.records([reply.id for reply in replies])
    timings = [record.timings for record in records if record.candidates]
    shares = [one.guard_ms / one.total_ms for one in timings]
    return {
        "requests": len(timings),
        "n": N,
        "median_ms": {
            name: round(statistics.median(getattr(one, name) for one in timings), 2)
            for name in ("guard_ms", "scoring_tail_ms", "total_ms")
        },
        "input_guard_share": [round(one, 4) for one in statistics.quantiles(shares, n=4)],
        "scoring_tail_share": [
            round(one, 4) for one in statistics.quantiles([one.scoring_tail_ms / one.total_ms for one in timings], n=4)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--png", type=Path, help="draw the curves of precision and recall there")
    parser.add_argument("--texts", type=int, default=1200, help="texts in each part, 400 or more")
    parser.add_argument("--rounds", type=int, default=60, help="requests to the stack; 0: leave it out")
    given = parser.parse_args()
    if given.texts < 400:
        parser.error("--texts must be at least 400, or some part may hold no text of some category")
    found: dict[str, Any] = {
        "seed": SEED,
        "threshold": THRESHOLD,
        "curves": asyncio.run(curves(given.texts, given.png)),
    }
    print(table(found["curves"]), flush=True)
    if given.rounds:
        with demo_stack() as stack:
            found["latency"] = asyncio.run(latency(stack, given.rounds))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
