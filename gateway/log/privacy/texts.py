"""Every text of a record, redacted; and what hangs on a text that changed: its token ids and log-probabilities go.

The fields are named here one by one: a field of `records` that can hold text and is not here fails a test.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.log.privacy.media import is_inline, is_media
from gateway.log.privacy.redactor import Count, Redactor
from gateway.log.privacy.spans import Span, merged, replaced
from gateway.log.records import (
    CandidateRecord,
    Feedback,
    Interaction,
    Message,
    Piece,
    Record,
    Round,
    ScoreRecord,
    ShadowScores,
    Verdict,
)

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", Feedback, Record)


def redacted(record: R, redactor: Redactor, counts: Count) -> R:
    """The record, or the same object where nothing was found. Adds to counts, by kind."""
    if isinstance(record, Feedback):
        return _feedback(record, redactor, counts)
    if isinstance(record, ShadowScores):
        return _changed(record, scores=_scores(record.scores, redactor, counts))
    if not _may_change(record, redactor):
        return record
    return _changed(
        record,
        messages=[_message(message, redactor, counts) for message in record.messages],
        parameters=redactor.value(record.parameters, counts),
        candidates=[_candidate(candidate, redactor, counts) for candidate in record.candidates],
        prompt_verdict=_verdict(record.prompt_verdict, redactor, counts),
        error=_text(record.error, redactor, counts),
        reference=_text(record.reference, redactor, counts),
        rounds=_rounds(record.rounds, redactor, counts),
    )


def _may_change(record: Interaction, redactor: Redactor) -> bool:
    """One look at all texts together: most records have nothing, and cost no more than this."""
    errors: list[object] = [record.error, record.reference, record.prompt_verdict and record.prompt_verdict.error]
    for one in record.candidates:
        errors += [one.stop_reason, one.reward_error, one.broken]
        errors += [verdict.error for verdict in (one.verdict, one.second_check) if verdict]
        errors += [score.error for score in one.scores.values()]
    texts = [
        record.messages,
        [value for value in record.parameters.items() if not isinstance(value[1], (int, float))],
        [candidate.message for candidate in record.candidates],
        [one for one in errors if isinstance(one, str)],
        record.rounds,
    ]
    try:
        return redactor.may_change(msgspec.json.encode(texts))
    except Exception:  # Half a surrogate pair, an integer beyond 64 bits: each text is looked at by itself.
        return True


def _message(message: Message, redactor: Redactor, counts: Count) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return _value(message, redactor, counts)
    # Data that the log keeps is kept whole: an image with a hole in its base64 is none.
    parts = [part if is_media(part) and is_inline(part) else redactor.value(part, counts) for part in content]
    rest = _value({key: value for key, value in message.items() if key != "content"}, redactor, counts)
    return {key: parts if key == "content" else rest.get(key) for key in message if key == "content" or key in rest}


def _value(message: Message, redactor: Redactor, counts: Count) -> Message:
    found: Message = redactor.value(message, counts)
    return found


def _candidate(candidate: CandidateRecord, redactor: Redactor, counts: Count) -> CandidateRecord:
    message = _message(candidate.message, redactor, counts)
    stop = candidate.stop_reason
    return _changed(
        candidate,
        message=message,
        token_ids=candidate.token_ids if message == candidate.message else None,
        logprobs=candidate.logprobs if message == candidate.message else None,
        stop_reason=redactor.text(stop, counts) if isinstance(stop, str) else stop,
        reward_error=_text(candidate.reward_error, redactor, counts),
        verdict=_verdict(candidate.verdict, redactor, counts),
        broken=_text(candidate.broken, redactor, counts),
        scores=_scores(candidate.scores, redactor, counts),
        second_check=_verdict(candidate.second_check, redactor, counts),
    )


def _rounds(rounds: Sequence[Round], redactor: Redactor, counts: Count) -> list[Round]:
    """Pieces are redacted as parts of the answers that they make up: an address may begin in one and end in the next.

    Each piece is read with all that it goes on from; what reaches back over its start is taken out there as well.
    """
    places: list[list[list[Span]]] = [[[] for _ in one.pieces] for one in rounds]
    for depth, one in enumerate(rounds):
        for number in range(len(one.pieces)):
            chain = _chain(rounds, depth, number)
            for span in redactor.spans("".join(rounds[level].pieces[place].text for level, place in chain)):
                _spread(span, rounds, chain, places)
    return [
        Round([_piece(*pair, redactor, counts) for pair in zip(one.pieces, spans, strict=True)])
        for one, spans in zip(rounds, places, strict=True)
    ]


def _chain(rounds: Sequence[Round], depth: int, number: int) -> list[tuple[int, int]]:
    """(round, piece) of an answer's pieces up to this one, in order."""
    chain = [(depth, number)]
    while depth:
        number, depth = rounds[depth].pieces[number].after, depth - 1
        if not 0 <= number < len(rounds[depth].pieces):
            break
        chain.append((depth, number))
    return chain[::-1]


def _spread(
    span: Span, rounds: Sequence[Round], chain: Iterable[tuple[int, int]], places: list[list[list[Span]]]
) -> None:
    """Note a span of the whole in each of the pieces that it runs through."""
    begin = 0
    for level, place in chain:
        end = begin + len(rounds[level].pieces[place].text)
        start, stop = max(span.start, begin), min(span.end, end)
        if start < stop:
            places[level][place].append(Span(start - begin, stop - begin, span.kind))
        begin = end


def _piece(piece: Piece, spans: Sequence[Span], redactor: Redactor, counts: Count) -> Piece:
    apart = merged(spans)
    counts.update(span.kind for span in apart)
    text = redactor.text(replaced(piece.text, apart), counts)
    return _changed(
        piece,
        text=text,
        token_ids=None if apart or text != piece.text else piece.token_ids,
        reward_error=_text(piece.reward_error, redactor, counts),
        verdict=_verdict(piece.verdict, redactor, counts),
    )


def _feedback(vote: Feedback, redactor: Redactor, counts: Count) -> Feedback:
    return _changed(
        vote,
        value=redactor.text(vote.value, counts) if isinstance(vote.value, str) else vote.value,
        comment=_text(vote.comment, redactor, counts),
        tags=[redactor.text(tag, counts) for tag in vote.tags],
    )


def _verdict(verdict: Verdict | None, redactor: Redactor, counts: Count) -> Verdict | None:
    return verdict and _changed(verdict, error=_text(verdict.error, redactor, counts))


def _scores(scores: dict[Any, ScoreRecord], redactor: Redactor, counts: Count) -> dict[Any, ScoreRecord]:
    return {name: _changed(score, error=_text(score.error, redactor, counts)) for name, score in scores.items()}


def _text(text: str | None, redactor: Redactor, counts: Count) -> str | None:
    return text and redactor.text(text, counts)


def _changed(struct: S, **fields: Any) -> S:
    """The same object where no field is another."""
    changes = {name: value for name, value in fields.items() if getattr(struct, name) != value}
    return msgspec.structs.replace(struct, **changes) if changes else struct
