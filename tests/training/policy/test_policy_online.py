"""RLOO and GRPO: advantages against their closed forms, the anchor, rewards, the same again, going on after a kill."""

import json
import math
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.reward.small_world import POLICY, REWARD
from tests.training.snapshots import side
from training.data.rows import PromptOnly
from training.errors import TrainingError
from training.jobs.progress import Step
from training.policy.rewards import with_lowest
from training.policy.settings import Grader, Method, PolicySettings
from training.policy.trainer import Facts, PolicyRows, train

pytestmark = pytest.mark.usefixtures("one_thread")

THINGS = ("bread", "tea", "a garden", "a guitar", "a fence", "soup", "a desk", "rain")
LENGTH = Grader(check="length", options={"unit": "characters", "min": 0, "max": 8, "graded": True})


@pytest.fixture(scope="module")
def ending(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy with a quarter of all tokens as ends: most of its answers are whole ones."""
    folder = tmp_path_factory.mktemp("ending") / "policy"
    shutil.copytree(tiny, folder)
    config = folder / "generation_config.json"
    known = json.loads(config.read_text())
    config.write_text(json.dumps({**known, "eos_token_id": [2, *range(4, 1536, 4)]}))
    return folder


def prompts(count: int, reference: str | None = None) -> PolicyRows:
    return PolicyRows(
        prompts=[
            PromptOnly(
                prompt=[{"role": "user", "content": f"How do I begin with {THINGS[at % 8]} number {at}?"}],
                side=side(at, source="prompt"),
                reference=reference,
            )
            for at in range(count)
        ]
    )


def settings(method: Method, **more: Any) -> PolicySettings:
    known = {"batch": 2, "samples": 4, "max_new_tokens": 12, "rate": 1e-2, "max_steps": 4, "graders": [LENGTH]}
    return PolicySettings.model_validate({"method": method, **known, **more})


def advantages(tiny: Path, folder: Path, how: PolicySettings, rewards: Sequence[float | None]) -> list[float]:
    """What TRL's trainer, as we set it up, makes of given rewards."""
    from training.policy.encoding import encode_rows  # noqa: PLC0415
    from training.policy.online import online_trainer  # noqa: PLC0415

    def given_rewards(prompts: Sequence[str], **_: Any) -> list[float | None]:
        return list(rewards)

    used, _ = encode_rows(prompts(how.batch), tiny, how)
    trainer = online_trainer(used, tiny, how, 0, folder, {"given": given_rewards}, [1.0])
    inputs = [{"prompt": str(place)} for place in range(how.batch) for _ in range(how.samples)]
    found: list[float] = trainer._generate_and_score_completions(inputs)["advantages"].tolist()
    return found


REWARDS = [1.0, 2.0, 4.0, -3.0, 0.5, 0.5, 2.5, 10.0]


def test_rloo_compares_each_answer_with_the_mean_of_the_others(tiny: Path, tmp_path: Path) -> None:
    found = advantages(tiny, tmp_path, settings("rloo"), REWARDS)
    wanted = []
    for group in (REWARDS[:4], REWARDS[4:]):
        wanted += [one - (math.fsum(group) - one) / 3 for one in group]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_grpo_takes_off_the_groups_mean_over_its_deviation(tiny: Path, tmp_path: Path) -> None:
    found = advantages(tiny, tmp_path, settings("grpo"), REWARDS)
    wanted = []
    for group in (REWARDS[:4], REWARDS[4:]):
        middle, spread = statistics.fmean(group), statistics.stdev(group)
        wanted += [(one - middle) / (spread + 1e-4) for one in group]
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_an_answer_that_nobody_can_judge_teaches_nothing(tiny: Path, tmp_path: Path, method: Method) -> None:
    found = advantages(tiny, tmp_path, settings(method), [1.0, None, 3.0, None, *REWARDS[4:]])
    assert found[1] == found[3] == 0
    assert found[0] == pytest.approx(-found[2]) and found[2] > 0


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(-9, 9)), st.booleans()), max_size=8))
def test_an_answer_that_was_cut_off_is_worth_the_least_of_its_batch(answers: list[tuple[float | None, bool]]) -> None:
    found = with_lowest([reward for reward, _ in answers], [whole for _, whole in answers])
    known = [reward for reward, whole in answers if whole and reward is not None]
    for (reward, whole), value in zip(answers, found, strict=True):
        assert value == (reward if whole else min(known, default=None))


def run(base: Path, folder: Path, how: PolicySettings, seed: int = 0, **more: Any) -> Facts:
    return train(prompts(8), base, how, seed, folder / "model", **more)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_same_seed_gives_the_same_weights_and_another_others(ending: Path, tmp_path: Path, method: Method) -> None:
    one, same = (run(ending, tmp_path / name, settings(method)) for name in ("one", "same"))
    other = run(ending, tmp_path / "other", settings(method), seed=1)
    assert one.weights == same.weights != other.weights
    assert rise(one, "length") != 0 and one.measures["cut"][0][1] < 0.5
    assert one.steps == 4 and one.used == {"answers": 32, "prompts": 8}
    assert one.measures["rewards"]["length"] == same.measures["rewards"]["length"]
    assert [step for step, _ in one.measures["kl_per_token"]] == [1, 2, 3, 4]
    assert one.measures["kl_per_token"][0][1] == pytest.approx(0, abs=1e-6)
    assert [path.name for path in sorted((tmp_path / "one" / "points").iterdir())] == ["1", "2", "3", "4"]
    assert (tmp_path / "one" / "model" / "adapter_model.safetensors").is_file()


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_a_run_that_was_killed_goes_on_to_the_same_weights(ending: Path, tmp_path: Path, method: Method) -> None:
    how = settings(method, save_every=2, max_steps=5, micro_batch=1)
    undisturbed = run(ending, tmp_path / "whole", how, checkpoints=tmp_path / "whole" / "checkpoints")

    def kill(step: Step) -> None:
        if step.step == 3:
            raise Killed

    # A progress is told about once a second: here, of each step.
    from training.jobs import looping  # noqa: PLC0415

    seconds, looping._SECONDS_BETWEEN_STEPS_TOLD = looping._SECONDS_BETWEEN_STEPS_TOLD, 0.0
    try:
        with pytest.raises(Killed):
            run(ending, tmp_path / "cut", how, checkpoints=tmp_path / "cut" / "checkpoints", progress=kill)
    finally:
        looping._SECONDS_BETWEEN_STEPS_TOLD = seconds
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    resumed = run(ending, tmp_path / "cut", how, checkpoints=tmp_path / "cut" / "checkpoints")
    assert abs(undisturbed.measures["kl_per_token"][-1][1]) > 1e-4
    assert resumed.weights == undisturbed.weights and resumed.points == undisturbed.points


@pytest.mark.parametrize("lora", [True, False])
def test_who_goes_on_from_another_version_is_still_held_near_the_base(ending: Path, tmp_path: Path, lora: bool) -> None:
    how = settings("rloo", lora=lora, max_steps=2)
    first = run(ending, tmp_path / "first", how)
    again = run(ending, tmp_path / "again", how, start=tmp_path / "first" / "model")
    assert first.measures["kl_per_token"][0][1] == pytest.approx(0, abs=1e-6)
    assert abs(again.measures["kl_per_token"][0][1]) > 1e-3


def test_graders_that_need_a_reference_judge_prompts_that_have_one(ending: Path, tmp_path: Path) -> None:
    how = settings("grpo", graders=[{"check": "exact"}, LENGTH.model_dump()])
    found = train(prompts(8, reference="Start."), ending, how, 0, tmp_path / "model")
    assert found.measures["rewards"]["exact"] and found.measures["rewards"]["length"]
    with pytest.raises(TrainingError, match="grader exact can say nothing"):
        train(prompts(8), ending, settings("grpo", graders=[{"check": "exact"}]), 0, tmp_path / "other")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"graders": []}, "needs something that rewards"),
        ({"batch": 16}, "8 prompts are less than a batch of 16"),
        ({"graders": [{"check": "nonsense"}]}, "there is no check 'nonsense'"),
        ({"graders": [{"check": "regex", "options": {"must_match": ["("]}}]}, "grader regex.*is no regular expression"),
        ({"graders": [LENGTH.model_dump(), LENGTH.model_dump()]}, "two rewards called length"),
    ],
)
def test_what_cannot_be_trained_is_told(tiny: Path, tmp_path: Path, more: dict[str, Any], says: str) -> None:
    how = settings("rloo", **{"max_steps": None, **more})
    with pytest.raises(TrainingError, match=says):
        run(tiny, tmp_path, how)


def rise(facts: Facts, name: str) -> float:
    """The mean reward of the last quarter of the steps less that of the first."""
    values = [value for _, value in facts.measures["rewards"][name]]
    quarter = max(1, len(values) // 4)
    return statistics.fmean(values[-quarter:]) - statistics.fmean(values[:quarter])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "least"), [("rloo", 0.8), ("grpo", 0.4)])
def test_a_few_dozen_steps_raise_the_reward_and_the_kl_is_reported(
    tmp_path: Path, method: Method, least: float
) -> None:
    from training.policy.kl import measure  # noqa: PLC0415

    how = PolicySettings(
        method=method, max_steps=20, batch=8, samples=8, rate=3e-3, beta=0.05, max_new_tokens=64, checkpoints=2
    )
    rows = prompts(64)
    facts = train(rows, POLICY, how, 0, tmp_path / "model", reward=REWARD)
    assert rise(facts, "reward") > least
    moved = measure(tmp_path / "model", POLICY, [row.prompt for row in rows.prompts], max_new_tokens=64)
    assert moved.per_answer.low > 0.2
    # By the trainer's own estimate, on the answers of its last step.
    told = facts.measures["kl_per_token"][-1][1]
    assert moved.per_token.low < 1.5 * told and moved.per_token.high > told / 1.5


@pytest.mark.slow
def test_a_verifiable_reward_rises(tmp_path: Path) -> None:
    how = PolicySettings(
        method="grpo",
        max_steps=20,
        batch=8,
        samples=8,
        rate=3e-3,
        beta=0.01,
        max_new_tokens=48,
        graders=[Grader(check="regex", options={"must_match": ["first"]}, name="says first")],
    )
    facts = train(prompts(64), POLICY, how, 0, tmp_path / "model")
    assert rise(facts, "says first") > 0.3
