"""`bestow train card`, `reward-report`, `reward-bench`: how good a reward model is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.table import Table

from gateway.shared.command_line import plain, print_json, print_table
from gateway.shared.progress import bar
from training.data.finding import find_snapshot, home_at
from training.data.places import NAME_DIGITS, reward_models_of
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.reward.comparing import Comparison
    from training.reward.report import Report

# ruff: noqa: PLC0415  # torch, scipy, matplotlib: seconds

# As `training.reward.samples` has it, which loads torch.
_MOST_ROWS = 20_000

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A version such as reward@3, or a folder with a reward model.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file.  [default: .bestow/run.yaml, else bestow.yaml]"),
]


def card(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version such as reward@3, or its folder.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the card of a reward model: how good it is, and on whose words.

    \b
      bestow train card reward@3
    """
    from training.reward.card import read_report
    from training.reward.versions import read_card

    folder = _model_of(version, home_at(config))
    report = read_report(folder)
    if as_json:
        print_json(msgspec.to_builtins(read_card(folder)))
        return
    _print_report(report)
    print(plain(f"Also in {folder / 'README.md'}."))


def reward_report(
    model: ModelArgument,
    snapshot: Annotated[
        str, typer.Option("--snapshot", "-s", help="A snapshot: its id as `bestow train snapshot` said it, or its URL.")
    ],
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="Compare with this one, on the same pairs.")
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="With --against: by how much less agreement is still as good.")
    ] = 0.01,
    split: Annotated[
        Literal["test", "calibration"], typer.Option(help="Of the snapshot: what nothing was trained on.")
    ] = "test",
    most: Annotated[
        int, typer.Option(min=1, help="Rows of each kind to score; of more, always the same are drawn.")
    ] = _MOST_ROWS,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Measure any reward model on a snapshot's held-out rows; or one against another.

    Agreement with its ceiling, calibration, length, with intervals that take prompts that are nearly the same as one.

    \b
      bestow train reward-report Skywork/Skywork-Reward-V2-Qwen3-0.6B --snapshot 3f9a1c22b7e0
      bestow train reward-report reward@4 --snapshot 3f9a1c22b7e0 --against reward@3
    """
    from training.reward.reporting import against as measure_against
    from training.reward.reporting import measure

    home = home_at(config)
    found = find_snapshot(snapshot, home)
    folder = _model_of(model, home)
    if against is not None:
        other = _model_of(against, home)
        with _bar("Scoring answers") as tell:
            comparison = measure_against(folder, other, found, split=split, most=most, advance=tell)
        _show_comparison(comparison, margin, as_json)
        return
    a, b, weights = _known_of(folder)
    with _bar("Scoring answers") as tell:
        report = measure([folder], found, model=weights, a=a, b=b, split=split, most=most, advance=tell)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        _print_report(report)


def reward_bench(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(help="JSON, JSON lines or Parquet: prompt, chosen, rejected, subset, and id for Ties.")
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Evaluate a reward model on a local file in the layout of RewardBench 2, by subset. Nothing is downloaded.

    \b
      bestow train reward-bench reward@3 rewardbench2.parquet
    """
    from training.reward.lines import HEADS, bench_lines
    from training.reward.reporting import bench

    folder = _model_of(model, home_at(config))
    with _bar("Scoring answers") as tell:
        found = bench(folder, file, tell)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    _print_lines(HEADS, bench_lines(found))


def _model_of(given: str, home: Path) -> Path:
    """A version's folder by its name, else as it is given: a folder or a Hugging Face id. Raises TrainingError."""
    named = reward_models_of(home) / given
    if "/" not in given and named.is_dir():
        return named
    if "@" in given and not Path(given).is_dir():
        made = sorted(path.name for path in reward_models_of(home).glob("*@*"))
        raise TrainingError(f"There is no version {given}; there are {', '.join(made) or 'none'}.")
    from training.jobs.models import base_folder

    return base_folder(given)


def _known_of(folder: Path) -> tuple[float | None, float | None, str]:
    """a and b where a card says them, and the digest of the weights."""
    from training.jobs.models import weights_digest
    from training.reward.card import label_scale
    from training.reward.versions import CARD, read_card

    if not (folder / CARD).is_file():
        return None, None, weights_digest(folder)
    card = read_card(folder)
    return *label_scale(card), card.weights


def _print_report(report: "Report") -> None:
    from training.reward.lines import HEADS, tables

    for title, lines in tables(report):
        print(f"\n{title}")
        _print_lines(HEADS, lines)
    rows = ", ".join(f"{count:,} {kind}" for kind, count in report.rows.items())
    print(plain(f"\nSplit {report.split} of snapshot {report.snapshot[:NAME_DIGITS]}: {rows}. Seed {report.seed}."))
    if report.pairs is None and report.thumbs is None:
        print("There is nothing to measure: nobody said anything about the prompts of this split.")


def _print_lines(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    table = Table(*heads)
    for line in lines:
        table.add_row(*map(plain, line))
    print_table(table)


def _show_comparison(found: "Comparison", margin: float, as_json: bool) -> None:
    if as_json:
        print_json({**msgspec.to_builtins(found), "margin": margin, "non_inferior": found.non_inferior(margin)})
        return
    one = found.difference
    print(f"Agreement, new less old: {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})")
    print(f"{one.rows:,} pairs about {one.groups:,} prompts; design effect {found.design_effect:.2f}")
    print(
        f"Right alone: new {found.only_new:g}, old {found.only_old:g}; McNemar p = {found.p_value:.3g} "
        "(takes pairs as independent)"
    )
    verdict = "not worse" if found.non_inferior(margin) else "may be worse"
    print(f"The new one is {verdict} by {margin:g} (2.5 % one-sided).")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int], None]]:
    with bar() as shown:
        task = shown.add_task(what, total=None)
        yield lambda count: shown.advance(task, count)
