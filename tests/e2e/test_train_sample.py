"""`bestow train sample` on the running demo: candidates in bulk through the real workers, the same again, going on."""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.stack import PROJECT, Stack
from tests.training.snapshots import side, write_snapshot
from training.data.places import home_of
from training.data.rows import PromptOnly
from training.evaluation.demo_sets import questions
from training.policy.rejection import rated_rows, rejection_of, rounds
from training.policy.sampling import seed_of

TIMEOUT_S = 300
SAMPLES = 24


def run(stack: Stack, snapshot: Path, *more: str) -> str:
    command = ["sample", str(snapshot), "bestow-demo", "--samples", str(SAMPLES), "--max-tokens", "48", *more]
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "train", *command, "--config", str(stack.config_file)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_candidates_of_every_prompt_come_with_rewards_and_are_the_same_again(
    stack: Stack, tmp_path: Path, report: Callable[[str], None]
) -> None:
    rows = [
        PromptOnly(prompt=item.turns[0], side=side(number, source="prompt"))
        for number, item in enumerate(questions()[:5])
    ]
    snapshot = write_snapshot(tmp_path / "snapshot", rows)
    folder = rejection_of(home_of(stack.config), "bestow-demo")
    before = sorted(folder.glob("*")) if folder.exists() else []
    said = run(stack, Path(snapshot.url))
    [path] = folder.glob("round-*.jsonl")
    try:
        found = rounds(folder)
        assert f"{len(rows) * SAMPLES} candidates" in said and len(found) == len(rows)
        for line in found:
            first = seed_of(0, line.side.prompt)
            assert [one.seed for one in line.candidates] == list(range(first, first + SAMPLES))
            usable = [one for one in line.candidates if one.usable]
            assert len(usable) > 1
            assert all(one.reward is not None and math.isfinite(one.reward) for one in usable)
            assert (line.policy, line.reward_model) == ("demo-policy@1", "reward@1")
        written = path.read_bytes()
        run(stack, Path(snapshot.url))
        assert path.read_bytes() == written
        # Half of it was lost: what is sampled again is what was there.
        lines = written.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:2]) + lines[2][:40])
        run(stack, Path(snapshot.url))
        again = {line.side.prompt: line for line in rounds(folder)}
        texts = {line.side.prompt: [one.text for one in line.candidates] for line in found}
        assert {name: [one.text for one in line.candidates] for name, line in again.items()} == texts
        ranked = rated_rows(folder, "train", "reward@1")
        gain = [row.rewards[0] - statistics.fmean(row.rewards) for row in ranked]
        assert len(ranked) == len(rows) and min(gain) > 0
        report(f"the best of up to {SAMPLES} is worth {statistics.fmean(gain):.2f} more than the mean, by reward@1")
    finally:
        for one in sorted(set(folder.glob("*")) - set(before)):
            one.unlink()
