"""A person's data, to be handed to them: all that is stored of them, in words that explain it (GDPR, articles 15, 20).

Lines of JSON: a header that says what the fields mean, then what they asked and were answered with all that is stored
of it (the candidates that were not delivered are about them too), what they said of answers, what scorers in the shadow
made of it, and an end that counts. What others said of their answers is others' data and is left out.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.log.records import Feedback, Interaction, Record, ShadowScores

INTERACTION_FIELDS: Mapping[str, str] = {
    "id": "The answer's id.",
    "created": "When the request came, in seconds since 1970; `time` says it as a date.",
    "model": "The name that the application asked for.",
    "profile": "The settings it was answered by, name@version.",
    "policy": "The language model that answered, name@version.",
    "strategy": "How answers were sampled.",
    "outcome": "How it ended: delivered, refused, blocked, failed or cancelled.",
    "messages": "The conversation that was sent, as far as it is kept; what was taken out is marked like [EMAIL].",
    "parameters": "The other settings that were sent.",
    "candidates": "All answers that were sampled, delivered or not; see `candidate`.",
    "reward_model": "What ranked the answers, name@version.",
    "safety_model": "What checked them for safety, name@version.",
    "prompt_verdict": "What the safety check said of the question, by category, from 0 to 1.",
    "chosen": "The place, among `candidates` and from 0, of the answer that was delivered.",
    "delivered": "The places of all that were delivered.",
    "n": "How many answers were sampled at once.",
    "asked": "How many that would have been, had there been less to do.",
    "seed": "The random seed that was sent.",
    "stream": "Whether the answer was streamed.",
    "stream_mode": "How.",
    "endpoint": "Which interface was used.",
    "degraded": "What was left out because something did not work.",
    "error": "The error that was answered.",
    "status": "The HTTP status of the answer.",
    "user": "You, as a keyed hash of the name that the application has for you.",
    "tenant": "The application or customer that asked.",
    "tier": "The class of service.",
    "usage": "Tokens read, delivered and sampled.",
    "timings": "How long it took, in milliseconds.",
    "second_check": "What checked the delivered answer again, name@version.",
    "reference": "The expected answer, where the request gave one.",
    "selection": "How the answer was chosen, and the probability that none was delivered.",
    "rounds": "The pieces of answers that were sampled on the way, with their scores.",
    "training": "Whose models it may train: nobody's (none), the tenant's own, or those that all share.",
    "omitted": "What was not kept of it.",
    "redacted": "How much was taken out of its texts, by kind.",
    "comparison": "Which two answers were shown side by side, and with what probability.",
    "session": "The conversation it belongs to, as a keyed hash.",
    "previous": "The interaction that it goes on from.",
    "release": "Which release of the language model and of its settings answered, and whether you were in a group of "
    "users that tried it or was compared with those.",
}

CANDIDATE_FIELDS: Mapping[str, str] = {
    "index": "Its place among the candidates.",
    "message": "The answer.",
    "finish_reason": "Why it ended.",
    "completion_tokens": "Its length in tokens.",
    "wave": "In which round it was sampled.",
    "seed": "Its random seed.",
    "token_ids": "Its text as the language model's tokens.",
    "logprobs": "The logarithm of each token's probability.",
    "stop_reason": "What ended it, where that was a stop word.",
    "reward": "The reward model's score: higher is better.",
    "reward_error": "Why it has none.",
    "verdict": "What the safety check said of it, by category, from 0 to 1.",
    "propensity": "The probability that it was delivered, given all scores.",
    "broken": "Why it did not keep the form that was asked for.",
    "finished_ms": "When it was finished, in milliseconds after the request.",
    "scored_ms": "When it was scored.",
    "scores": "What each scorer gave it, by name@version.",
    "pruned_by": "The scorer that gave it up before its end.",
    "second_check": "What the second safety check said of it.",
}

FEEDBACK_FIELDS: Mapping[str, str] = {
    "id": "The statement's id.",
    "interaction": "The answer that it is about.",
    "created": "When it was said, in seconds since 1970; `time` says it as a date.",
    "kind": "thumbs, rating, preference, correction, comment or flag.",
    "value": "What was said: true or false, a number, a text, or a reason.",
    "candidate": "Which of the answers it is about, or which one was preferred.",
    "over": "The answer that the other one was preferred over.",
    "shown": "Both answers that were compared, in the order in which they were shown.",
    "user": "You, as a keyed hash.",
    "tags": "Labels.",
    "comment": "Your words.",
    "tenant": "The application or customer that asked.",
    "retracted": "It was taken back.",
    "training": "Whose models it may train.",
    "redacted": "How much was taken out of its texts, by kind.",
    "key": "The id of the application's key that it came with.",
    "source": "A keyed hash of the address that it came from.",
}

SHADOW_FIELDS: Mapping[str, str] = {
    "id": "The record's id.",
    "interaction": "The answer that it is about.",
    "created": "When, in seconds since 1970; `time` says it as a date.",
    "scorer": "A scorer that is being tried and decided nothing, name@version.",
    "profile": "The settings that named it, name@version.",
    "reward_model": "What did decide.",
    "scores": "Its scores, by the candidate's index.",
    "winner": "The answer that it would have chosen.",
    "ms": "How long it took, in milliseconds.",
    "tenant": "The application or customer that asked.",
}

_EVERYWHERE = "Fields that are left out have nothing in them. `object` says what a line is."


def header(tenant: str, now: float, left_out: list[str]) -> dict[str, Any]:
    """The first line. left_out: where nobody could look."""
    return {
        "object": "personal_data",
        "made": _time(now),
        "tenant": tenant,
        "about": "All that the log has of one person: their interactions with language models, with the answers that "
        "were sampled and their scores, and their feedback. One JSON object a line, this one first, an `end` last. "
        + _EVERYWHERE,
        "incomplete": left_out,
        "fields": {
            "interaction": dict(INTERACTION_FIELDS),
            "candidate": dict(CANDIDATE_FIELDS),
            "feedback": dict(FEEDBACK_FIELDS),
            "shadow_scores": dict(SHADOW_FIELDS),
        },
    }


def line(record: Record) -> dict[str, Any]:
    """A record as it is stored."""
    return {
        "object": _objects[type(record)],
        "time": _time(record.created),
        **msgspec.to_builtins(record, str_keys=True),
    }


def end(counts: Mapping[str, int]) -> dict[str, Any]:
    """The last line: without it the file is not whole."""
    return {"object": "end", **counts}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


_objects: Mapping[type, str] = {Interaction: "interaction", Feedback: "feedback", ShadowScores: "shadow_scores"}
