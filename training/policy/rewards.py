"""What an answer is worth while a policy trains on it: reward model and graders, as functions that TRL calls.

    functions, weights = reward_functions(rows, template, settings, reward)

The reward model reads token ids of the scorer's own encoder, in which what a policy writes never becomes a control
token. Graders are the project's verifiers; one that cannot judge an answer (there is no reference) leaves it out of its
rewards. An answer that was cut off gets the lowest reward of its batch: what the whole one would be worth nobody knows,
and the reward of a beginning would teach to ramble (Huang et al. 2024, "The N+ Implementation Details of RLHF with
PPO", arXiv:2403.17031, has a fixed penalty, for which raw rewards have no scale).
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from scorers.contract import ScoreRequest
from scorers.loading import Loading, ServedScorer
from scorers.model_path import LoadError
from scorers.scorer_settings import VerifierConfig
from scorers.settings import ScorerServerConfig
from scorers.verifiers.loading import load
from training.errors import TrainingError
from training.policy.encoding import EncodedRow, PolicyTemplate
from training.policy.settings import Grader, PolicySettings

MODEL = "reward"

Rewards = list[float | None]
RewardFunction = Callable[..., Rewards] | Callable[..., Awaitable[Rewards]]


def reward_functions(
    rows: Sequence[EncodedRow], template: PolicyTemplate, settings: PolicySettings, reward: Path | None
) -> tuple[dict[str, RewardFunction], list[float]]:
    """By name, and their weights. TRL gives each the prompts, which are places in `rows`, and the answers' ids.

    Raises TrainingError where there are none, or one of them cannot be loaded.
    """
    if reward is None and not settings.graders:
        raise TrainingError(
            f"{settings.method} needs something that rewards: name a reward model with --reward, or graders."
        )
    found: dict[str, RewardFunction] = {}
    weights: list[float] = []
    if reward is not None:
        found[MODEL], weights = _by_model(reward, rows, template), [settings.reward_weight]
    for grader in settings.graders:
        name = grader.name or grader.check
        if name in found:
            raise TrainingError(f"There are two rewards called {name}: give graders different names.")
        found[name] = _by_grader(name, grader, rows, template)
        weights.append(grader.weight)
    return found, weights


def with_lowest(rewards: Sequence[float | None], whole: Sequence[bool]) -> Rewards:
    """Answers that were cut off get the lowest reward of those that have one; None where none has. Pure."""
    known = [one for one, ended in zip(rewards, whole, strict=True) if one is not None and ended]
    lowest = min(known, default=None)
    return [one if ended else lowest for one, ended in zip(rewards, whole, strict=True)]


def _by_model(folder: Path, rows: Sequence[EncodedRow], template: PolicyTemplate) -> RewardFunction:
    from training.reward.scoring import LocalReward  # noqa: PLC0415  # torch

    model = LocalReward(folder)

    def reward(prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> Rewards:
        asked = [_messages(rows[int(place)]) for place in prompts]
        answers = [[{"role": "assistant", "content": template.text(ids)}] for ids in completion_ids]
        return with_lowest(model.score(asked, answers), _whole(completion_ids, template))

    reward.__name__ = MODEL
    return reward


def _by_grader(name: str, grader: Grader, rows: Sequence[EncodedRow], template: PolicyTemplate) -> RewardFunction:
    scorer = _loaded(name, grader)

    async def reward(prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> Rewards:
        found: Rewards = []
        why = ""
        for place, ids in zip(prompts, completion_ids, strict=True):
            row = rows[int(place)]
            answer = {"role": "assistant", "content": template.text(ids)}
            [score] = await scorer.score(ScoreRequest(name, _messages(row), [answer], reference=row.reference))
            why = score.error or why
            found.append(score.value)
        if why and not any(row.reference for row in rows) and all(one is None for one in found):
            raise TrainingError(f"The grader {name} can say nothing of any answer: {why}")
        return with_lowest(found, _whole(completion_ids, template))

    # TRL names its metrics by this.
    reward.__name__ = name
    return reward


def _loaded(name: str, grader: Grader) -> ServedScorer:
    config = VerifierConfig(kind="verifier", check=grader.check, options=grader.options)
    try:
        scorer, _ = load(name, config, Loading(ScorerServerConfig()))
    except LoadError as error:
        raise TrainingError(f"The grader {name}: {str(error).replace(f'scorers.{name}.', '')}") from None
    return scorer


def _messages(row: EncodedRow) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = json.loads(row.messages or "[]")
    return messages


def _whole(answers: Sequence[Sequence[int]], template: PolicyTemplate) -> list[bool]:
    return [bool(ids) and ids[-1] in template.ends for ids in answers]
