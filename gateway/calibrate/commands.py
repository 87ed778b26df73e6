"""`bestow calibrate`: measure what a scorer's numbers mean, and what a model gains by them, on a stack that runs."""

import time
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
import yaml
from rich.console import Console
from rich.table import Table

from gateway.calibrate.command_line import ConfigOption, KeyOption, fail, progress, run
from gateway.calibrate.model_command import ModelFirst, model, show
from gateway.calibrate.sampling import sample_answers
from gateway.calibrate.scoring import Found, find_scorer, raw_scores
from gateway.calibrate.texts import Text, logged_answers, read_labelled, read_prompts
from gateway.config import Config
from gateway.errors import StartError
from gateway.log import streams
from gateway.log.archive.opening import archive_of
from gateway.log.connection import connect, redis_address
from gateway.workers.admin_client import find_gateway
from scorers.calibration.calibration import FORMAT, Calibration, write_calibration
from scorers.calibration.drawing import CategoryDrawing, draw_categories, draw_law
from scorers.calibration.fitting import CategoryResult, Target, fit_category
from scorers.calibration.quantiles import law_of
from scorers.calibration.temperature import scaled
from scorers.contract import Score

calibrate_app = typer.Typer(
    cls=ModelFirst,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Measure what a model gains by more answers, and what a reward or a probability means.

    The stack must be running (`bestow up`).

    \b
      bestow calibrate bestow-demo --prompts prompts.jsonl     a model: what n, price and halving buy and cost
      bestow calibrate reward reward                           a reward model: the quantiles of its rewards
      bestow calibrate safety safety --labelled l.jsonl ...    a guard: temperatures and thresholds

    A first word that is none of the commands below is a model; for one that has their name: calibrate model reward.
    """,
)
calibrate_app.command("model")(model)
calibrate_app.command("show")(show)
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Where to write.  (default: calibration/SCORER@N.json, and .png beside it)")
]


_COLUMNS = (
    "category", "texts", "unsafe", "T", "ECE before", "after", "AP", "threshold", "recall", "false alarms"
)  # fmt: skip


@calibrate_app.command()
def safety(
    scorer: Annotated[str, typer.Argument(help="A scorer that gives categories.")],
    labelled: Annotated[
        Path,
        typer.Option(
            help='Lines of {"prompt": ..., "answer": ..., "labels": [...]}; no answer where the prompt is judged.'
        ),
    ],
    false_alarms: Annotated[
        float | None, typer.Option(min=0, max=1, help="Largest share of harmless texts that may be flagged.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Smallest share of unsafe texts that must be found.")
    ] = None,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Fit a temperature to each category, and choose thresholds for a share of false alarms or a recall.

    \b
    Example:
      bestow calibrate safety safety --labelled labelled.jsonl --false-alarms 0.01
    """
    if (false_alarms is None) == (recall is None):
        fail(StartError("Say either --false-alarms or --recall: what the thresholds are for."))
    target = Target(false_alarms, recall)

    async def work(settings: Config, session: aiohttp.ClientSession) -> None:
        found = await find_scorer(settings, scorer, session)
        if found.info.gives != "categories":
            raise StartError(f"The scorer {scorer} gives no categories: `bestow calibrate reward` is for it.")
        texts = read_labelled(labelled, found.info.categories)
        scores = await _scored(found, texts)
        _calibrate_categories(found, texts, scores, target, out)

    run(config, work)


@calibrate_app.command()
def reward(
    scorer: Annotated[str, typer.Argument(help="A scorer that gives a value.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help='Lines of {"prompt": ...}: the gateway samples answers to them. Without it: the log.'),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The public model whose policy is the reference.")] = None,
    answers: Annotated[int, typer.Option(min=1, max=128, help="Answers to each prompt.")] = 8,
    last: Annotated[int, typer.Option(min=1, help="How many of the log's interactions.")] = 500,
    out: OutOption = None,
    config: ConfigOption = None,
    key: KeyOption = None,
) -> None:
    """Measure the law of a reward under the policy: a reward's quantile, mean and deviation.

    \b
    Examples:
      bestow calibrate reward reward                                        # answers in the log
      bestow calibrate reward reward --prompts prompts.jsonl --model bestow-demo --answers 8
    """

    async def work(settings: Config, session: aiohttp.ClientSession) -> None:
        found = await find_scorer(settings, scorer, session)
        if found.info.gives != "value" or found.info.relative:
            raise StartError(f"The scorer {scorer} gives no value that means something by itself, which has a law.")
        if prompts is None:
            texts, policy = await _logged(settings, last, model)
        else:
            asked = read_prompts(prompts)
            public = model or next(iter(settings.models), "")
            with progress("sampling", len(asked)) as done:
                texts, policy = await sample_answers(find_gateway(None, config, key), asked, public, answers, done)
        scores = await _scored(found, texts)
        rewards = [score.value for score in scores if score.value is not None]
        try:
            law = law_of(rewards, policy)
        except ValueError as error:
            raise StartError(f"{error}.") from None
        path = _path(found, out)
        write_calibration(path, Calibration(FORMAT, found.info.version, time.time(), reward=law))
        draw_law(found.info.version, rewards, law, path.with_suffix(".png"))
        console = Console(highlight=False)
        console.print(
            f"{law.count} answers of {policy}: mean {law.mean:.3f}, deviation {law.deviation:.3f}, "
            f"10 % below {_quantile(law.quantiles, 0.1):.3f}, 90 % below {_quantile(law.quantiles, 0.9):.3f}."
        )
        _tell(console, found, path, {})

    run(config, work)


def _calibrate_categories(
    found: Found, texts: list[Text], scores: list[Score], target: Target, out: Path | None
) -> None:
    rows = [(text, score.categories) for text, score in zip(texts, scores, strict=True) if score.categories]
    prompts = [text.prompt for text, _ in rows]
    results: dict[str, CategoryResult] = {}
    console = Console(highlight=False)
    drawings = []
    for category in found.info.categories:
        labels = [category in text.labels for text, _ in rows]
        probabilities = [categories[category] for _, categories in rows]
        try:
            result = results[category] = fit_category(prompts, probabilities, labels, target)
        except ValueError as error:
            console.print(f"{category}: not calibrated; {error}.")
            continue
        after = [scaled(one, result.fit.temperature) for one in probabilities]
        chosen = None if isinstance(result.chosen, str) else result.chosen
        drawings.append(CategoryDrawing(category, labels, probabilities, after, chosen))
    if not results:
        raise StartError("No category has enough labelled texts to be calibrated.")
    path = _path(found, out)
    fits = {name: result.fit for name, result in results.items()}
    write_calibration(path, Calibration(FORMAT, found.info.version, time.time(), categories=fits))
    draw_categories(found.info.version, drawings, path.with_suffix(".png"))
    console.print(_table(results))
    points = {name: result.chosen for name, result in results.items()}
    thresholds = {name: round(point.threshold, 6) for name, point in points.items() if not isinstance(point, str)}
    _tell(console, found, path, thresholds)


def _table(results: dict[str, CategoryResult]) -> Table:
    caption = "recall and false alarms: on texts that the threshold was not chosen on"
    table = Table(box=None, pad_edge=False, caption=caption)
    for column in _COLUMNS:
        table.add_column(column)
    for name, one in results.items():
        fit = one.fit
        table.add_row(
            name,
            str(fit.texts),
            str(fit.unsafe),
            f"{fit.temperature:.2f}",
            f"{fit.ece_before:.3f}",
            f"{fit.ece_after:.3f}",
            f"{one.average_precision:.3f}",
            one.chosen if isinstance(one.chosen, str) else f"{one.chosen.threshold:.4g}",
            str(one.recall or ""),
            str(one.false_alarms or ""),
        )
    return table


def _tell(console: Console, found: Found, path: Path, thresholds: dict[str, float]) -> None:
    console.print(f"Wrote {path} and {path.with_suffix('.png')}. In the configuration:\n", soft_wrap=True)
    settings: dict[str, Any] = {"scorers": {found.info.id: {"calibration": str(path)}}}
    if thresholds:
        settings["profiles"] = {"NAME": {"category_thresholds": thresholds}}
    console.print(yaml.safe_dump(settings, sort_keys=False), soft_wrap=True, markup=False)


async def _logged(settings: Config, last: int, model: str | None) -> tuple[list[Text], str]:
    redis = connect(redis_address(settings.redis))
    try:
        archive = archive_of(settings.log.archive, settings.data_dir)
        logged = await streams.interactions(redis, settings.log.shard, archive).last(last)
    finally:
        await redis.aclose()
    return logged_answers([one.record for one in logged], model)


async def _scored(found: Found, texts: list[Text]) -> list[Score]:
    with progress("scoring", len(texts)) as done:
        scores = await raw_scores(found, texts, done)
    failed = [score.error for score in scores if score.error is not None]
    if failed:
        Console(stderr=True).print(f"{len(failed)} of {len(texts)} texts have no score, such as: {failed[0]}")
    return scores


def _path(found: Found, out: Path | None) -> Path:
    return out or Path("calibration") / f"{found.info.version}.json"


def _quantile(quantiles: list[float], rank: float) -> float:
    return quantiles[round(rank * (len(quantiles) - 1))]
