"""`python -m training.demo`: makes the three demo models and their figures, stage by stage.

Stages, in order: policy, reward, safety, figures. Each reads what the ones before it left in the output folder, so
a later stage can be made again alone. The same seed, machine and thread count give the same weights.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.demo.evaluate import evaluate, markdown
from training.demo.modelling import load_policy
from training.demo.raters import label_prompts, sampled_groups, written_groups
from training.demo.sampling import sample_answers
from training.demo.tokenizer import build_tokenizer
from training.demo.train_policy import PolicySettings, save_policy, train_policy
from training.demo.train_reward import RewardSettings, save_reward, train_reward
from training.demo.train_safety import SafetySettings, sampled_examples, save_safety, train_safety

STAGES = ("policy", "reward", "safety", "figures")
DEFAULT_FOLDER = Path(__file__).parent / "models"
_SAMPLED_PROMPTS = 1600
_WRITTEN_PROMPTS = 5000
_GROUP = 4
_GUARD_PROMPTS = 400


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.demo",
        description=(
            "Train the demo world's chat policy, reward model and safety classifier from scratch (about one million "
            "parameters each) and measure them. Takes about 20 minutes on two idle cores."
        ),
        epilog=(
            "examples:  python -m training.demo                              everything, into training/demo/models\n"
            "           python -m training.demo --stages figures             measure the models that are there\n"
            "           python -m training.demo --seed 7 --out /tmp/other    another world's worth of models"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_FOLDER, help="folder for policy/, reward/, safety/ and figures.json"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and sampling (default 0)")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="torch threads, and processes that sample; weights depend on it in the last bits (default 2)",
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        metavar="STAGE",
        help=f"which of {', '.join(STAGES)} to run (default all)",
    )
    return parser.parse_args()


class Stages:
    """Runs stages with a progress bar each."""

    def __init__(self, folder: Path, seed: int, threads: int, bars: Progress) -> None:
        self.folder, self.seed, self.threads, self._bars = folder, seed, threads, bars

    def _bar(self, what: str, total: int) -> Callable[[int, float], None]:
        task: TaskID = self._bars.add_task(what, total=total)
        tenths = 0

        def advance(done: int, loss: float) -> None:
            nonlocal tenths
            text = f"{what}  loss {loss:.3f}" if loss else what
            self._bars.update(task, completed=done, description=text)
            # A log file shows no moving bar: there, a line per tenth.
            if not self._bars.console.is_terminal and done * 10 // total > tenths:
                tenths = done * 10 // total
                self._bars.console.print(f"{text}  {done}/{total}")

        return advance

    def policy(self) -> None:
        """Tokenizer and chat policy."""
        settings = PolicySettings(seed=self.seed)
        tokenizer = build_tokenizer(self.seed)
        model, facts = train_policy(tokenizer, settings, self._bar("train policy", settings.steps))
        save_policy(model, tokenizer, self.folder / "policy", facts)

    def reward(self) -> None:
        """Reward model, on rated samples of the policy and rated written answers."""
        policy, tokenizer = load_policy(self.folder / "policy")
        prompts = label_prompts(_SAMPLED_PROMPTS, self.seed)
        bar = self._bar("sample for labels", _SAMPLED_PROMPTS * _GROUP)
        answers = sample_answers(
            policy, tokenizer, prompts, _GROUP, self.seed + 10, lambda done: bar(done, 0.0), self.threads
        )
        groups = sampled_groups(prompts, answers, self.seed) + written_groups(_WRITTEN_PROMPTS, _GROUP, self.seed)
        settings = RewardSettings(seed=self.seed)
        steps = settings.epochs * -(-len(groups) // settings.groups_per_step)
        model, facts = train_reward(policy, tokenizer, groups, settings, self._bar("train reward model", steps))
        save_reward(model, tokenizer, self.folder / "reward", facts)

    def safety(self) -> None:
        """Safety classifier, on the world's texts, on text from outside it and on samples of the policy."""
        policy, tokenizer = load_policy(self.folder / "policy")
        prompts = label_prompts(_GUARD_PROMPTS, self.seed + 2)
        bar = self._bar("sample for the guard", _GUARD_PROMPTS * _GROUP)
        answers = sample_answers(
            policy, tokenizer, prompts, _GROUP, self.seed + 20, lambda done: bar(done, 0.0), self.threads
        )
        settings = SafetySettings(seed=self.seed)
        model, facts = train_safety(
            policy,
            tokenizer,
            sampled_examples(prompts, answers),
            settings,
            self._bar("train safety classifier", settings.steps),
        )
        save_safety(model, tokenizer, self.folder / "safety", facts)

    def figures(self) -> str:
        """All figures, as a Markdown table."""
        shown: dict[str, Callable[[int, float], None]] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = self._bar(f"sample {what}", total)
            shown[what](done, 0.0)

        return markdown(evaluate(self.folder, self.seed, report, self.threads))


def main() -> None:
    """Run the chosen stages in order and print how long each took."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    timings: list[str] = []
    table = ""
    with Progress(*columns, console=console) as bars:
        stages = Stages(arguments.out, arguments.seed, arguments.threads, bars)
        runs: dict[str, Callable[[], str | None]] = {
            "policy": stages.policy,
            "reward": stages.reward,
            "safety": stages.safety,
            "figures": stages.figures,
        }
        for name in (stage for stage in STAGES if stage in arguments.stages):
            wall, cpu = time.monotonic(), sum(os.times()[:4])
            table = runs[name]() or table
            timings.append(f"{name}: {time.monotonic() - wall:.0f} s wall, {sum(os.times()[:4]) - cpu:.0f} s of CPU")
    for line in timings:
        console.print(line)
    if table:
        print(table)


if __name__ == "__main__":
    main()
