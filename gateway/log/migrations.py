"""Records of earlier versions: each version's plain JSON becomes the next one's, until it is today's.

    1 -> 2   the same record; from 2 on its bytes may be compressed (`records.packed`), which only readers of 2 undo

For a new version: raise `records.SCHEMA_VERSION`, add its step here, leave the golden files of the versions before it
as they are (tests/gateway/log/golden), and write its own.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Plain = dict[str, Any]

# From a version's record, of the kind that the struct's name says, to the next version's.
Step = Callable[[str, Plain], Plain]


class UnknownVersion(msgspec.ValidationError):
    """A record of a version that is not known here: mostly of a newer program's."""


def migrated(kind: str, data: bytes | str, version: int, to: int, steps: Mapping[int, Step] | None = None) -> Plain:
    """A record of an earlier version as one of `to`. steps: by the version that they start from; None: ours.

    Raises UnknownVersion, or msgspec.DecodeError where `data` is no record of that version.
    """
    known = STEPS if steps is None else steps
    if not min(known) <= version < to:
        raise UnknownVersion(f"it has schema version {version}, and this program reads {min(known)} to {to}")
    plain = msgspec.json.decode(data, type=Plain)
    for step in range(version, to):
        try:
            plain = known[step](kind, plain)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise msgspec.ValidationError(f"it is no record of version {version}: {error!r}") from error
    return plain


def _from_1(_: str, plain: Plain) -> Plain:
    return plain


STEPS: Mapping[int, Step] = {1: _from_1}
