"""What is taken out of records on their way into the archive: `log.redact_archive`, too slow for the journal."""

from collections.abc import Callable

import msgspec
from prometheus_client import CollectorRegistry

from gateway.config import Config
from gateway.log.archive.parts import Row
from gateway.log.frames import Kind
from gateway.log.privacy.treatment import Privacy, policies_of
from gateway.log.records import (
    SCHEMA_VERSION,
    Feedback,
    Record,
    decode_feedback,
    decode_interaction,
    decode_shadow,
    encode,
)

Treatment = Callable[[Kind, Row], Row]

_DECODERS: dict[Kind, Callable[[bytes, int], Record]] = {
    Kind.INTERACTION: decode_interaction,
    Kind.FEEDBACK: decode_feedback,
    Kind.SHADOW: decode_shadow,
}


def as_it_is(_: Kind, row: Row) -> Row:
    return row


def redaction(config: Config) -> Treatment:
    """Raises ConfigError for a redactor that is not there."""
    if not config.log.redact_archive:
        return as_it_is
    privacy = Privacy(policies_of(config), config.log, CollectorRegistry())

    def redacted(kind: Kind, row: Row) -> Row:
        try:
            record = _DECODERS[kind](row.data, row.version)
        except msgspec.DecodeError:
            return row  # Nobody's record, or of a version that is read by others.
        found, _ = privacy.archived(record)
        if isinstance(record, Feedback) and isinstance(found, Feedback) and record.kind == "flag":
            found = msgspec.structs.replace(found, value=record.value)  # The vote is known by it.
        return row if found == record else Row(row.entry, SCHEMA_VERSION, encode(found))

    return redacted
