"""A process reward model: a score for each step of an answer.

The answer is cut wherever the separator stands (in code too: the model was trained on just that), white space around a
step is its own, and steps of white space alone are dropped. The family's step token is written after each step, as a
control token of ours: in a stranger's text it is plain text. Two sorts of models read it.

    token classifier   its labels at each step token: one label's raw logit, or the probability of the good one
    language model     (Math-Shepherd) the probability of its good verdict against its bad one, next after each step
                       token; each step is an input of its own, the conversation up to there, so that any backend can
                       run it, and an answer has at most 64

A number of scores that is not the number of steps is an error, never a guess which belongs to which. The reward is the
last step's score, the smallest, their mean, or for `prod` the sum of the logarithms of the probabilities: it ranks as
the product does and never sinks to 0, as a product of many steps would.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from scorers.assembly import assembled
from scorers.backend import Backend, Head, NextToken, Row, Steps
from scorers.backends.opening import open_backend
from scorers.contract import Message, Score
from scorers.errors import ScorerError, ScorerFailed
from scorers.families import VLLM_ONLY, Family, StepMark
from scorers.loading import Loading
from scorers.model_family import check_template, family_of, within_recommended
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, Encoder, ModelScorer
from scorers.reading import Sort
from scorers.scorer_settings import Aggregate, ProcessConfig
from scorers.template import ChatTemplate, arranged, read_turns, said
from scorers.tokens import Hidden, SafeTokenizer

MAX_PREFIXES = 64


def steps_of(answer: str, separator: str) -> list[str]:
    """The steps of an answer, in order, without those that are empty or white space."""
    return [step for step in answer.split(separator) if step.strip()]


def marked(steps: Sequence[str], mark: StepMark) -> str:
    """The steps with the step token after each."""
    return mark.after.join(f"{step}{mark.before}{mark.token}" for step in steps)


class JoinedSteps:
    """For models without a template: the conversation's text, a space, and the steps. See `ChatTemplate` for others."""

    def __init__(self, tokens: SafeTokenizer, family: Family, mark: StepMark, separator: str) -> None:
        self._tokens = tokens
        self._prompt = family.prompt
        self._mark = mark
        self._separator = separator

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids with what the tokenizer puts around a text. Raises BadScoreRequest for what cannot be read."""
        *before, judged = arranged(read_turns(messages, candidate), self._prompt)
        hidden = self._tokens.hide(["\n".join(map(said, before)), steps_of(judged["content"], self._separator)])
        question, steps = hidden.value
        ids = self._tokens.encode(f"{question} {marked(steps, self._mark)}", hidden)
        return [*self._tokens.prefix, *ids, *self._tokens.suffix]


class CountedSteps:
    """Checks that an encoder's ids hold one step token for each step of the answer."""

    def __init__(self, encoder: Encoder, token_id: int, separator: str) -> None:
        self._encoder = encoder
        self._token_id = token_id
        self._separator = separator

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids. Raises BadScoreRequest for what cannot be read, CannotScore where steps and tokens differ."""
        ids = self._encoder.encode(messages, candidate, tools)
        *_, judged = read_turns(messages, candidate)
        steps, found = len(steps_of(judged["content"], self._separator)), ids.count(self._token_id)
        if not steps:
            raise CannotScore("The answer has no step to score.")
        if found != steps:
            raise CannotScore(f"The answer has {steps} steps, but its prompt holds {found} step tokens.")
        return ids


class CheckedRows:
    """A backend of a token classifier whose rows must hold all labels of each step token of their input."""

    def __init__(self, inner: Backend, token_id: int, labels: int) -> None:
        self._inner = inner
        self._token_id = token_id
        self._labels = labels

    @property
    def depth(self) -> int:
        return self._inner.depth

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        """See `Backend`; a row of another length is a ScorerFailed."""
        rows = await self._inner.run(inputs)
        return [self._checked(ids, row) for ids, row in zip(inputs, rows, strict=True)]

    def _checked(self, ids: list[int], row: Row | ScorerError) -> Row | ScorerError:
        steps = ids.count(self._token_id)
        if isinstance(row, ScorerError) or len(row) == steps * self._labels:
            return row
        return ScorerFailed(f"The model answered {len(row)} numbers for {steps} steps with {self._labels} labels each.")

    async def close(self) -> None:
        await self._inner.close()


class StepReader:
    """What rows mean. good: the index of the good one of `labels` logits of a step; None: a raw score.

    prefixes: each step is an input of its own, which ends with its step token.
    """

    def __init__(
        self,
        max_tokens: int,
        token_id: int,
        aggregate: Aggregate,
        *,
        labels: int,
        good: int | None,
        prefixes: bool = False,
    ) -> None:
        self.token_id = token_id
        self._max_tokens = max_tokens
        self._aggregate = aggregate
        self._labels = labels
        self._good = good
        self._prefixes = prefixes

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The input itself, or one for each step. Raises CannotScore where it is too long."""
        if len(ids) > self._max_tokens:
            raise CannotScore(f"The input has {len(ids)} tokens, the model reads at most {self._max_tokens}.")
        if not self._prefixes:
            return [ids]
        ends = [index + 1 for index, one in enumerate(ids) if one == self.token_id]
        if len(ends) > MAX_PREFIXES:
            raise CannotScore(f"The answer has {len(ends)} steps; this model is asked about at most {MAX_PREFIXES}.")
        return [ids[:end] for end in ends]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """Raises CannotScore where a logit is no finite number."""
        flat = [logit for row in rows for logit in row]
        if not all(map(math.isfinite, flat)):
            raise CannotScore("The model answered with a number that is not finite.")
        steps = [flat[start : start + self._labels] for start in range(0, len(flat), self._labels)]
        if self._good is None:
            scores = [raw for [raw] in steps]
            return Score(value=aggregated(scores, self._aggregate), steps=scores, tokens=tokens)
        logs = [log_share(logits, self._good) for logits in steps]
        scores = [math.exp(log) for log in logs]
        value = math.fsum(logs) if self._aggregate == "prod" else aggregated(scores, self._aggregate)
        return Score(value=value, steps=scores, tokens=tokens)


def log_share(logits: Sequence[float], index: int) -> float:
    """The logarithm of one's softmax, exact where the probability itself would be 0."""
    largest = max(logits)
    return logits[index] - largest - math.log(math.fsum(math.exp(logit - largest) for logit in logits))


def aggregated(scores: Sequence[float], how: Aggregate) -> float:
    """The last, the smallest or the mean; a product is of probabilities alone, and made by the caller."""
    if how == "last":
        return scores[-1]
    return min(scores) if how == "min" else math.fsum(scores) / len(scores)


def good_index(files: ModelFiles, wanted: str | None, aggregate: Aggregate) -> int | None:
    """Which label means that a step is right: the one that is wanted, or the last of two; None: one raw score.

    Raises LoadError.
    """
    labels = files.labels
    if wanted is not None and wanted not in labels:
        raise LoadError(f"good_label is {wanted}, but the labels of {files.name} are {', '.join(labels)}.")
    if len(labels) == 1:
        if aggregate == "prod":
            raise LoadError(f"aggregate: prod needs probabilities, and {files.name} has one label with a raw score.")
        return None
    if wanted is None and len(labels) > 2:
        raise LoadError(f"{files.name} has the labels {', '.join(labels)}; say which is good with good_label.")
    return labels.index(wanted) if wanted is not None else 1


def step_id(files: ModelFiles, token: str) -> int:
    """The id of the step token. Raises LoadError where it is no single token, or one that any text may hold."""
    if not token.strip():
        raise LoadError(f"step_token is white space ({token!r}), which stands in any text: it could mark no step.")
    ids = files.tokens.encode(token, Hidden(token))
    if len(ids) != 1:
        raise LoadError(f"The tokenizer of {files.name} has no token {token!r}: name the model's own with step_token.")
    return ids[0]


def process_parts(files: ModelFiles, family: Family, config: ProcessConfig) -> tuple[Encoder, StepReader, Head]:
    """How this model reads conversations, what its rows mean, and what to ask of it. Raises LoadError."""
    mark = family.steps
    if mark is None:
        raise LoadError(f"The family {family.name} knows no step token.")
    token = config.step_token or mark.token
    mark = dataclasses.replace(mark, token=token)
    separator = config.separator or mark.separator
    token_id = step_id(files, token)
    # A step token that is an ordinary one has to be kept out of strangers' text too.
    tokens = files.tokens
    if token_id not in tokens.control_ids:
        tokens = SafeTokenizer(files.tokenizer.backend_tokenizer, [token])
    encoder: Encoder
    if family.prompt.shape == "joined":
        encoder = JoinedSteps(tokens, family, mark, separator)
    else:
        check_template(files, family)
        encoder = ChatTemplate(
            files.tokenizer,
            tokens,
            Sort(0),
            family.prompt,
            cut=lambda answer: steps_of(answer, separator),
            join=lambda steps: marked(steps, mark),
        )
    encoder = CountedSteps(encoder, token_id, separator)
    if not mark.verdicts:
        good = good_index(files, config.good_label, config.aggregate)
        labels = len(files.labels)
        reader = StepReader(files.max_tokens, token_id, config.aggregate, labels=labels, good=good)
        return encoder, reader, Steps(token_id)
    verdicts = tokens.encode(mark.verdicts, Hidden(mark.verdicts))
    if len(verdicts) != 2:
        raise LoadError(f"The tokenizer of {files.name} has no two tokens {mark.verdicts!r}, its family's verdicts.")
    reader = StepReader(files.max_tokens, token_id, config.aggregate, labels=2, good=0, prefixes=True)
    return encoder, reader, NextToken((verdicts[0], verdicts[1]))


def load(name: str, config: ProcessConfig, loading: Loading) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError."""
    files = load_files(config.model, config.max_tokens)
    family = family_of(files, config.kind, config.family)
    files = within_recommended(files, family, config.max_tokens)
    for architecture in getattr(files.config, "architectures", None) or ():
        if config.vllm is None and architecture in VLLM_ONLY:
            raise LoadError(f"{files.name} runs on a vLLM server only ({VLLM_ONLY[architecture]}): name it in `vllm`.")
    encoder, reader, head = process_parts(files, family, config)
    backend, about = open_backend(name, files, head, loading, dtype=config.dtype, vllm=config.vllm)
    if isinstance(head, Steps):
        backend = CheckedRows(backend, head.token_id, len(files.labels))
    scorer = assembled(name, config, files, encoder, reader, backend, loading, steps=True)
    return scorer, f"{config.model} {about}, family {family.name}, labels: {', '.join(files.labels)}"
