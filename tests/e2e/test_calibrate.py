"""`bestow calibrate` on the running demo: labelled sentences of its held-out wordings, and answers that it logged."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from scorers.calibration.calibration import read_calibration
from tests.e2e.stack import PROJECT, Stack
from training.demo.prompts import held_out_prompts
from training.demo.safety import CATEGORIES, harmless_sentence, unsafe_sentence


def calibrate(
    stack: Stack, *arguments: str, config: Path | None = None, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    file = str(config or stack.config_file)
    command = [sys.executable, "-m", "gateway.cli", "calibrate", *arguments, "--config", file]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=timeout_s, check=False)


def labelled_lines(each: int) -> list[dict[str, Any]]:
    rng = random.Random(12)
    prompts = iter(held_out_prompts(each * (len(CATEGORIES) + 2), seed=31))
    unsafe = [(unsafe_sentence(one, rng, "test"), [one]) for one in CATEGORIES for _ in range(each)]
    harmless: list[tuple[str, list[str]]] = [(harmless_sentence(rng, "test"), []) for _ in range(2 * each)]
    return [{"prompt": next(prompts), "answer": text, "labels": labels} for text, labels in unsafe + harmless]


def test_thresholds_for_a_share_of_false_alarms_are_measured_written_and_drawn(stack: Stack, tmp_path: Path) -> None:
    labelled, out = tmp_path / "labelled.jsonl", tmp_path / "safety.json"
    labelled.write_text("\n".join(json.dumps(line) for line in labelled_lines(30)))
    done = calibrate(
        stack, "safety", "safety", "--labelled", str(labelled), "--false-alarms", "0.05", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    found = read_calibration(out, "safety@1")
    assert set(found.categories) == set(CATEGORIES)
    # The classifier tells these apart, so a harmless-looking threshold must still find most of them.
    assert all(fit.unsafe == 30 and fit.texts == 30 * (len(CATEGORIES) + 2) for fit in found.categories.values())
    assert "category_thresholds" in done.stdout
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


async def test_the_law_of_the_reward_is_that_of_the_answers_in_the_log(
    stack: Stack, many: AsyncOpenAI, tmp_path: Path
) -> None:
    prompts = held_out_prompts(12, seed=32)
    await asyncio.gather(
        *(many.chat.completions.create(model="bestow-demo", messages=list(one)) for one in prompts)  # type: ignore[arg-type]
    )
    out = tmp_path / "reward.json"
    done = await asyncio.to_thread(calibrate, stack, "reward", "reward", "--last", "40", "--out", str(out))
    assert done.returncode == 0, done.stderr
    law = read_calibration(out, "reward@1").reward
    assert law is not None
    assert law.reference == "demo-policy@1"
    assert law.count >= 40
    assert law.rank(law.mean) == pytest.approx(0.5, abs=0.25)
    assert out.with_suffix(".png").exists()


def test_the_gateway_samples_for_a_law_of_given_prompts(stack: Stack, tmp_path: Path) -> None:
    """With the file that the stack was started with, which has no addresses in it."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "reward.json"
    prompts.write_text("\n".join(json.dumps({"prompt": one}) for one in held_out_prompts(6, seed=33)))
    done = calibrate(
        stack, "reward", "reward", "--prompts", str(prompts), "--model", "bestow-demo", "--answers", "4",
        "--out", str(out), config=stack.log_file.parent / "bestow.yaml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    law = read_calibration(out, "reward@1").reward
    assert law is not None
    assert 12 <= law.count <= 24


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("safety", "nothing", "--labelled", "x.jsonl", "--recall", "0.9"), "There is no scorer 'nothing'"),
        (("safety", "reward", "--labelled", "x.jsonl", "--recall", "0.9"), "gives no categories"),
        (("safety", "safety", "--labelled", "x.jsonl"), "either --false-alarms or --recall"),
        (("safety", "safety", "--labelled", "nowhere.jsonl", "--recall", "0.9"), "nowhere.jsonl cannot be read"),
        (("reward", "safety"), "gives no value"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence(stack: Stack, arguments: tuple[str, ...], words: str) -> None:
    done = calibrate(stack, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
