"""The second check of what a comparison may show: all of it, so that how likely a pair was is known."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.decoding.candidate import Judged, identity
from gateway.decoding.second_check import Check


async def read_again(judged: Sequence[Judged], positions: Sequence[int], check: Check) -> tuple[Judged, ...]:
    """All of `judged`, with the verdict on those at `positions` that it has not given yet; a text is read once."""
    found = list(judged)
    said = {identity(one.candidate.message): one.second_check for one in judged if one.second_check is not None}
    unread = {
        identity(judged[position].candidate.message): judged[position].candidate.message
        for position in positions
        if identity(judged[position].candidate.message) not in said
    }
    said.update(zip(unread, await asyncio.gather(*map(check, unread.values())), strict=True))
    for position in positions:
        found[position] = replace(found[position], second_check=said[identity(found[position].candidate.message)])
    return tuple(found)
