"""From the joined interactions with one prompt to their rows. Pure; `docs/datasets.md` has what becomes of what.

    group -> by tenant -> Prompt, answers (`conversations`)
          -> statements: each vote of a readable answer, in its split (`statements`)
          -> labels -> unpaired rows, and what is liked (`labels`)
          -> preferences (`pairs`, `thumbs`, `ratings`), `corrections`, `best_of_n`, prompts
          -> sorted by id; what gave no row is counted by its reason

The same records in any order give the same rows. A row's id says which records it comes of; its split follows from who
and what is in it, so records that come later change no row's split (`splits`).
"""

from collections.abc import Sequence

from pydantic import Field

from gateway.log.records import Interaction
from scorers.settings import Section
from training.data.best_of_n import from_candidates
from training.data.clusters import cluster_of
from training.data.conversations import asked_as_chat, digest_of, prompt_messages
from training.data.corrections import from_corrections
from training.data.labels import Opinions, labels_of, unpaired
from training.data.pairs import stated
from training.data.ratings import from_ratings
from training.data.rows import DATASETS, Joined, PromptOnly, Rows, Split
from training.data.sides import side
from training.data.splits import DEFAULT_SHARES, SplitShares
from training.data.statements import Prompt, Skipped, answers_of, statements_of, unfit_texts
from training.data.thumbs import from_thumbs


class CompileSettings(Section):
    """What decides which rows come of a log."""

    shares: SplitShares = Field(DEFAULT_SHARES, description="What is held out.")
    pairs_per_prompt: int = Field(
        16, ge=0, description="Most pairs from thumbs on answers to one prompt, and from ratings, in each split."
    )
    across_raters: float = Field(
        0.5, ge=0, le=1, description="What a pair of two people's ratings weighs, of what one person's would."
    )


def compile_prompt(group: Sequence[Joined], settings: CompileSettings) -> Rows:
    """group: all interactions with one `conversations.prompt_digest`, in any order, each once."""
    rows, skipped = Rows(), Skipped()
    by_tenant: dict[str, list[Joined]] = {}
    for joined in sorted(group, key=lambda one: one.interaction.id):
        by_tenant.setdefault(joined.interaction.tenant, []).append(joined)
    for one in by_tenant.values():
        _compile(one, settings, rows, skipped)
    for dataset in DATASETS:
        getattr(rows, dataset).sort(key=lambda row: row.side.id)
    rows.skipped = dict(sorted(skipped.items()))
    return rows


def _compile(group: Sequence[Joined], settings: CompileSettings, rows: Rows, skipped: Skipped) -> None:
    messages = prompt_messages(group[0].interaction)
    if isinstance(messages, str):
        skipped[f"prompt:{messages}"] += len(group)
        return
    asked = [one for one in group if not _refused(one.interaction)]
    if len(asked) < len(group):
        skipped["prompt:flagged"] += len(group) - len(asked)
    prompt = Prompt(messages, digest_of(messages), cluster_of(messages), settings.shares)
    answers = answers_of(asked)
    unfit = unfit_texts(asked, answers)
    statements = statements_of(asked, answers, prompt, skipped)
    labels = labels_of(statements, skipped)
    opinions = Opinions(labels)
    rows.unpaired += unpaired(labels, prompt, unfit)
    rows.preference += stated(statements, opinions, prompt, unfit, skipped)
    rows.preference += from_thumbs(labels, prompt, unfit, settings.pairs_per_prompt, skipped)
    rows.preference += from_ratings(
        statements, prompt, unfit, settings.pairs_per_prompt, settings.across_raters, skipped
    )
    demonstrations, pairs = from_corrections(statements, prompt, unfit, skipped)
    rows.demonstration += demonstrations
    rows.preference += pairs
    rows.best_of_n += from_candidates(asked, answers, opinions, prompt, unfit, skipped)
    rows.prompt += _prompts(asked, prompt)


def _refused(interaction: Interaction) -> bool:
    return interaction.prompt_verdict is not None and bool(interaction.prompt_verdict.flagged)


def _prompts(asked: Sequence[Joined], prompt: Prompt) -> list[PromptOnly]:
    """Once for each split that somebody who asked is of: the first to ask there stands for it.

    One row for all would be held out, or not, by who asked first or who was erased; so each is what it is for ever.
    """
    first: dict[Split, Interaction] = {}
    for one in asked:
        first.setdefault(prompt.split([one.interaction.user])[0], one.interaction)
    return [
        PromptOnly(
            prompt=prompt.messages,
            reference=one.reference,
            side=side(
                "prompt",
                "prompt",
                prompt,
                [],
                interactions=[one],
                created=one.created,
                for_policy=asked_as_chat(one),
            ),
        )
        for one in first.values()
    ]
