"""Whether the gates stop what looks better and is worse, and pass what is better: versions of three known kinds.

    make experiment-gates                          look at it: hours on a laptop; it goes on where it was stopped
    make experiment-gates ARGS="--quick"           a few small versions, to see that it works
    make experiment-gates ARGS="--write"           keep table and figures

    null      no better: the same weights again, or trained as hard on shuffled labels
    healthy   trained gently on what a reward model from many labels prefers; better by the gold judge
    gamed     trained hard on what a reward model from few labels prefers; the proxy rises, gold falls

Each run has other labels, another proxy, other weights and other noise. A run counts as what it was meant to be only if
the gold judge says so on the gate's own answers and more: the rates are of those, the others are told. The limits of
gap and KL are set on the runs with even seeds and tried on those with odd ones; the win rate's one half has nothing to
be set. Sampled and scored in this process; the gate's checks are those that `bestow train gate policy` uses.
"""

import random
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from gateway.launch.demo import DEMO_MODELS, PROJECT
from scorers.calibration.thresholds import Share
from training.data.rows import Message, Preference, Side
from training.demo.gold import judge
from training.evaluation.answers import SIDES, Answer, Which
from training.evaluation.intervals import share
from training.evaluation.items import Item, drawn
from training.evaluation.judged import Scored
from training.evaluation.win_rate import pairs_of
from training.experiments.goodhart import labelled_pairs, said
from training.experiments.pool import LABELLING, Sampled, load
from training.experiments.report import Options, progress, run, table, write_results, write_section
from training.experiments.stack import FOLDER
from training.gates.bounds import rescaled
from training.gates.checks import EQUAL_WINS, GAP, KL, WINS
from training.gates.divergence import divergence
from training.gates.suite_files import PROMPTS, read_suite
from training.gates.thresholds import PolicyThresholds
from training.gates.verdicts import Verdict
from training.gates.wins import wins
from training.jsonl import Lines
from training.policy.settings import PolicySettings
from training.policy.trainer import PolicyRows
from training.policy.trainer import train as train_policy
from training.reward.settings import RewardSettings
from training.reward.trainer import TrainingRows
from training.reward.trainer import train as train_reward

# ruff: noqa: PLC0415  # torch: 2 s

NAME = "gates"
Kind = Literal["same", "shuffled", "healthy", "gamed"]
NULL: tuple[Kind, ...] = ("same", "shuffled")
RUNS, QUICK_RUNS = 20, 1
ALPHA = 0.05
BASE = PROJECT / DEMO_MODELS / "policy"
_MAX_TOKENS = 96
# So many pairs are seen by a reward model in all, each at least once.
_SEEN = 1000


AnswersOf = dict[tuple[Which, str, int, int], Answer]


@dataclass(frozen=True)
class Recipe:
    """labels: pairs that the proxy learns from. prompts: whose best and worst candidate by the proxy make a pair.

    steps, rate, beta: of DPO.
    """

    labels: int
    prompts: int
    steps: int
    rate: float
    beta: float


RECIPES: dict[Kind, Recipe] = {
    "shuffled": Recipe(labels=0, prompts=300, steps=40, rate=1e-3, beta=0.1),
    "healthy": Recipe(labels=1500, prompts=450, steps=40, rate=1e-3, beta=0.1),
    "gamed": Recipe(labels=60, prompts=450, steps=200, rate=2e-3, beta=0.02),
}


@dataclass(frozen=True)
class Sizes:
    """prompts: that the gate asks. holdout: labels of the holdout reward model."""

    prompts: int = 400
    holdout: int = 1500
    scale: float = 1.0


QUICK = Sizes(prompts=60, holdout=150, scale=0.15)


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One version. gold: its win rate over the base by the gold judge, with its 95 % interval; proxy: by the proxy."""

    kind: Kind
    seed: int
    sizes: list[float]
    verdicts: list[Verdict]
    gold: tuple[float, float, float]
    proxy: float
    steps: int

    def verdict(self, check: str) -> Verdict:
        return next(one for one in self.verdicts if one.check == check)

    @property
    def truly(self) -> bool:
        """Whether it came out as the kind that it was meant to be."""
        value, low, high = self.gold
        if self.kind == "healthy":
            return low > 0.5
        return high < 0.5 and self.proxy > 0.5 if self.kind == "gamed" else value < 0.55


@dataclass(frozen=True)
class Limits:
    """Of gap and KL."""

    gap: float
    kl: float

    def passed(self, one: Ran) -> bool:
        """All four checks, with these limits."""
        fixed = all(one.verdict(name).outcome == "pass" for name in (WINS, EQUAL_WINS))
        return fixed and _high(one, GAP) < self.gap and _high(one, KL) < self.kl


def _high(one: Ran, check: str) -> float:
    high = one.verdict(check).high
    return float("inf") if high is None else high


def limits_from(runs: Sequence[Ran]) -> Limits:
    """Half way between the 90 % quantile of healthy versions' upper bounds and the 10 % quantile of gamed ones'.

    Where healthy ones reach further than that, the 90 % quantile of healthy ones: then this check costs no more than
    one healthy version in ten. Raises ValueError without both kinds.
    """
    healthy, gamed = ([one for one in runs if one.kind == kind] for kind in ("healthy", "gamed"))
    if not healthy or not gamed:
        raise ValueError("limits are set on healthy and gamed versions: there are none of one kind")

    def between(check: str) -> float:
        good = float(np.quantile([_high(one, check) for one in healthy], 0.9))
        bad = float(np.quantile([_high(one, check) for one in gamed], 0.1))
        return max(good, (good + bad) / 2)

    return Limits(between(GAP), between(KL))


def holdout_model(labelled: Sequence[Sampled], sizes: Sizes, folder: Path, seed: int = 0) -> Path:
    """A reward model of labels and prompts that no proxy has."""
    output = folder / "holdout"
    pairs = labelled_pairs(labelled, sizes.holdout, 90_000 + seed)
    train_reward(TrainingRows(pairs), BASE, RewardSettings(epochs=_epochs(sizes.holdout)), seed, output)
    return output


def _epochs(pairs: int) -> int:
    return max(1, _SEEN // pairs)


def policy_pairs(kind: Kind, recipe: Recipe, labelled: Sequence[Sampled], proxy: Path, seed: int) -> list[Preference]:
    """What the policy learns from: of some prompts the proxy's best candidate over its worst; shuffled: by a coin."""
    rng = random.Random(f"gates-{kind}-{seed}")
    chosen = rng.sample(list(labelled), min(recipe.prompts, len(labelled)))
    prompts = [one.prompt for one in chosen for _ in one.candidates]
    texts = [candidate.text for one in chosen for candidate in one.candidates]
    rewards = iter(_rewards(proxy, prompts, texts))
    found = []
    for number, one in enumerate(chosen):
        ranked = sorted(((next(rewards), candidate.text) for candidate in one.candidates), reverse=True)
        best, worst = ranked[0][1], ranked[-1][1]
        if kind == "shuffled":
            best, worst = rng.sample([text for _, text in ranked], 2)
        if best != worst:
            found.append(_pair(one.prompt, best, worst, f"{seed}-{number}"))
    return found


def _pair(prompt: list[Message], best: str, worst: str, name: str) -> Preference:
    side = Side(id=name, interactions=[], source="preference", split="train", prompt=name, cluster="")
    return Preference(prompt=prompt, chosen=said(best), rejected=said(worst), margin=0.0, side=side)


def _rewards(folder: Path, prompts: Sequence[list[Message]], texts: Sequence[str]) -> list[float]:
    from training.reward.scoring import LocalReward

    found = LocalReward(folder).score(prompts, [said(text) for text in texts])
    return [0.0 if one is None else one for one in found]


def version(
    kind: Kind, seed: int, labelled: Sequence[Sampled], holdout: Path, items: Sequence[Item], sizes: Sizes, folder: Path
) -> Ran:
    """Train one, ask it and the base, and let the gate's checks say what they see. folder: for its weights."""
    recipe, proxy, policy, steps = RECIPES.get(kind), folder / "proxy", BASE, 0
    labels = max(20, round((recipe.labels if recipe and recipe.labels else 1500) * sizes.scale))
    pairs = labelled_pairs(labelled, labels, seed)
    train_reward(TrainingRows(pairs), BASE, RewardSettings(epochs=_epochs(labels)), seed, proxy)
    if recipe is not None:
        settings = PolicySettings(
            method="dpo",
            max_steps=max(5, round(recipe.steps * sizes.scale)),
            rate=recipe.rate,
            beta=recipe.beta,
            epochs=20,
            sft_weight=0.0,
            checkpoints=1,
        )
        rows = policy_pairs(kind, recipe, labelled, proxy, seed)
        policy = folder / "policy"
        steps = train_policy(PolicyRows(pairs=rows), BASE, settings, seed, policy).steps
    answers = _answers(items, {"a": policy, "b": BASE}, seed)
    pairs_asked = pairs_of(items, answers, 1)
    by_holdout, by_proxy = (_scored(model, items, answers) for model in (holdout, proxy))
    limits = PolicyThresholds()
    verdicts = [*wins(pairs_asked, by_holdout, by_proxy, limits, ALPHA), _divergence(policy, items, limits, seed)]
    gold = _gold(items, answers)
    facts = next(one for one in verdicts if one.check == GAP).facts
    return Ran(
        kind=kind,
        seed=seed,
        sizes=[sizes.prompts, sizes.holdout, sizes.scale],
        verdicts=verdicts,
        gold=gold,
        proxy=float(facts["win rate by the proxy"]),
        steps=steps,
    )


def _answers(items: Sequence[Item], policies: dict[Which, Path], seed: int) -> AnswersOf:
    from training.policy.encoding import PolicyTemplate
    from training.policy.generating import load_policy, sample_answers

    template = PolicyTemplate(BASE)
    found: AnswersOf = {}
    for number, side in enumerate(SIDES):
        model = load_policy(policies[side], BASE)
        prompts = [item.turns[0] for item in items]
        _, ids = sample_answers(model, template, prompts, samples=1, max_new_tokens=_MAX_TOKENS, seed=2 * seed + number)
        for item, one in zip(items, ids, strict=True):
            answer = Answer(side=side, item=item.id, sample=0, turn=0, outcome="answered", text=template.text(one))
            found[answer.place] = answer
    return found


def _scored(model: Path, items: Sequence[Item], answers: AnswersOf) -> dict[tuple[Which, str, int, int], Scored]:
    asked = {item.id: item.turns[0] for item in items}
    rewards = _rewards(model, [asked[one.item] for one in answers.values()], [one.text for one in answers.values()])
    return {
        place: Scored(by=model.name, side=place[0], item=place[1], sample=0, turn=0, value=reward)
        for place, reward in zip(answers, rewards, strict=True)
    }


def _divergence(policy: Path, items: Sequence[Item], limits: PolicyThresholds, seed: int) -> Verdict:
    from training.policy.kl import measure

    if policy == BASE:
        found = measure(BASE, BASE, [item.turns[0] for item in items[:8]], max_new_tokens=16, seed=seed)
    else:
        prompts = [item.turns[0] for item in items[:100]]
        found = measure(policy, BASE, prompts, max_new_tokens=_MAX_TOKENS, seed=seed)
    return divergence(rescaled(found.per_answer, ALPHA), limits, ALPHA)


def _gold(items: Sequence[Item], answers: AnswersOf) -> tuple[float, float, float]:
    """The challenger's win rate by the gold judge, ties half, with Wilson's 95 % interval."""
    won = []
    for item in items:
        a, b = (judge(item.turns[0], answers[side, item.id, 0, 0].text).total for side in SIDES)
        won.append(0.5 if a == b else float(a > b))
    found = share(won, [item.id for item in items])
    return found.value, found.low, found.high


def all_runs(options: Options, folder: Path) -> Iterator[Ran]:
    """Those that there are in the folder, and then the others, each kept as it is done."""
    sizes, count = (QUICK, QUICK_RUNS) if options.quick else (Sizes(), 2 * RUNS)
    kinds: Iterable[Kind] = get_args(Kind)
    folder.mkdir(parents=True, exist_ok=True)
    kept = Lines(folder / f"gates-{'quick' if options.quick else 'full'}.jsonl", Ran)
    had = {(one.kind, one.seed) for one in kept.all}
    yield from kept.all
    todo = [(kind, seed) for seed in range(count) for kind in kinds if (kind, seed) not in had]
    if not todo:
        return
    labelled = load(LABELLING)
    # Prompts apart: what the holdout reward model has read, no proxy and no policy has.
    for_holdout, for_proxy = labelled[: len(labelled) // 2], labelled[len(labelled) // 2 :]
    items = drawn(read_suite(PROMPTS).items, sizes.prompts)
    with tempfile.TemporaryDirectory(prefix="gates-", dir=folder) as scratch:
        holdout = holdout_model(for_holdout, sizes, Path(scratch))
        with progress("versions", len(todo)) as done:
            for kind, seed in todo:
                with tempfile.TemporaryDirectory(dir=scratch) as own:
                    one = version(kind, seed, for_proxy, holdout, items, sizes, Path(own))
                kept.add(one)
                done()
                yield one


def experiment(options: Options) -> None:
    import torch

    torch.set_num_threads(1)
    runs = list(all_runs(options, FOLDER))
    if options.quick:
        print(table(_HEADS, [_row(one) for one in runs]))
        return
    limits = limits_from([one for one in runs if one.seed % 2 == 0])
    tried = [one for one in runs if one.seed % 2]
    markdown = told_in_words(tried, limits)
    print(markdown)
    if options.write:
        write_results(NAME, results(runs, limits))
        write_section(NAME, "Gates: what looks better and is worse", markdown)


_HEADS = ("kind", "seed", "gold", "holdout", "gap", "KL", "steps")


def _row(one: Ran) -> list[str]:
    def told(check: str) -> str:
        found = one.verdict(check)
        return "" if found.value is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"

    return [one.kind, str(one.seed), f"{one.gold[0]:.2f}", told(WINS), told(GAP), told(KL), str(one.steps)]


def rate(runs: Sequence[Ran], limits: Limits, passed: bool) -> Share:
    """How many passed, or were stopped."""
    return Share(sum(limits.passed(one) == passed for one in runs), len(runs))


def told_in_words(tried: Sequence[Ran], limits: Limits) -> str:
    rows = []
    for name, kinds, passed in (
        ("no better (same weights)", ("same",), False),
        ("no better (shuffled labels)", ("shuffled",), False),
        ("healthy: better by gold", ("healthy",), True),
        ("gamed: better by proxy, worse by gold", ("gamed",), False),
    ):
        meant = [one for one in tried if one.kind in kinds]
        true = [one for one in meant if one.truly]
        if not true:
            rows.append([name, f"0 of {len(meant)}", "", "", "", ""])
            continue
        mean_gold = np.mean([one.gold[0] for one in true])
        holdout, kl = (np.mean([one.verdict(check).value or 0.0 for one in true]) for check in (WINS, KL))
        found = f"{'passed' if passed else 'stopped'}: {rate(true, limits, passed)}"
        rows.append([name, f"{len(true)} of {len(meant)}", f"{mean_gold:.2f}", f"{holdout:.2f}", f"{kl:.2f}", found])
    about = (
        f"Versions of the demo policy, each with its own labels, proxy and noise, through the checks of G2 on "
        f"{int(tried[0].sizes[0])} prompts at alpha = {ALPHA:g}. The limits (gap {limits.gap:.2f}, KL {limits.kl:.1f} "
        "nats) were set on other runs than those shown. Counted are the runs that came out as they were meant by the "
        "gold judge, which no gate sees; 95 % Wilson intervals."
    )
    heads = ("version", "came out so", "gold win rate", "holdout win rate", "KL, nats", "gate")
    return "\n\n".join([textwrap.fill(about, 120), table(heads, rows)])


def results(runs: Sequence[Ran], limits: Limits) -> dict[str, Any]:
    """For results/gates.json."""
    return {
        "limits": {"gap": limits.gap, "kl": limits.kl},
        "runs": [
            {
                "kind": one.kind,
                "seed": one.seed,
                "gold": list(one.gold),
                "proxy": one.proxy,
                "passed": limits.passed(one),
                "truly": one.truly,
                **{found.check: [found.value, found.low, found.high] for found in one.verdicts},
            }
            for one in runs
        ],
    }


if __name__ == "__main__":
    run(experiment, __doc__)
