"""A judge that compares answers two by two, each pair in both positions: see `scorers.judge.strengths` for the values.

Values are relative to the other candidates of the request and have mean 0 over the different ones; equal answers are
one, with one value. A comparison that fails in either position is left out. The values of those that remain connected
stand on what was compared; a candidate that lost its connection has an error.
"""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scorers.backend import Backend, Row
from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, ScorerError
from scorers.judge.prompt import PAIR_LABELS, Answer, Material, read_answer, read_material
from scorers.judge.strengths import Pair, schedule, strengths
from scorers.judge.verdict import VerdictPrompt, read_labels
from scorers.model_scorer import CannotScore
from scorers.probability import sigmoid
from scorers.threaded import in_thread


class PairPrompt:
    """Two answers in an order to token ids."""

    def __init__(self, prompt: VerdictPrompt, told: tuple[str, str], max_tokens: int) -> None:
        self._prompt = prompt
        self._told = told
        self._max_tokens = max_tokens

    def compare(self, material: Material, first: Answer, second: Answer) -> list[int]:
        """Token ids of the prompt. Raises CannotScore where they are too many for the judge."""
        first_name, second_name = (f"answer {label}" for label in PAIR_LABELS)
        ids = self._prompt.encode(material.ask(self._told, [(first_name, first), (second_name, second)]))
        if len(ids) > self._max_tokens:
            raise CannotScore(f"The comparison has {len(ids)} tokens, the judge reads at most {self._max_tokens}.")
        return ids

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """The candidate against itself: what is tried while the judge loads."""
        answer = read_answer(candidate or {}, "candidates[]")
        return self.compare(read_material(messages, tools, [answer]), answer, answer)


class PairReader:
    """What the rows of comparisons mean."""

    def windows(self, ids: list[int]) -> list[list[int]]:
        """A comparison is read whole."""
        return [ids]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """Log-odds that the first is preferred, of the one row. Raises CannotScore."""
        [row] = rows
        first, second = read_labels(row, PAIR_LABELS)
        return Score(value=first - second, tokens=tokens)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One request. `nodes` are its different answers: which each candidate is, or its error.

    inputs: token ids of each ordered comparison, or why it cannot be made.
    """

    nodes: list[int | Score]
    count: int
    inputs: dict[Pair, list[int] | str]


class PairwiseJudge:
    """Implements `scorers.contract.ServedScorer`. Each of many answers meets `opponents` others."""

    def __init__(
        self, info: ScorerInfo, prompt: PairPrompt, backend: Backend, *, opponents: int, max_candidates: int
    ) -> None:
        self._info = info
        self._prompt = prompt
        self._reader = PairReader()
        self._backend = backend
        self._opponents = opponents
        self._max_candidates = max_candidates
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tokens-{info.id}")

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        return self._backend.depth

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. Raises BadScoreRequest, Overloaded, ScorerFailed where every comparison failed."""
        if not request.candidates:
            raise BadScoreRequest(f"{self._info.id} compares answers: candidates must hold at least one.", "candidates")
        if len(request.candidates) > self._max_candidates:
            raise BadScoreRequest(
                f"candidates may hold at most {self._max_candidates}: each is compared with up to {self._opponents} "
                "others both ways, and more comparisons do not fit the scorer server's max_queue.",
                "candidates",
            )
        prepared = await in_thread(self._thread, self._prepare, request)
        to_run = [pair for pair, ids in prepared.inputs.items() if not isinstance(ids, str)]
        rows = await self._backend.run([ids for ids in prepared.inputs.values() if not isinstance(ids, str)])
        failures = [row for row in rows if isinstance(row, ScorerError)]
        if failures and len(failures) == len(rows):
            raise failures[0]
        return self._assemble(prepared, dict(zip(to_run, rows, strict=True)))

    def _prepare(self, request: ScoreRequest, given_up: threading.Event) -> _Prepared:
        read = [_read(candidate, index) for index, candidate in enumerate(request.candidates)]
        answers = {one for one in read if not isinstance(one, Score)}
        material = read_material(request.messages, request.tools, list(answers))
        # Who meets whom must not depend on the order of the candidates, nor on anything that one could choose.
        different = sorted(answers, key=lambda answer: _shuffled(material, answer))
        inputs: dict[Pair, list[int] | str] = {}
        for i, j in schedule(len(different), self._opponents):
            for first, second in ((i, j), (j, i)):
                if given_up.is_set():
                    break
                try:
                    inputs[first, second] = self._prompt.compare(material, different[first], different[second])
                except CannotScore as error:
                    inputs[first, second] = str(error)
        node_of = {answer: node for node, answer in enumerate(different)}
        nodes = [one if isinstance(one, Score) else node_of[one] for one in read]
        return _Prepared(nodes, len(different), inputs)

    def _assemble(self, prepared: _Prepared, rows: dict[Pair, Row | ScorerError]) -> list[Score]:
        odds: dict[Pair, float] = {}
        why_not: dict[Pair, str] = {}
        for pair, ids in prepared.inputs.items():
            outcome = ids if isinstance(ids, str) else self._read(rows[pair])
            if isinstance(outcome, str):
                why_not[pair] = outcome
            else:
                odds[pair] = outcome
        outcomes = _Outcomes(prepared, odds, why_not)
        told: set[int] = set()
        scores: list[Score] = []
        for one in prepared.nodes:
            if isinstance(one, Score):
                scores.append(one)
                continue
            scores.append(outcomes.score(one, count_tokens=one not in told))
            told.add(one)
        return scores

    def _read(self, row: Row | ScorerError) -> float | str:
        """The log-odds for the first, or why there are none."""
        if isinstance(row, ScorerError):
            return str(row)
        try:
            score = self._reader.score([row], 0)
        except CannotScore as error:
            return str(error)
        assert score.value is not None
        return score.value

    async def close(self) -> None:
        """Finish what waits, then end the threads."""
        await self._backend.close()
        self._thread.shutdown(wait=False)


class _Outcomes:
    """All comparisons of one request. odds: log-odds for the first of each pair that was compared in that order."""

    def __init__(self, prepared: _Prepared, odds: dict[Pair, float], why_not: dict[Pair, str]) -> None:
        self._prepared = prepared
        self._odds = odds
        self._why_not = why_not
        self._partners: dict[int, list[int]] = defaultdict(list)
        both_ways: dict[Pair, float] = {}
        for i, j in odds:
            if (j, i) in odds:
                self._partners[i].append(j)
                both_ways[i, j] = (odds[i, j] - odds[j, i]) / 2
        one_each = {(i, j): y for (i, j), y in both_ways.items() if i < j}
        self._values = strengths(prepared.count, one_each)

    def score(self, node: int, *, count_tokens: bool) -> Score:
        """What is said of a candidate; tokens are those of the comparisons in which it came first."""
        firsts = [ids for (i, _), ids in self._prepared.inputs.items() if i == node and not isinstance(ids, str)]
        tokens = sum(map(len, firsts)) if count_tokens else 0
        value = self._values[node]
        if self._alone():
            return Score(error="There is no other answer to compare it with.", tokens=tokens)
        if value is None:
            return Score(error=self._missing(node), tokens=tokens)
        return Score(value=value, parts=self._parts(node), tokens=tokens)

    def _alone(self) -> bool:
        return sum(not isinstance(one, Score) for one in self._prepared.nodes) < 2

    def _parts(self, node: int) -> dict[str, float]:
        """comparisons: how many others it met. win_probability: mean of P(preferred) over both positions of each.

        position_bias: mean of P(preferred | first) - P(preferred | second), from -1 to 1.
        """
        met = self._partners[node]
        if not met:  # all candidates are the same answer
            return {"comparisons": 0.0}
        first = [sigmoid(self._odds[node, other]) for other in met]
        second = [sigmoid(-self._odds[other, node]) for other in met]
        return {
            "win_probability": (sum(first) + sum(second)) / (2 * len(met)),
            "position_bias": (sum(first) - sum(second)) / len(met),
            "comparisons": float(len(met)),
        }

    def _missing(self, node: int) -> str:
        """Why it has no value: which of its comparisons failed, or else that others' did."""
        failed = {pair: reason for pair, reason in self._why_not.items() if node in pair}
        others = {one for pair in failed for one in pair if one != node}
        named = [str(index) for index, one in enumerate(self._prepared.nodes) if one in others]
        if not named:
            return "Comparisons among the others failed, and those that worked do not connect it with most of them."
        which = f"candidate{'s' if len(named) > 1 else ''} {', '.join(named)}"
        return f"Its comparison with {which} failed: {next(iter(failed.values()))}"


def _read(candidate: Message, index: int) -> Answer | Score:
    try:
        return read_answer(candidate, f"candidates[{index}]")
    except BadScoreRequest as error:
        return Score(error=str(error), unreadable=True)


def _shuffled(material: Material, answer: Answer) -> bytes:
    text = repr((material.conversation, answer))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest()
