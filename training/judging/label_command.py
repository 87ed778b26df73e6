"""`bestow train label`: a judge's preferences and revisions beside what people said."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gateway.log.source import ConfigOption
from scorers.judge.constitution import read_constitution
from scorers.model_path import LoadError
from training.data.finding import find_snapshot, home_at
from training.data.places import snapshots_of
from training.data.rows import Split
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.judging.running import Labelled

# ruff: noqa: PLC0415  # torch and pyarrow: seconds

# Not of the others: what a model is measured by is what people said.
_LABELLED: tuple[Split, ...] = ("train", "holdout")


def label(
    snapshot: Annotated[
        str, typer.Argument(help="The snapshot whose candidates are judged: its id, a folder or a URL.")
    ],
    judge: Annotated[str, typer.Option(metavar="MODEL", help="The judge: a language model's folder or id.")],
    vllm: Annotated[
        str | None, typer.Option(metavar="URL", help="A vLLM worker that runs it; none: it runs here.")
    ] = None,
    vllm_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable with that worker's key.")
    ] = None,
    constitution: Annotated[
        Path | None, typer.Option(help="Principles (YAML); none: the built-in ones of the judge.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=0, help="At most so many pairs of candidates are labelled.")] = 1000,
    split: Annotated[
        str, typer.Option(help="Of which split: train, or holdout for the holdout reward model.")
    ] = "train",
    choose: Annotated[
        str, typer.Option(help="Any two candidates (random), or the nearest by reward (close).")
    ] = "random",
    principles: Annotated[int, typer.Option(min=0, help="Principles drawn for each comparison; 0: all of them.")] = 1,
    least: Annotated[
        float, typer.Option(min=0.0, max=0.49, help="How far from even a verdict must be to count.")
    ] = 0.1,
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="What such a row weighs; a trusted vote is 1.")] = 0.5,
    people: Annotated[int, typer.Option(min=0, help="So many of people's pairs are asked too, to compare.")] = 200,
    revise: Annotated[int, typer.Option(min=0, help="So many answers are criticised and written again.")] = 0,
    writer: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible address (.../v1) of who writes them again.")
    ] = None,
    writer_model: Annotated[str | None, typer.Option(help="Which of its models; none: the only one.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="BESTOW_API_KEY", help="The key for that address.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a critique, and of a revision.")] = 512,
    seed: Annotated[int, typer.Option(help="Another seed draws other principles.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Let a judge with a constitution label pairs, and write answers again: AI feedback beside people's.

    \b
    A new snapshot is made: the same files, and those of the judge under ai/. Each row says that it comes from a judge
    (ai_preference, ai_revision); none is ever counted as people's. Both positions are asked, and a verdict that changes
    with the position makes no row. How often the judge says what people say is measured on people's calibration pairs,
    and printed. Stopped in the middle, the same command goes on. Examples:
      bestow train label SNAPSHOT --judge Qwen/Qwen3-8B --vllm http://judge:8000 --pairs 5000
      bestow train label SNAPSHOT --judge ./judge --revise 500 --writer http://127.0.0.1:8080/v1
    """
    from training.judging.running import JudgeAt, LabelSettings, WriterAt, label_snapshot

    if choose not in ("random", "close"):
        raise TrainingError(f"--choose {choose}: it is random or close.")
    if split not in _LABELLED:
        raise TrainingError(f"--split {split}: it is train or holdout; the others are for what people said.")
    if revise and not writer:
        raise TrainingError("--revise needs --writer, the address of a model that writes answers again.")
    home = home_at(config)
    opened = find_snapshot(snapshot, home)
    if "ai_feedback" in opened.manifest.settings:
        raise TrainingError(
            f"{snapshot} has a judge's rows already: label {opened.manifest.settings['ai_feedback']['of'][:12]}, "
            "the snapshot that it was made from."
        )
    try:
        read = read_constitution(constitution)
    except LoadError as error:
        raise TrainingError(str(error)) from None
    settings = LabelSettings(
        judge=_identity(judge),
        constitution=hashlib.sha256(msgspec.json.encode(read.model_dump(mode="json"), order="sorted")).hexdigest(),
        split="holdout" if split == "holdout" else "train",
        pairs=pairs,
        choose="close" if choose == "close" else "random",
        principles=principles,
        least=least,
        weight=weight,
        revise=revise,
        writer=(writer_model or writer or "") if revise else "",
        max_tokens=max_tokens,
        seed=seed,
    )
    at = JudgeAt(judge, constitution, read, vllm, vllm_key_env)
    writing = WriterAt(writer, writer_model, api_key) if writer else None
    _tell(asyncio.run(label_snapshot(opened, settings, at, writing, people, snapshots_of(home))))


def _identity(judge: str) -> str:
    """Another model of the same name is another judge."""
    from training.jobs.models import weights_digest

    folder = Path(judge).expanduser()
    return f"{folder.name}+{weights_digest(folder)[:12]}" if any(folder.glob("*.safetensors")) else judge


def _tell(made: "Labelled") -> None:
    from training.judging.running import told

    left_out, revised, agreed = made.labels.left_out, made.revisions, made.agreed
    print(f"pairs      {len(made.labels.rows)} labelled" + (f"; left out: {told(left_out)}" if left_out else ""))
    if revised.demonstrations or revised.left_out:
        print(
            f"revisions  {len(revised.demonstrations)} demonstrations"
            + (f"; left out: {told(revised.left_out)}" if revised.left_out else "")
        )
    if agreed.value is None:
        print("people     unknown: there are no pairs of people in the calibration split")
    else:
        print(
            f"people     the judge says what people say in {agreed.value:.2f} of {agreed.count} "
            f"({agreed.low:.2f} to {agreed.high:.2f})"
        )
    print(f"path       {made.place}")
    print(f"next       bestow train reward {made.place}")
