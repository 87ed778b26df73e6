"""Rows to token ids as the policy sees and says them when it is served.

The prompt is what vLLM makes of the messages: the tokenizer's chat template with the beginning of an answer, and no
further special tokens. The answer is what the template makes of it after that, up to the token that ends a turn, which
is learnt too; what a template writes behind it (a line break, mostly) is never sampled, so it is not learnt. An answer
that holds a control token in its text is left out: it would teach the policy to end its turn, or to play another role.
Nothing is cut: a row that is too long is left out and counted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.data.rows import Demonstration, Message, Preference, PromptOnly, Unpaired
from training.errors import TrainingError
from training.policy.settings import PolicySettings
from training.policy.trainer import PolicyRows

# ruff: noqa: PLC0415  # transformers: 2 s

Row = Demonstration | Preference | Unpaired | PromptOnly


class EncodedRow(NamedTuple):
    """answer_ids: of what is imitated, preferred or judged, with the end of the turn; empty for a prompt alone.

    other_ids: of the answer that is not preferred, in a pair. label: thumb up; None for others. weight: how often it is
    drawn, 0 to 1. messages: the prompt as it was said, for graders and reward models, as JSON; for prompts alone, and
    reference: the expected answer, where one is known.
    """

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    other_ids: Sequence[int] | None = None
    label: bool | None = None
    weight: float = 1.0
    messages: str | None = None
    reference: str | None = None

    @property
    def length(self) -> int:
        """Tokens of its longest text."""
        return len(self.prompt_ids) + max(len(self.answer_ids), 0 if self.other_ids is None else len(self.other_ids))


class PolicyTemplate:
    """A policy's tokenizer and chat template. Raises TrainingError where the folder has none.

    ends: ids that end a turn. padding: the id to fill up rows with. max_tokens: of the model's context.
    """

    def __init__(self, base: Path) -> None:
        from transformers import AutoConfig, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(base)
            config = AutoConfig.from_pretrained(base).get_text_config()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise TrainingError(f"{base} is no language model ({reason}): name another with --base.") from error
        if self._tokenizer.chat_template is None:
            raise TrainingError(f"{base} has no chat template, so it cannot be trained on conversations.")
        self.ends = ends_of(base, self._tokenizer)
        self._special = set(self._tokenizer.all_special_ids) | set(self.ends)
        self.max_tokens = int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """As vLLM sees it. Raises ValueError where the template refuses the messages."""
        return self._ids(self._render(messages, beginning=True))

    def answer(self, messages: Sequence[Message], answer: Message) -> list[int] | None:
        """What is sampled to the prompt when the answer is this, with the end of the turn; None: it has control tokens.

        Raises ValueError where the template refuses it.
        """
        if self._special & set(self._ids(answer["content"])):
            return None
        asked = self._render(messages, beginning=True)
        said = self._render([*messages, answer], beginning=False)
        # Some templates write thoughts into a new answer and not into one that is given.
        ids = self._ids(said.removeprefix(asked) if said.startswith(asked) else answer["content"])
        place = next((place for place, one in enumerate(ids) if one in self.ends), len(ids))
        return [*ids[:place], ids[place] if place < len(ids) else self.ends[0]]

    @property
    def padding(self) -> int:
        """What fills up the rows of a batch; it is masked."""
        found = self._tokenizer.pad_token_id
        return int(self.ends[0] if found is None else found)

    def text(self, ids: Sequence[int]) -> str:
        """An answer as a reader sees it: without control tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _render(self, messages: Sequence[Message], *, beginning: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=beginning)
            )
        except TemplateError as error:
            raise ValueError(str(error)) from error

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def ends_of(base: Path, tokenizer: Any) -> tuple[int, ...]:
    """Ids of the tokens at which generation stops: the tokenizer's own first, then those of generation_config.json."""
    path = base / "generation_config.json"
    given = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    listed = given if isinstance(given, list) else [given]
    found = dict.fromkeys(one for one in (tokenizer.eos_token_id, *listed) if one is not None)
    if not found:
        raise TrainingError(f"{base} names no token that ends a turn (eos_token), so it would never learn to stop.")
    return tuple(found)


class RowEncoder:
    """Encodes the rows for one base. `left_out` counts by reason those that gave nothing, as they are iterated."""

    def __init__(self, base: Path, settings: PolicySettings) -> None:
        self._template = PolicyTemplate(base)
        self._limit = min(settings.max_length, self._template.max_tokens)
        self._room = settings.max_new_tokens
        self.left_out: Counter[str] = Counter()

    def encode(self, rows: Iterable[Row]) -> Iterator[EncodedRow]:
        for row in rows:
            reason, found = self._row(row)
            if found is None:
                self.left_out[reason] += 1
            else:
                yield found

    def _row(self, row: Row) -> tuple[str, EncodedRow | None]:
        if row.side.weight <= 0:
            return "of weight 0", None
        try:
            asked = self._template.prompt(row.prompt)
            said = [self._template.answer(row.prompt, answer[-1]) for answer in answers_of(row)]
        except ValueError:
            return "that cannot be rendered", None
        if any(ids is None for ids in said):
            return "with control tokens in the answer", None
        longest = max((len(ids) for ids in said if ids is not None), default=self._room)
        if len(asked) + longest > self._limit:
            return "that are too long", None
        if len(said) == 2 and said[0] == said[1]:
            # Nothing can be learnt of it, and its loss of log 2 would only add noise to what is reported.
            return "whose answers are the same tokens", None
        return "", EncodedRow(
            prompt_ids=asked,
            answer_ids=said[0] or [] if said else [],
            other_ids=said[1] if len(said) == 2 else None,
            label=row.label if isinstance(row, Unpaired) else None,
            weight=min(row.side.weight, 1.0),
            messages=None if said else json.dumps(row.prompt),
            reference=row.reference if isinstance(row, PromptOnly) else None,
        )


def answers_of(row: Row) -> list[list[Message]]:
    """What the row says of: two answers of a pair, the better one first; none of a prompt alone."""
    match row:
        case Preference():
            return [row.chosen, row.rejected]
        case Demonstration() | Unpaired():
            return [row.completion]
        case PromptOnly():
            return []


def encode_rows(rows: PolicyRows, base: Path, settings: PolicySettings) -> tuple[list[EncodedRow], dict[str, int]]:
    """The rows' ids, and how many rows were left out by reason, with those that were before.

    Raises TrainingError where the base has no tokenizer with a chat template.
    """
    encoder = RowEncoder(base, settings)
    encoded = list(encoder.encode(rows.rows))
    return encoded, dict(sorted((Counter(rows.left_out) + encoder.left_out).items()))
