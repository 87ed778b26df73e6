"""Where a judge's verdict stands, and how it is read: as the probability of each label as the very next token.

The judge's own chat template is put around one user message and brings us to where its answer begins. A model that
would think first has to be led past that, or its next token is no verdict:

    what the template knows         enable_thinking (Qwen3, GLM, Gemma 4) and thinking (DeepSeek, Granite) are false
    it ends in an open `<think>`    (QwQ, Qwen3-Thinking, DeepSeek-R1) the block is closed, empty
    it ends in `<|start|>assistant` (gpt-oss) the channel of the final answer is opened

Where a judge answers with something else all the same, the labels hold next to nothing of the probability. That is an
error: what little they hold says nothing about the answers.
"""

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from scorers.backend import Row
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.tokens import SafeTokenizer

MIN_MASS = 0.01
"""Smallest share of the next token's probability that the labels must hold together."""

_PROBE = "What is to be judged."
# Some templates tell the model today's date (Llama 3.2, SmolLM3); scores may not change with it. This one is Llama's.
_DATE = date(2024, 7, 26)
_OPTIONS: dict[str, Any] = {"enable_thinking": False, "thinking": False, "strftime_now": _DATE.strftime}


class VerdictPrompt:
    """A user message to token ids that end where the verdict stands. Rendered once; no request changes the frame."""

    def __init__(self, model: str, tokenizer: PreTrainedTokenizerBase, tokens: SafeTokenizer) -> None:
        """Raises LoadError where the model has no chat template that shows a user message."""
        self._model = model
        self._tokens = tokens
        self._before, self._after = _frame(model, tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of the whole prompt; control tokens in `text` are plain text."""
        hidden = self._tokens.hide(text)
        return self._tokens.encode(f"{self._before}{hidden.value}{self._after}", hidden)

    def label_ids(self, labels: Sequence[str]) -> tuple[int, ...]:
        """The token of each label where the verdict stands. Raises LoadError where one is not a single token."""
        framed = f"{self._before}{_PROBE}{self._after}"
        nothing_hidden = self._tokens.hide(_PROBE)
        without = self._tokens.encode(framed, nothing_hidden)
        found: list[int] = []
        for label in labels:
            ids = self._tokens.encode(framed + label, nothing_hidden)
            if ids[:-1] != without or ids[-1] in found:
                raise LoadError(
                    f"{self._model} cannot be a judge: its tokenizer has no token of its own for {label!r} where the "
                    "verdict stands, so that its probability cannot be read."
                )
            found.append(ids[-1])
        return tuple(found)


def _frame(model: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the template puts before and behind a user message, up to where the verdict stands."""
    if not tokenizer.chat_template:
        raise LoadError(f"The tokenizer of {model} has no chat template, which a judge needs: take an instruct model.")
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": _PROBE}], tokenize=False, add_generation_prompt=True, **_OPTIONS
        )
    except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LoadError(f"The chat template of {model} does not take a user message alone: {reason}.") from error
    if not isinstance(rendered, str) or rendered.count(_PROBE) != 1:
        raise LoadError(f"The chat template of {model} does not show a user message as it is, which a judge needs.")
    before, _, after = rendered.partition(_PROBE)
    return before, _past_thinking(after)


def _past_thinking(after: str) -> str:
    """The end of a prompt, led to where the answer itself begins."""
    if after.rstrip().endswith("<think>"):
        return f"{after.rstrip()}\n\n</think>\n\n"
    if after.endswith("<|start|>assistant"):
        return f"{after}<|channel|>final<|message|>"
    return after


def read_labels(row: Row, labels: Sequence[str]) -> list[float]:
    """Log-probability of each label among the labels, which exp to 1 together.

    Raises CannotScore where a number is not finite, or where the labels together hold less than `MIN_MASS`.
    """
    if not all(math.isfinite(log) for log in row):
        raise CannotScore("The judge answered with a number that is not finite.")
    largest = max(row)
    total = largest + math.log(sum(math.exp(log - largest) for log in row))
    if total < math.log(MIN_MASS):
        raise CannotScore(
            f"The judge did not answer with a label: {labels[0]} to {labels[-1]} hold {math.exp(total):.2g} of the "
            f"probability, and {MIN_MASS:g} is the least."
        )
    return [log - total for log in row]
