"""`bestow calibrate MODEL`: measure a model's card, draw it, say what it recommends, and publish it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
import msgspec
import typer
from msgspec.structs import replace
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from gateway.calibrate.command_line import ConfigOption, KeyOption, fail, progress, run
from gateway.calibrate.measured import Measurements, prompt_print
from gateway.calibrate.recommend import DEFAULT_TARGETS, parse_target, recommendations
from gateway.calibrate.sampling_model import (
    TIMED_PROMPTS,
    TIMED_TIMES,
    Asked,
    Logged,
    Prompt,
    ask_what_is_served,
    last_of_others,
    logged_prompts,
    sample,
    score_beginnings,
    time_requests,
)
from gateway.calibrate.scoring import find_scorer
from gateway.calibrate.texts import read_prompts
from gateway.config import Config
from gateway.decoding.card import ModelCard
from gateway.errors import StartError
from gateway.log.connection import connect, redis_address
from gateway.workers.admin_client import AdminClient, find_gateway

# ruff: noqa: PLC0415
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A public model, as GET /v1/models lists it.")]


class ModelFirst(TyperGroup):
    """Commands, where a first word that is none of them is a model to measure."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = not args or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else ["model", *args])


def model(
    name: ModelArgument,
    prompts: Annotated[
        Path | None, typer.Option(help='Lines of {"prompt": text or messages}. Without it: the prompts in the log.')
    ] = None,
    last: Annotated[int, typer.Option(min=2, help="How many of the log's interactions, without --prompts.")] = 200,
    answers: Annotated[int, typer.Option(min=2, max=128, help="Answers to each prompt: the largest n measured.")] = 32,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="What to recommend settings for: gain=0.9 (of what the largest n gains), tokens=2000 or latency=1500 "
            "(ms) a request, flagged=0.01 (share of answers a category may flag). Can be repeated.  (default: gain=0.9)"
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Sample by this profile, a best_of_n one, instead of the model's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; .png, .html and .measured.jsonl beside it.  (default: calibration/MODEL.card.json)"
        ),
    ] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Write the card, and give the gateways none.")
    ] = False,
    config: ConfigOption = None,
    key: KeyOption = None,
) -> None:
    """Measure a model's card: what more answers buy and cost, and what a profile should say for a target.

    Answers to each prompt are sampled through the running gateway and scored: the law of rewards, the reward of the
    best of n with its interval, tokens and latency by n, how well the reward of a beginning foretells the final one
    (what halving needs), reward by length, and the guard's probabilities. 100 prompts or more like those that users
    send make a good card; the intervals say how good.

    The card holds for the policy and the reward model that were measured: early stopping begins with its law, halving
    runs only where its correlations allow it, and length calibration needs it. Measure again after either changed.

    What was measured is kept in the .measured.jsonl file: a run that was cut off goes on from there, and another
    --target costs nothing. It has the answers' texts; delete it when you do not need it. An API key needs the scopes
    chat and admin.

    \b
    Examples:
      bestow calibrate bestow-demo --prompts prompts.jsonl
      bestow calibrate bestow-demo --prompts prompts.jsonl --answers 16 --target gain=0.95 --target latency=1500
      bestow calibrate bestow-demo --last 500 --no-publish
      bestow calibrate show bestow-demo                        the card that the gateways have
    """
    try:
        targets = [parse_target(one) for one in target or ()] or list(DEFAULT_TARGETS)
    except ValueError as error:
        fail(StartError(f"--target: {error}."))
    path = out or Path("calibration") / f"{name}.card.json"

    async def work(settings: Config, session: aiohttp.ClientSession) -> None:
        gateway = find_gateway(None, config, key)
        redis = connect(redis_address(settings.redis))
        try:
            asked = await ask_what_is_served(gateway, name, profile, answers)
            wanted = await _prompts(redis, settings, prompts, name, last)
            kept = Measurements(path.with_suffix(".measured.jsonl"), asked.setup)
            _say_what_is_there(kept, wanted)
            card = await _measured(gateway, redis, settings, session, asked, wanted, kept)
        finally:
            await redis.aclose()
        card = replace(card, recommendations=recommendations(card, targets))
        _write(card, path)
        console = Console(highlight=False)
        _tell(console, card)
        console.print(f"Wrote {path}, {path.with_suffix('.png')} and {path.with_suffix('.html')}.", soft_wrap=True)
        if no_publish:
            return
        body = {"card": msgspec.to_builtins(card), "reason": f"measured on {card.prompts} prompts"}
        gateway.call("PUT", _place(name), body)
        console.print("Published: every gateway has it within about a second.")

    run(config, work)


def show(name: ModelArgument, config: ConfigOption = None, key: KeyOption = None) -> None:
    """Print the card that the gateways have of a model.

    \b
    Example:
      bestow calibrate show bestow-demo
    """
    found = find_gateway(None, config, key).call("GET", _place(name))
    _tell(Console(highlight=False), msgspec.convert(found["card"], ModelCard))


async def _measured(
    gateway: AdminClient,
    redis: Redis,
    settings: Config,
    session: aiohttp.ClientSession,
    asked: Asked,
    prompts: Sequence[Prompt],
    kept: Measurements,
) -> ModelCard:
    """Sampling, then beginnings, then latency; what is there already is not measured again."""
    # numpy takes a moment.
    from gateway.calibrate.figures import card_of, positions_for

    scorer = await find_scorer(settings, asked.setup.reward_model.partition("@")[0], session)
    if scorer.info.relative:
        raise StartError(
            f"{scorer.info.version} compares a request's candidates: its rewards of different requests have no law."
        )
    logged = await Logged.following(redis, settings.log.shard)
    with progress("sampling", len(prompts)) as done:
        await sample(gateway, logged, asked, prompts, kept, done)
    sampled = [kept.sampled[prompt_print(messages)] for messages in prompts]
    positions = positions_for(sampled) if scorer.info.partial else []
    if positions:
        with progress("scoring beginnings", len(prompts)) as done:
            await score_beginnings(gateway, scorer, asked, prompts, positions, kept, done)
    answered = [messages for messages, one in zip(prompts, sampled, strict=True) if one.answers][:TIMED_PROMPTS]
    most = min(asked.most, asked.setup.answers)
    sizes = sorted({*(size for size in (1, 2, 4, 8, 16, 32, 64) if size < most), most})
    with progress("timing", len(answered) * len(sizes) * TIMED_TIMES) as done:
        await time_requests(gateway, asked, answered, sizes, kept, done)
    begun = [found for one in sampled if (found := kept.begun.get((one.prompt, tuple(positions))))]
    prints = {prompt_print(messages) for messages in answered}
    timed = [one for one in kept.timed.values() if one.prompt in prints and one.n in sizes]
    missing = sum(one.missing for one in sampled)
    refused = sum(not one.answers for one in sampled)
    if missing or refused:
        said = (
            f"{refused} of {len(prompts)} prompts got no answers, and {missing} answers no reward: the card is without."
        )
        Console(stderr=True).print(said, highlight=False)
    return card_of(asked.setup, sampled, begun, positions, timed, time.time())


async def _prompts(redis: Redis, settings: Config, file: Path | None, model: str, last: int) -> list[Prompt]:
    """Each once. Raises StartError."""
    if file is not None:
        found = read_prompts(file)
    else:
        found = logged_prompts(await last_of_others(redis, settings.log.shard, last), model)
    once = {prompt_print(messages): messages for messages in found}
    if len(once) < 2:
        raise StartError("One prompt is too few for a card: intervals are of prompts.")
    return list(once.values())


def _say_what_is_there(kept: Measurements, prompts: Sequence[Prompt]) -> None:
    there = sum(prompt_print(messages) in kept.sampled for messages in prompts)
    if there:
        typer.echo(f"Going on from what was measured before: {there} of {len(prompts)} prompts have answers.", err=True)


def _write(card: ModelCard, path: Path) -> None:
    # matplotlib takes a second.
    from gateway.calibrate.card_page import draw_card, write_page

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
    picture = draw_card(card)
    path.with_suffix(".png").write_bytes(picture)
    write_page(card, picture, path.with_suffix(".html"))


def _tell(console: Console, card: ModelCard) -> None:
    from gateway.calibrate.card_page import (
        CURVE_COLUMNS,
        GUARD_COLUMNS,
        PARTIAL_COLUMNS,
        as_settings,
        curve_rows,
        guard_rows,
        partial_rows,
    )

    console.print(
        f"{card.policy} with {card.reward_model}: {card.answers} answers to {card.prompts} prompts, "
        f"{card.mean_tokens:.1f} tokens each; the reward deviates by {card.deviation:.3f} within a prompt.\n"
    )
    console.print(_table(CURVE_COLUMNS, curve_rows(card)))
    if card.partial:
        console.print("\n", _table(PARTIAL_COLUMNS, partial_rows(card)))
    if card.guard:
        console.print("\n", _table(GUARD_COLUMNS, guard_rows(card)))
    for one in card.recommendations:
        console.print(f"\nFor {one.target}: {one.because}", soft_wrap=True, markup=False)
        if one.settings:
            shown = as_settings({"profiles": {"NAME": one.settings}})
            console.print(shown, soft_wrap=True, markup=False, end="")
    console.print()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _place(name: str) -> str:
    return f"/admin/v1/models/{quote(name, safe='')}/card"
