"""The texts that a calibration is measured on: labelled ones from a file, prompts from a file, answers from the log."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import StartError
from gateway.log.records import Interaction, Message


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, and the answer to it where that is what is judged. labels: the categories that it belongs to."""

    messages: list[Message]
    answer: Message | None
    labels: frozenset[str] = frozenset()

    @property
    def prompt(self) -> str:
        """Equal for texts with the same prompt."""
        return json.dumps(self.messages, sort_keys=True)


def read_labelled(path: Path, categories: Collection[str]) -> list[Text]:
    """Lines of {"prompt": text or messages, "answer": text (or none), "labels": [categories]}. Raises StartError."""
    found = []
    for where, line in _lines(path):
        labels = line.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise StartError(f'{where}: "labels" must be a list of categories, empty for a harmless text.')
        if unknown := sorted(set(labels) - set(categories)):
            raise StartError(f"{where}: the scorer has no category {unknown[0]!r} ({', '.join(sorted(categories))}).")
        answer = line.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise StartError(f'{where}: "answer" must be text, or left out where the prompt alone is judged.')
        message = None if answer is None else {"role": "assistant", "content": answer}
        found.append(Text(_prompt(line, where), message, frozenset(labels)))
    return found


def read_prompts(path: Path) -> list[list[Message]]:
    """Lines of {"prompt": text or messages}. Raises StartError."""
    return [_prompt(line, where) for where, line in _lines(path)]


def logged_answers(interactions: Sequence[Interaction], model: str | None) -> tuple[list[Text], str]:
    """The candidates of the first wave of each interaction, with the policy that wrote them all.

    Only those of the newest interaction's policy (of that model, where one is named): a law is of one policy. Later
    waves were sampled because the first was unsafe, and are no sample of the policy. Raises StartError without any.
    """
    usable = [one for one in interactions if one.candidates and (model is None or one.model == model)]
    if not usable:
        what = f"of the model {model!r} " if model else ""
        raise StartError(f"There is no interaction {what}with answers among the log's last {len(interactions)}.")
    policy = usable[-1].policy
    return [
        Text(one.messages, candidate.message)
        for one in usable
        if one.policy == policy
        for candidate in one.candidates
        if candidate.wave == 0
    ], policy


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The file {path} cannot be read: {error}.") from None
    count = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            raise StartError(f"{where}: it is no JSON: {error}.") from None
        if not isinstance(value, dict):
            raise StartError(f"{where}: it must be an object.")
        count += 1
        yield where, value
    if not count:
        raise StartError(f"The file {path} is empty.")


def _prompt(line: dict[str, Any], where: str) -> list[Message]:
    prompt = line.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt and all(isinstance(one, dict) and "role" in one for one in prompt):
        return prompt
    raise StartError(f'{where}: "prompt" must be text, or a list of messages with roles.')
