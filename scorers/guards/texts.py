"""All text that a guard without a model has to see, as plain strings."""

from scorers.contract import Message, ScoreRequest
from scorers.reading import Sort, read_message, texts


def all_texts(request: ScoreRequest, candidate: Message | None) -> list[str]:
    """Every string of the candidate; of the conversation and its tools where there is none.

    Content, reasoning, refusals, names, what tool calls hold, and fields that are unknown to us. Raises BadScoreRequest
    where something cannot be read.
    """
    if candidate is not None:
        return texts(read_message({"role": "assistant"} | candidate, "candidate"), Sort.ALL)
    found = [
        text
        for index, message in enumerate(request.messages)
        for text in texts(read_message(message, f"messages[{index}]"), Sort.ALL)
    ]
    return found + texts({"role": "system", "tools": request.tools}, Sort.ALL)
