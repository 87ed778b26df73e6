"""Which prompt prefix a request shares with others, as a key to send them to the same workers by.

vLLM keeps the KV cache of prompts in blocks and finds them again by their exact beginning. Two beginnings recur: a
tenant's tools and system messages, in all of its conversations, and a conversation's first turn, in all of its later
ones. The key names both. It is the same in every turn, since a conversation only grows at its end, and in every
gateway, since it is a digest (`hash()` differs from process to process).

Only a bounded beginning of each part is digested: what comes after it lies behind the same first blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

# A block of vLLM's is 16 tokens, about this many characters; what is shorter is never found again.
MIN_CHARS = 64
MIN_IDS = 16

# Enough to tell beginnings apart, little enough to cost microseconds: of one text, and of all that a digest is of.
_TEXT_CHARS = 4_096
_ALL_CHARS = 16_384
_DATA_CHARS = 1_024
_MESSAGES = 32

# Nothing shows where the shared beginning of a text completion ends: these many characters, or ids, stand for it, and
# those many for the prompt itself.
_SHARED_CHARS, _OWN_CHARS = 256, 2_048
_SHARED_IDS, _OWN_IDS = 64, 512

_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """Two digests of 8 bytes. shared: of what many conversations begin with, None where that is less than a block.
    own: of this conversation's beginning, the shared part included.
    """

    shared: bytes | None
    own: bytes


def prefix_key(body: Mapping[str, Any]) -> PrefixKey | None:
    """The key of a request as it goes to a worker; None where its beginning is too short to be found again."""
    # Tenants and adapters have caches of their own.
    beginning = _Beginning(f"{body.get('cache_salt')} {body.get('model')}")
    if "messages" in body:
        return _key_of_messages(beginning, body)
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return _key_of_text(beginning, prompt)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return _key_of_ids(beginning, prompt)
    return None


def _key_of_messages(beginning: "_Beginning", body: Mapping[str, Any]) -> PrefixKey | None:
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if beginning.full:
            break
        beginning.add(repr(tool))
    messages: Sequence[Mapping[str, Any]] = body["messages"][:_MESSAGES]
    first = next((at for at, one in enumerate(messages) if one.get("role") not in _SYSTEM_ROLES), len(messages))
    for message in messages[:first]:
        beginning.add_message(message)
    shared = beginning.digest() if beginning.chars >= MIN_CHARS else None
    beginning.widen()
    asked = False
    for message in messages[first:]:
        beginning.add_message(message)
        asked = asked or message.get("role") == "user"
        # Where the first turn is less than a block ("hi"), more of them make the key: then only the first has none.
        if asked and beginning.chars >= MIN_CHARS:
            break
    return PrefixKey(shared, beginning.digest()) if beginning.chars >= MIN_CHARS else None


def _key_of_text(beginning: "_Beginning", prompt: str) -> PrefixKey | None:
    if len(prompt) < MIN_CHARS:
        return None
    beginning.add(prompt[:_SHARED_CHARS])
    shared = beginning.digest() if len(prompt) >= _SHARED_CHARS else None
    beginning.add(prompt[_SHARED_CHARS:_OWN_CHARS])
    return PrefixKey(shared, beginning.digest())


def _key_of_ids(beginning: "_Beginning", prompt: Sequence[int]) -> PrefixKey | None:
    if len(prompt) < MIN_IDS:
        return None
    beginning.add(repr(prompt[:_SHARED_IDS]))
    shared = beginning.digest() if len(prompt) >= _SHARED_IDS else None
    beginning.add(repr(prompt[_SHARED_IDS:_OWN_IDS]))
    return PrefixKey(shared, beginning.digest())


class _Beginning:
    """A digest that grows by the parts of a prompt. chars: how many characters they have."""

    def __init__(self, scope: str) -> None:
        self.chars = 0
        self._hash = blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=8)
        self._room = _ALL_CHARS

    @property
    def full(self) -> bool:
        """Whether what is added changes the digest no more."""
        return self._room <= 0

    def widen(self) -> None:
        """Room for as much again: a long system message must not hide what the user asks."""
        self._room = _ALL_CHARS

    def digest(self) -> bytes:
        return self._hash.digest()

    def add(self, text: str) -> None:
        self.chars += len(text)
        if self.full:
            return
        data = text[: min(_TEXT_CHARS, self._room)].encode("utf-8", "surrogatepass")
        self._room -= len(data)
        self._hash.update(b"%d:" % len(data))
        self._hash.update(data)

    def add_message(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        self._hash.update(str(message.get("role")).encode("utf-8", "surrogatepass"))
        if isinstance(content, str):
            self.add(content)
        elif isinstance(content, list):
            for part in content:
                if self.full:
                    break
                self._add_part(part)

    def _add_part(self, part: Mapping[str, Any]) -> None:
        """A content part: its texts; of data (an image, a sound) both ends, since files of one kind begin alike."""
        for name, value in part.items():
            if isinstance(value, Mapping):
                self._add_part(value)
            elif isinstance(value, str) and name != "type":
                self.add(value if name == "text" else f"{len(value)} {value[:_DATA_CHARS]} {value[-_DATA_CHARS:]}")
