"""`bestow train evaluate`: one policy or profile against another, on prompts that stay the same for ever."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typer.core import TyperGroup

from gateway.config import Config, load
from gateway.launch.parts import filled_in
from gateway.log.source import DEFAULT_CONFIGS
from training.data.finding import find_snapshot, home_at
from training.data.places import home_of
from training.errors import TrainingError
from training.evaluation.answers import SIDES, Which
from training.evaluation.asking import Asker, find_side
from training.evaluation.formats import read_answers, read_logged, read_prompts
from training.evaluation.items import Item, PromptSet
from training.evaluation.judges import Judge, ModelJudge, ScorerJudge
from training.evaluation.plots import draw
from training.evaluation.result import Asked, Result, read_result
from training.evaluation.running import Readers, Work, evaluate, facts_of, side_of_file
from training.evaluation.running import judge as judge_folder
from training.evaluation.scoring import Kind, Scores, opened
from training.evaluation.servers import Server
from training.evaluation.settings import RunSettings, SamplingSettings
from training.evaluation.sides import Named, plain, read_side
from training.evaluation.table import compare as show_compared
from training.evaluation.table import show as show_result
from training.evaluation.win_rate import pairs_of, to_be_judged
from training.jsonl import Lines, only_one

_RUN = "run"
_HOW, _HARD = SamplingSettings(), RunSettings()


class SidesFirst(TyperGroup):
    """Commands, where a first word that is none of them is the first side of an evaluation."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = not args or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else [_RUN, *args])


evaluate_app = typer.Typer(
    cls=SidesFirst,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""One policy or profile against another: who answers better, by how much, and how sure that is.

    \b
      bestow train evaluate M --prompts demo-questions --reward-model reward
          a model through its profile, against its policy by itself (n = 1)
      bestow train evaluate M:new M --prompts alpaca.json --judge judge
          two profiles of a model, judged by a scorer of the running stack
      bestow train evaluate M+my-policy-v2 M --prompts alpaca.json --judge judge
          weights that are loaded and not released, against what serves; takes an operator's key
      bestow train evaluate M gpt4.json --prompts mt_bench.jsonl --judge J@http://host/v1
          against answers that exist, judged by a model at another server
      bestow train evaluate M --prompts demo-red-team --safety other-guard
          unsafe answers delivered, harmless questions refused
      bestow train evaluate show RESULT
      bestow train evaluate compare RESULT RESULT
      bestow train evaluate judge RESULT --reward-model reward-models/holdout@2

    More: bestow train evaluate run --help, and docs/evaluation.md.
    """,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration: where gateway and scorers are.  (default: .bestow/run.yaml, else bestow.yaml)",
    ),
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="BESTOW_API_KEY", help="The gateway's key.")]
OtherKeyOption = Annotated[
    str | None, typer.Option("--other-key", envvar="OPENAI_API_KEY", help="Key for servers that are named by address.")
]
JudgeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Who compares answers, both ways: a running pairwise judge, a model's folder, or MODEL@http://host/v1.",
    ),
]
RewardOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reward-model",
        metavar="NAME",
        help="Who rates each answer: a running scorer, or a model's folder (the holdout reward model's).",
    ),
]
SafetyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--safety",
        metavar="NAME",
        help="Who says which answers are unsafe, on sets with labels; best another than the one that guards.",
    ),
]
ThresholdOption = Annotated[
    float, typer.Option("--safety-threshold", min=0.001, max=1, help="Probability at which an answer is unsafe.")
]
ConstitutionOption = Annotated[
    Path | None, typer.Option("--constitution", help="What a judge at an address judges by.  (default: the built-in)")
]
JudgeTokensOption = Annotated[
    int, typer.Option("--judge-tokens", min=1, help="What a judge at an address may write; over 1 where it thinks.")
]
AtOnceOption = Annotated[int, typer.Option("--at-once", min=1, max=512, help="Requests under way together.")]
ResultArgument = Annotated[Path, typer.Argument(metavar="RESULT", help="A result's folder, or its result.json.")]


@evaluate_app.command(_RUN)
def run(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="MODEL[:PROFILE][+WEIGHTS][,n=N]\\[@http://host:port/v1], or a file of answers."
        ),
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The same.  (default: A's policy by itself, n=1)", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="A file (AlpacaEval, MT-Bench, messages), or demo-questions, demo-turns, demo-red-team."),
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="A snapshot, whose held-out prompts (test split) are asked instead.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="So many of the prompts, always the same ones.")] = None,
    judge: JudgeOption = None,
    reward_model: RewardOption = None,
    safety: SafetyOption = None,
    safety_threshold: ThresholdOption = 0.5,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Answers of each side to each prompt.")] = _HOW.samples,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other answers.")] = _HOW.seed,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of an answer.  (default: the profile's)")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="Of the sampling.  (default: the profile's)")
    ] = None,
    constitution: ConstitutionOption = None,
    judge_tokens: JudgeTokensOption = 1,
    name: Annotated[str | None, typer.Option(help="Of the result's folder.  (default: the set's)")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  (default: <data_dir>/training/evaluations)")
    ] = None,
    at_once: AtOnceOption = _HARD.at_once,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds for which a request that is turned away is repeated.")
    ] = _HARD.patience_s,
    config: ConfigOption = None,
    api_key: KeyOption = None,
    other_key: OtherKeyOption = None,
) -> None:
    """Ask both sides, have the answers judged, and keep all of it. A run that was killed goes on where it stopped.

    \b
    Examples:
      bestow train evaluate bestow-demo --prompts demo-questions --reward-model reward
      bestow train evaluate qwen:careful qwen:default --prompts mt_bench.jsonl --judge judge --samples 3
    """
    asking = SamplingSettings(samples=samples, seed=seed, max_tokens=max_tokens, temperature=temperature)
    hard = RunSettings(at_once=at_once, patience_s=patience)
    prompt_set = _prompts(prompts, snapshot, limit, home_at(config))
    first, second = read_side(a), None if b is None else read_side(b)
    if second is None:
        if not isinstance(first, Named):
            raise TrainingError("Name both sides: a file has no policy that it could be held against.")
        second = plain(first)
    named = _Named(judge or [], reward_model or [], safety or [], safety_threshold, constitution, judge_tokens)
    if not (judge or reward_model) and not prompt_set.labelled:
        raise TrainingError("Nobody judges: name a --judge or a --reward-model, such as --reward-model reward.")

    async def work(here: "_Here") -> Result:
        sides: dict[Which, Asker | dict[str, list[str]]] = {}
        for which, side in zip(SIDES, (first, second), strict=True):
            sides[which] = (
                read_answers(side, prompt_set)
                if isinstance(side, Path)
                else await find_side(side, here.server(side.url))
            )
        facts = [
            found.side if isinstance(found, Asker) else side_of_file(Path(str(side)), found)
            for found, side in zip(sides.values(), (first, second), strict=True)
        ]
        asked = Asked.of(facts_of(prompt_set), facts[0], facts[1], asking)
        called = re.sub(r"[^A-Za-z0-9._-]+", "-", name or prompt_set.name).strip("-.") or "evaluation"
        folder = (out or here.home / "evaluations") / f"{called}-{asked.id[:12]}"
        with only_one(folder):
            # Loaded first: what cannot judge is told before anything is asked.
            async with here.readers(named) as readers:
                todo = Work(folder, prompt_set.items, samples, hard, progress)
                result = await evaluate(prompt_set, asked, sides, asking, readers, todo, called)
            _draw(result, todo)
        return _told(result, folder)

    _with_servers(config, api_key, other_key, hard, work)


@evaluate_app.command()
def judge(
    result: ResultArgument,
    judge: JudgeOption = None,
    reward_model: RewardOption = None,
    safety: SafetyOption = None,
    safety_threshold: ThresholdOption = 0.5,
    constitution: ConstitutionOption = None,
    judge_tokens: JudgeTokensOption = 1,
    at_once: AtOnceOption = _HARD.at_once,
    config: ConfigOption = None,
    other_key: OtherKeyOption = None,
) -> None:
    """Have a result's answers judged by another judge too. Nothing is sampled.

    \b
    Example:
      bestow train evaluate judge .bestow/training/evaluations/alpaca-0f3a... --reward-model reward-models/holdout@2
    """
    before = read_result(result)
    folder = result if result.is_dir() else result.parent
    hard = RunSettings(at_once=at_once)
    named = _Named(judge or [], reward_model or [], safety or [], safety_threshold, constitution, judge_tokens)
    if not (judge or reward_model or safety):
        raise TrainingError("Nobody judges: name a --judge, a --reward-model or, for a red-team set, --safety.")

    async def work(here: "_Here") -> Result:
        with only_one(folder):
            items = Lines(folder / "set.jsonl", Item).all
            if PromptSet("", tuple(items)).digest != before.asked.set.sha256:
                raise TrainingError(
                    f"{folder}/set.jsonl is not the set that was asked: take the folder as it was made."
                )
            async with here.readers(named) as readers:
                todo = Work(folder, items, before.asked.samples, hard, progress)
                found = await judge_folder(before.asked, readers, todo, before.name)
            _draw(found, todo)
        return _told(found, folder)

    _with_servers(config, None, other_key, hard, work)


@evaluate_app.command()
def show(result: ResultArgument) -> None:
    """A result as a table.

    \b
    Example:
      bestow train evaluate show .bestow/training/evaluations/alpaca-0f3a...
    """
    show_result(read_result(result), Console())


@evaluate_app.command()
def compare(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="Two results of the same set, or more.")],
) -> None:
    """Results of the same set side by side: of several versions, say, each against the same B.

    \b
    Example:
      bestow train evaluate compare .bestow/training/evaluations/alpaca-*
    """
    found = [read_result(path) for path in results]
    if len(found) < 2:
        raise TrainingError("Name two results or more.")
    for one in found[1:]:
        check_comparable(found[0], one)
    show_compared(found, Console())


def check_comparable(one: Result, other: Result) -> None:
    """Raises TrainingError where they are of different sets."""
    first, second = one.asked.set, other.asked.set
    if first.sha256 != second.sha256:
        raise TrainingError(
            f"{one.id[:12]} is of {first.name} ({first.sha256[:12]}) and {other.id[:12]} of {second.name} "
            f"({second.sha256[:12]}): only results of the same set can be compared."
        )


@contextmanager
def progress(what: str, steps: int) -> Iterator[Any]:
    """A bar with the time to go, on stderr; none where there is nothing to do."""
    if not steps:
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=steps)
        yield lambda: bar.advance(task)


@dataclass(frozen=True)
class _Named:
    """Who judges, as the command line names them."""

    judges: Sequence[str]
    rewards: Sequence[str]
    safety: Sequence[str]
    threshold: float
    constitution: Path | None
    judge_tokens: int


@dataclass(frozen=True)
class _Here:
    """What runs here. config: every address filled in; None where there is no configuration."""

    session: aiohttp.ClientSession
    config: Config | None
    api_key: str | None
    other_key: str | None
    hard: RunSettings

    @property
    def home(self) -> Path:
        return home_of(self.config) if self.config else Path(".bestow/training")

    def server(self, url: str | None) -> Server:
        """The gateway here, or a server by its address: the gateway's key goes to the gateway alone."""
        if url is not None:
            parts = urlsplit(url.rstrip("/"))
            base = url.rstrip("/") if parts.path else f"{url.rstrip('/')}/v1"
            return Server(base, self.session, self.other_key, True, self.hard.patience_s, self.hard.timeout_s)
        if self.config is None:
            raise TrainingError(
                "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or say where the "
                "model is: MODEL@http://host:port/v1."
            )
        hard = self.hard
        return Server.of_gateway(self.config, self.session, self.api_key, hard.patience_s, hard.timeout_s)

    @asynccontextmanager
    async def readers(self, named: _Named) -> AsyncIterator[Readers]:
        """Raises TrainingError where one of them cannot judge."""
        async with AsyncExitStack() as stack:

            async def scorer(name: str, kind: Kind) -> Scores:
                return await stack.enter_async_context(opened(name, kind, self.config, self.session))

            judges: list[Judge] = []
            for name in named.judges:
                model, at, url = name.partition("@http")
                if at:
                    server = self.server(f"http{url}")
                    judges.append(ModelJudge(server, model, named.constitution, named.judge_tokens))
                else:
                    judges.append(ScorerJudge(await scorer(name, "judge")))
            rewards = [await scorer(name, "reward") for name in named.rewards]
            safety = [await scorer(name, "safety") for name in named.safety]
            yield Readers(judges, rewards, safety, named.threshold)


def _with_servers(
    config: Path | None,
    api_key: str | None,
    other_key: str | None,
    hard: RunSettings,
    work: Callable[[_Here], Coroutine[Any, Any, Result]],
) -> None:
    async def start() -> None:
        path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
        settings = load(path) if path else None
        # A file without addresses is of a stack that `bestow up` started.
        full = filled_in(settings, settings.data_dir.expanduser().absolute()) if settings else None
        async with aiohttp.ClientSession() as session:
            await work(_Here(session, full, api_key, other_key, hard))

    try:
        asyncio.run(start())
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None


def _prompts(prompts: str | None, snapshot: str | None, limit: int | None, home: Path) -> PromptSet:
    if (prompts is None) == (snapshot is None):
        raise TrainingError("Say what to ask: either --prompts FILE or --snapshot SNAPSHOT, such as demo-questions.")
    if prompts is not None:
        found = read_prompts(Path(prompts), limit)
    else:
        found = read_logged(find_snapshot(str(snapshot), home), limit)
    if len(found.items) < 2:
        raise TrainingError(f"{found.name} has one prompt alone, which says nothing of any other: give more.")
    return found


def _draw(result: Result, work: Work) -> None:
    pairs = [pair for pair in pairs_of(work.items, work.answered, work.samples) if to_be_judged(pair)]
    draw(result, pairs, work.folder)


def _told(result: Result, folder: Path) -> Result:
    console = Console()
    show_result(result, console)
    console.print(f"\nWrote {folder}", soft_wrap=True, markup=False, highlight=False)
    return result
