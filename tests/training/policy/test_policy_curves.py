"""Curves of a training: which checkpoint is taken, what is measured at each point, and the picture."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.launch.demo import DEMO_MODELS, PROJECT
from training.errors import TrainingError
from training.evaluation.intervals import Estimate
from training.evaluation.items import Item
from training.policy.curves import Curves, Point, Readers, choose, measure_curves, points_in
from training.policy.kl import KL
from training.policy.plots import distance, draw

MODELS = PROJECT / DEMO_MODELS
POLICY = MODELS / "policy"


def at(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value, value - half, value + half, 50, 50)


def moved(nats: float, half: float = 0.1) -> KL:
    return KL(
        per_answer=at(nats, half),
        per_token=at(nats / 20),
        per_answer_sampled=at(nats, 2 * half),
        per_token_sampled=at(nats / 20),
        tokens=1000,
        cut=0.0,
        max_new_tokens=64,
        seed=0,
    )


def point(
    step: int, proxy: float | None, nats: float = 1.0, *, holdout: float | None = None, half: float = 0.1
) -> Point:
    return Point(
        step=step,
        proxy=None if proxy is None else at(proxy),
        holdout=None if holdout is None else at(holdout),
        kl=moved(nats, half),
        characters=at(80, 5),
        tokens=at(20, 2),
        unsafe=at(0.1, 0.05),
        refusals=at(0.02, 0.01),
    )


def test_the_best_proxy_within_the_limit_is_taken() -> None:
    points = [point(0, 9.0, 0.0), point(10, 1.0, 2.0), point(20, 2.0, 4.0), point(30, 3.0, 12.0)]
    assert choose(points, 10.0) == 20
    assert choose(points, 20.0) == 30
    assert choose(points, 3.0) == 10


def test_a_kl_that_is_not_surely_under_the_limit_is_over_it() -> None:
    assert choose([point(10, 1.0, 2.0), point(20, 2.0, 9.5, half=0.6)], 10.0) == 10


def test_of_equals_the_earlier_is_taken_and_never_the_anchor_itself() -> None:
    assert choose([point(0, 5.0, 0.0), point(10, 2.0), point(20, 2.0)], 10.0) == 10
    assert choose([point(0, 5.0, 0.0)], 10.0) is None
    assert choose([point(10, 2.0, 30.0)], 10.0) is None
    assert choose([point(10, None)], 10.0) is None


def test_the_holdout_has_no_say() -> None:
    points = [point(10, 1.0, holdout=9.0), point(20, 2.0, holdout=-9.0)]
    assert choose(points, 10.0) == 20


def test_points_are_found_by_step(tmp_path: Path) -> None:
    for name in ("100", "20", "3", ".partial", "other"):
        (tmp_path / "points" / name).mkdir(parents=True)
    assert list(points_in(tmp_path)) == [3, 20, 100]


def test_the_picture_is_small_the_same_again_and_drawn_of_what_there_is() -> None:
    points = [point(step, math.log1p(step), step / 8, holdout=math.log1p(step) / 2) for step in range(0, 80, 5)]
    curves = Curves(points=points, chosen=75, kl_limit=10.0)
    picture = draw(curves, "demo-policy@2")
    assert picture.startswith(b"\x89PNG") and len(picture) < 150_000
    assert draw(curves, "demo-policy@2") == picture
    bare = [msgspec.structs.replace(one, unsafe=None, refusals=None, proxy=None, holdout=None) for one in points[:2]]
    assert draw(Curves(points=bare, chosen=None, kl_limit=10.0), "x").startswith(b"\x89PNG")


def test_distance_is_the_root_of_the_kl() -> None:
    assert distance(point(1, 1.0, 4.0)) == 2.0 and distance(point(1, 1.0, -1e-9)) == 0.0


def items(count: int) -> list[Item]:
    things = ("tea", "bread", "a desk", "soup", "rain", "a fence", "a guitar", "a garden")
    return [
        Item(
            id=f"q{number}",
            turns=[[{"role": "user", "content": f"How do I begin with {things[number % 8]} number {number}?"}]],
            label="unsafe" if number % 2 else "benign",
        )
        for number in range(count)
    ]


def moved_adapter(folder: Path, scale: float) -> Path:
    """A LoRA that shifts the demo policy by noise of that size."""
    import torch  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(0, scale)
    model.save_pretrained(folder)
    return folder


def test_each_point_is_measured_with_intervals_and_the_anchor_has_not_moved(tmp_path: Path) -> None:
    points = {5: moved_adapter(tmp_path / "points" / "5", 0.02), 10: moved_adapter(tmp_path / "points" / "10", 0.2)}
    assert points_in(tmp_path) == points
    told: list[None] = []
    readers = Readers(proxy=MODELS / "reward", holdout=MODELS / "reward", safety=MODELS / "safety")
    curves = measure_curves(
        points, POLICY, items(8), readers, max_new_tokens=32, kl_limit=3.0, done=lambda: told.append(None)
    )
    anchor, near, far = curves.points
    assert len(told) == 3 and [one.step for one in curves.points] == [0, 5, 10]
    assert anchor.kl.per_answer.value == 0 < near.kl.per_answer.value < far.kl.per_answer.value
    assert curves.chosen == 5
    for one in curves.points:
        assert one.proxy is not None and one.proxy == one.holdout and one.proxy.low < one.proxy.value < one.proxy.high
        assert one.unsafe is not None and one.refusals is not None
        assert (one.unsafe.prompts, one.refusals.prompts) == (4, 4)
        assert one.characters.value > one.tokens.value > 1
    assert msgspec.json.decode(msgspec.json.encode(curves), type=Curves) == curves
    again = measure_curves({5: points[5]}, POLICY, items(8), readers, max_new_tokens=32, kl_limit=3.0)
    assert again.points[1] == near


def test_one_prompt_alone_gives_no_curves(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="two calibration prompts"):
        measure_curves({}, POLICY, items(1), Readers())
