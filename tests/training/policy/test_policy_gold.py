"""On the demo world, whose gold judge is known: thumbs make the policy better, and the same thumbs shuffled do not."""

import random
import statistics
from pathlib import Path

import pytest

from tests.training.reward.small_world import POLICY
from tests.training.snapshots import side
from training.data.rows import Unpaired
from training.demo.conversation import Prompt
from training.demo.gold import judge
from training.demo.prompts import held_out
from training.demo.raters import label_prompts
from training.policy.settings import PolicySettings
from training.policy.trainer import PolicyRows, train

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = PolicySettings(method="kto", epochs=2, checkpoints=1)
# Standard errors: a truth that is no better passes one time in 40, and one as good as measured fails rarely.
SURE = 2.0


def answers(folder: Path, prompts: list[Prompt], samples: int, seed: int) -> list[list[str]]:
    from training.policy.encoding import PolicyTemplate  # noqa: PLC0415  # torch
    from training.policy.generating import load_policy, sample_answers  # noqa: PLC0415

    template = PolicyTemplate(POLICY)
    asked = [prompt.as_messages() for prompt in prompts]
    _, ids = sample_answers(load_policy(folder, POLICY), template, asked, samples=samples, max_new_tokens=96, seed=seed)
    texts = [template.text(one) for one in ids]
    return [texts[place : place + samples] for place in range(0, len(texts), samples)]


def golds(prompts: list[Prompt], said: list[list[str]]) -> list[float]:
    """Mean gold of each prompt's answers."""
    return [
        statistics.fmean(judge(prompt.as_messages(), text).total for text in texts)
        for prompt, texts in zip(prompts, said, strict=True)
    ]


def thumbs_by_gold(prompts: list[Prompt], said: list[list[str]]) -> list[Unpaired]:
    """Of each prompt's answers the best and the worst."""
    rows: list[Unpaired] = []
    for prompt, texts in zip(prompts, said, strict=True):
        ranked = sorted(texts, key=lambda text: judge(prompt.as_messages(), text).total)
        for up, text in ((True, ranked[-1]), (False, ranked[0])):
            completion = [{"role": "assistant", "content": text}]
            rows.append(
                Unpaired(
                    prompt=prompt.as_messages(), completion=completion, label=up, side=side(len(rows), source="thumbs")
                )
            )
    return rows


def shuffled(rows: list[Unpaired]) -> list[Unpaired]:
    labels = [row.label for row in rows]
    random.Random(0).shuffle(labels)
    return [
        Unpaired(prompt=row.prompt, completion=row.completion, label=label, side=row.side)
        for row, label in zip(rows, labels, strict=True)
    ]


def gain(folder: Path, prompts: list[Prompt], before: list[float]) -> tuple[float, float]:
    """By how much gold is higher, and the standard error of that, over prompts."""
    differences = [new - old for new, old in zip(golds(prompts, answers(folder, prompts, 6, 1)), before, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5


@pytest.mark.slow
def test_thumbs_make_the_policy_better_and_shuffled_ones_do_not(tmp_path: Path) -> None:
    asked = label_prompts(200, seed=900)
    rows = thumbs_by_gold(asked, answers(POLICY, asked, 6, 0))
    assert len(rows) == 400
    test = held_out(80, seed=901)
    before = golds(test, answers(POLICY, test, 6, 1))
    train(PolicyRows(thumbs=rows), POLICY, SETTINGS, 0, tmp_path / "thumbs/model")
    train(PolicyRows(thumbs=shuffled(rows)), POLICY, SETTINGS, 0, tmp_path / "shuffled/model")
    better, error = gain(tmp_path / "thumbs/model", test, before)
    control, control_error = gain(tmp_path / "shuffled/model", test, before)
    print(f"gold {better:+.3f} +- {error:.3f}, shuffled {control:+.3f} +- {control_error:.3f}")
    assert better > SURE * error
    assert control < SURE * control_error
    assert better - control > SURE * (error**2 + control_error**2) ** 0.5
