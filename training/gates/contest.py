"""G2: the challenger against the champion, live: ask both, have the answers read, decide, and report.

    wins            n = 1, the policy alone, by the holdout reward model and the proxy     `wins`
    KL              in this process, from the version's files                             `divergence`
    suites          through the profile that serves                                       `suites`
    deployment      the same, on logged prompts                                           `deployment`

All answers and all that was said of them are kept as `evaluation.running` keeps them, so that a gate which was killed
goes on where it stopped. What decides is in the pure modules.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import msgspec

from gateway.config import Config
from gateway.workers.admin_client import AdminClient
from training.data.places import write_durably
from training.evaluation.answers import SIDES, Which
from training.evaluation.asking import Asker, find_side
from training.evaluation.intervals import Estimate
from training.evaluation.items import PromptSet, drawn
from training.evaluation.judged import Scored, scores_by
from training.evaluation.result import Asked
from training.evaluation.running import Bar, Readers, Work, evaluate, facts_of
from training.evaluation.scoring import Kind, Scores, opened
from training.evaluation.servers import Server
from training.evaluation.settings import RunSettings, SamplingSettings
from training.evaluation.sides import Named
from training.evaluation.win_rate import pairs_of
from training.gates.bounds import rescaled
from training.gates.challenger import served
from training.gates.checks import G2, INDEPENDENT
from training.gates.reporting import Wear, kept_report
from training.gates.saying import counted
from training.gates.suite_files import Pushed
from training.gates.thresholds import PolicyThresholds, Thresholds
from training.gates.verdicts import GateReport, Verdict
from training.jsonl import only_one
from training.registry.layout import Version
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # torch, scipy: seconds

PURPOSE = "train gate"
# A request that fails for so long fails for users too.
_DEPLOYMENT_PATIENCE_S = 30.0
_KL_PROMPTS, _KL_TOKENS = 256, 256


@dataclass(frozen=True)
class Contest:
    """Who is tried, and by whom. model: the public one; profile: None for its own.

    champion: weights by the name that workers have them under; None: what serves.
    holdout, proxy, safety: folders, or scorers that run. proxy: None where the policy was trained on no reward model.
    base, anchor: folders; None: KL is not measured.
    """

    version: Version
    model: str
    holdout: str
    proxy: str | None
    safety: Sequence[str]
    profile: str | None = None
    champion: str | None = None
    base: Path | None = None
    anchor: Path | None = None
    threshold: float = 0.5


@dataclass(frozen=True)
class Asking:
    """What is asked. logged: what users asked lately."""

    prompts: PromptSet
    safety: PromptSet
    sycophancy: Pushed
    logged: PromptSet


@dataclass(frozen=True)
class Place:
    """Where it runs. home: of all that training makes."""

    registry: Registry
    admin: AdminClient
    server: Server
    session: aiohttp.ClientSession
    config: Config | None
    home: Path
    bar: Bar
    hard: RunSettings = field(default_factory=RunSettings)


async def gate_policy(contest: Contest, asking: Asking, thresholds: Thresholds, place: Place) -> GateReport:
    """G2. Raises TrainingError where it cannot be asked; what was answered is kept."""
    limits, wear = thresholds.policy, Wear(place.registry, thresholds, contest.version.ref)
    prompts = _at_most(asking.prompts, limits.prompts)
    async with AsyncExitStack() as stack:

        async def scorer(named: str, kind: Kind) -> Scores:
            return await stack.enter_async_context(opened(named, kind, place.config, place.session))

        # First: what cannot judge is told before anything is loaded or asked.
        holdout = await scorer(contest.holdout, "reward")
        proxy = None if contest.proxy is None else await scorer(contest.proxy, "reward")
        safety = [await scorer(named, "safety") for named in contest.safety]
        name = await stack.enter_async_context(served(contest.version, place.registry, place.admin))
        plain, through = [await _sides(contest, name, n, place.server) for n in (1, None)]
        rewards = Readers(rewards=[holdout, *([proxy] if proxy else [])])
        won = await _asked("wins", prompts, plain, limits.samples, rewards, place)
        guarded = Readers(safety=safety, threshold=contest.threshold)
        harm = await _asked("safety", asking.safety, through, limits.samples, guarded, place)
        pushed = await _asked("sycophancy", asking.sycophancy.prompts, through, limits.samples, Readers(), place)
        lately = await _deployed(asking.logged, through, place)
    verdicts = [
        _independent(contest),
        *_wins(won, holdout, proxy, limits, wear.alpha("prompts", prompts.digest)),
        await _divergence(contest, prompts, limits, wear.alpha("prompts", prompts.digest), place),
        *_suites(contest, harm, pushed, safety, asking, limits, wear),
        *_deployment(lately, asking.logged, limits, wear),
    ]
    facts = {"challenger": str(plain["a"].side), "champion": str(plain["b"].side), "through": str(through["a"].side)}
    return kept_report(contest.version.ref, verdicts, thresholds, wear, place.registry, facts)


def _at_most(prompts: PromptSet, most: int) -> PromptSet:
    return PromptSet(prompts.name, tuple(drawn(prompts.items, most)), prompts.snapshot, prompts.dropped)


async def _sides(contest: Contest, challenger: str, n: int | None, server: Server) -> dict[Which, Asker]:
    """The challenger is A."""
    named = Named(f"{contest.model}:{contest.profile}" if contest.profile else contest.model, n)
    policies = dict(zip(SIDES, (challenger, contest.champion), strict=True))
    return {which: await find_side(named, server, policy=policies[which], purpose=PURPOSE) for which in SIDES}


async def _asked(
    name: str,
    prompts: PromptSet,
    sides: Mapping[Which, Asker],
    samples: int,
    readers: Readers,
    place: Place,
    hard: RunSettings | None = None,
) -> Work:
    """Both sides' answers and what was said of them, from its folder where they are there already.

    Among the evaluations: who asks to be erased is looked for there (`data.forgetting`).
    """
    how = SamplingSettings(samples=samples)
    asked = Asked.of(facts_of(prompts), sides["a"].side, sides["b"].side, how)
    folder = place.home / "evaluations" / f"gate-{name}-{asked.id[:12]}"
    with only_one(folder):
        work = Work(folder, prompts.items, samples, hard or place.hard, place.bar)
        await evaluate(prompts, asked, dict(sides), how, readers, work, f"gate-{name}")
    return work


async def _deployed(logged: PromptSet, sides: Mapping[Which, Asker], place: Place) -> Work | None:
    if not logged.items:
        return None
    # Failures are what is measured, so they are no reason to stop.
    patience_s = min(place.hard.patience_s, _DEPLOYMENT_PATIENCE_S)
    hard = place.hard.model_copy(update={"max_failed": 1.0})
    hasty = {which: replace(one, server=replace(one.server, patience_s=patience_s)) for which, one in sides.items()}
    return await _asked("deployment", logged, hasty, 1, Readers(), place, hard)


def _independent(contest: Contest) -> Verdict:
    """The holdout model must have had no part in the policy, and must not be its proxy."""
    from training.reward.versions import CARD, read_card

    problems = []
    folder = Path(contest.holdout)
    if contest.holdout == contest.proxy:
        problems.append("it is the proxy")
    if (folder / CARD).is_file():
        card = read_card(folder)
        if card.split != "holdout":
            problems.append(f"it was trained on the split {card.split}")
        if f"reward_model:{card.name}@{card.version}" in contest.version.parents:
            problems.append("the policy was trained on it")
    return counted(
        G2,
        INDEPENDENT,
        len(problems),
        0,
        n=1,
        reason=f"The holdout reward model {folder.name} is no independent judge: {'; '.join(problems)}."
        if problems
        else f"Nothing says that the holdout reward model {folder.name} had a part in the policy.",
    )


def _wins(work: Work, holdout: Scores, proxy: Scores | None, limits: PolicyThresholds, alpha: float) -> list[Verdict]:
    from training.gates.wins import wins

    pairs = pairs_of(work.items, work.answered, work.samples)
    scores = scores_by(work.scores.all)
    by_proxy = None if proxy is None else scores.get(proxy.info.version, {})
    return wins(pairs, scores.get(holdout.info.version, {}), by_proxy, limits, alpha)


async def _divergence(
    contest: Contest, prompts: PromptSet, limits: PolicyThresholds, alpha: float, place: Place
) -> Verdict:
    from training.gates.divergence import divergence

    if contest.anchor is None:
        return divergence(None, limits, alpha)
    anchor = contest.anchor
    items = drawn(prompts.items, _KL_PROMPTS)
    kept = place.home / "gates" / f"kl-{contest.version.label}-{prompts.digest[:12]}.json"
    if not kept.is_file():
        from training.policy.kl import measure

        new = await asyncio.to_thread(place.registry.local, contest.version.ref)
        found = await asyncio.to_thread(
            measure,
            new,
            anchor,
            [item.turns[0] for item in items],
            base=contest.base,
            units=[item.unit for item in items],
            max_new_tokens=_KL_TOKENS,
        )
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(kept, msgspec.json.encode(found.per_answer))
    return divergence(rescaled(msgspec.json.decode(kept.read_bytes(), type=Estimate), alpha), limits, alpha)


def _suites(
    contest: Contest,
    harm: Work,
    pushed: Work,
    safety: Sequence[Scores],
    asking: Asking,
    limits: PolicyThresholds,
    wear: Wear,
) -> list[Verdict]:
    from training.gates.suites import refused, sycophancy, unsafe_delivered

    scores = scores_by(harm.scores.all)
    read = _worst([scores.get(one.info.version, {}) for one in safety])
    alpha = wear.alpha("safety suite", asking.safety.digest)
    return [
        unsafe_delivered(harm.items, harm.answered, harm.samples, read, contest.threshold, limits.suites, alpha),
        refused(harm.items, harm.answered, harm.samples, limits.suites, alpha),
        sycophancy(
            pushed.items,
            asking.sycophancy.claims,
            pushed.answered,
            pushed.samples,
            limits.suites,
            wear.alpha("sycophancy suite", asking.sycophancy.prompts.digest),
        ),
    ]


def _worst(
    by_classifier: Sequence[Mapping[tuple[Which, str, int, int], Scored]],
) -> dict[tuple[Which, str, int, int], Scored]:
    """Of each answer what the classifier says that finds it worst; nothing where one of them could not read it."""
    if not by_classifier:
        return {}
    found = {}
    for answer in by_classifier[0]:
        said = [one[answer] for one in by_classifier if answer in one]
        categories = [one.categories for one in said if one.categories is not None]
        if len(categories) == len(by_classifier):
            worst = max(categories, key=lambda one: max(one.values()))
            found[answer] = msgspec.structs.replace(said[0], categories=worst)
    return found


def _deployment(work: Work | None, logged: PromptSet, limits: PolicyThresholds, wear: Wear) -> list[Verdict]:
    from training.gates.deployment import deployment

    if work is None:
        return deployment([], {}, limits.deployment, 0.05)
    return deployment(work.items, work.answered, limits.deployment, wear.alpha("logged prompts", logged.digest))
