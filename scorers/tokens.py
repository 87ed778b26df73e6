"""Text to token ids, so that no untrusted text becomes a control token.

A tokenizer turns `<|im_end|>` into one control token wherever it stands, in the template or in what a stranger wrote.
So, before a conversation is rendered, every occurrence of an added token (special or not) in untrusted text is hidden
behind a placeholder; after rendering, the text between placeholders is tokenised as ever, and what a placeholder hid
by a second copy of the tokenizer that knows no added tokens. Text without such occurrences has no placeholder and
gives exactly the ids of the plain tokenizer, since it is tokenised in one go.

Added tokens made of white space alone (some tokenizers have runs of spaces) control nothing and are left as they are.
"""

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Hidden:
    """Values with control tokens replaced by placeholders; `originals[i]` is what the i-th placeholder hid."""

    value: Any
    nonce: str = ""
    originals: list[str] = field(default_factory=list)


class SafeTokenizer:
    """A fast tokenizer's backend, copied: truncation and padding that its file may ask for are off.

    more: ordinary tokens that control something in this model all the same, such as the `ки` that ends a step.
    """

    def __init__(self, backend: Tokenizer, more: Sequence[str] = ()) -> None:
        serialized = backend.to_str()
        self._parsed: Tokenizer = Tokenizer.from_str(serialized)
        data = json.loads(serialized)
        added = data.get("added_tokens") or []
        data.update(added_tokens=[], truncation=None, padding=None, post_processor=None)
        self._plain: Tokenizer = Tokenizer.from_str(json.dumps(data))
        self._parsed.no_truncation()
        self._parsed.no_padding()
        self._normalizer = self._parsed.normalizer
        ascii_text = "".join(map(chr, range(32, 127)))
        self._keeps_ascii = self._normalizer is None or self._normalizer.normalize_str(ascii_text) == ascii_text
        control = [token for token in added if token["content"].strip(" \t\r\n\v\f▁")]
        ordinary = {one for token in more for one in self._parsed.encode(token, add_special_tokens=False).ids}
        self.control_ids = frozenset(int(token["id"]) for token in control) | ordinary
        """Ids that untrusted text never becomes."""
        spellings = {*more, *(token["content"] for token in control)}
        if self._normalizer is not None:
            spellings |= {self._normalizer.normalize_str(spelling) for spelling in spellings}
        longest_first = sorted(filter(str.strip, spellings), key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self.prefix, self.suffix = self._frame()
        """Ids that the tokenizer itself puts around a single text, such as [CLS] and [SEP]."""
        self.before_pair, self.between_pair, self.after_pair = self._pair_frame()
        """Ids that the tokenizer itself puts before, between and after two texts."""

    def _frame(self) -> tuple[list[int], list[int]]:
        encoding = self._parsed.encode("a", add_special_tokens=True)
        inside = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
        if not inside:
            return [], []
        ids: list[int] = encoding.ids
        return ids[: inside[0]], ids[inside[-1] + 1 :]

    def _pair_frame(self) -> tuple[list[int], list[int], list[int]]:
        encoding = self._parsed.encode("a", "a", add_special_tokens=True)
        ids: list[int] = encoding.ids
        inside = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
        if not inside:
            return [], [], []
        of_first = [index for index in inside if encoding.sequence_ids[index] == 0]
        of_second = [index for index in inside if encoding.sequence_ids[index] == 1]
        return ids[: of_first[0]], ids[of_first[-1] + 1 : of_second[0]], ids[of_second[-1] + 1 :]

    def normal(self, text: str) -> str:
        """The text as the tokenizer reads it: some have `<` for `＜`."""
        normal: str = text if self._normalizer is None else self._normalizer.normalize_str(text)
        return normal

    def hide(self, value: Any) -> Hidden:
        """`value` (strings, lists, objects) with every control token in it behind a placeholder, keys included."""
        if self._control is None or not self._holds_control(value):
            return Hidden(value)
        nonce = secrets.token_hex(8)
        originals: list[str] = []

        def replace(match: re.Match[str]) -> str:
            originals.append(match.group())
            return f"{_OPEN}{nonce}:{len(originals) - 1}{_CLOSE}"

        return Hidden(self._replaced(value, replace), nonce, originals)

    def encode(self, text: str, hidden: Hidden) -> list[int]:
        """Token ids of a text rendered from `hidden.value`; no special tokens are put around it."""
        if not hidden.originals:
            return self._encode_trusted(text)
        pieces = re.split(f"{_OPEN}{hidden.nonce}:([0-9]+){_CLOSE}", text)
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                ids += self._encode_untrusted(hidden.originals[int(piece)])
            elif piece:
                ids += self._encode_trusted(piece)
        return ids

    def _encode_trusted(self, text: str) -> list[int]:
        ids: list[int] = self._parsed.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_untrusted(self, text: str) -> list[int]:
        """Ids without any control token. Some models (Unigram) have their control tokens as ordinary pieces too and
        find them without being told; cut in two, the text matches no more."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        if self.control_ids.isdisjoint(ids):
            return ids
        if len(text) < 2:
            return [one for one in ids if one not in self.control_ids]
        middle = len(text) // 2
        return self._encode_untrusted(text[:middle]) + self._encode_untrusted(text[middle:])

    def _spelling(self, text: str) -> str:
        """The text, or its normal form where only that has a control token: `＜s＞` is `<s>` to some tokenizers."""
        assert self._control is not None
        if self._normalizer is None or (self._keeps_ascii and text.isascii()):
            return text
        normal: str = self._normalizer.normalize_str(text)
        found, found_normal = len(self._control.findall(text)), len(self._control.findall(normal))
        return normal if found_normal > found else text

    def _holds_control(self, value: Any) -> bool:
        assert self._control is not None
        if isinstance(value, str):
            return self._control.search(self._spelling(value)) is not None
        if isinstance(value, dict):
            return any(self._holds_control(key) or self._holds_control(item) for key, item in value.items())
        if isinstance(value, list | tuple):
            return any(self._holds_control(item) for item in value)
        return False

    def _replaced(self, value: Any, replace: Callable[[re.Match[str]], str]) -> Any:
        assert self._control is not None
        if isinstance(value, str):
            return self._control.sub(replace, self._spelling(value))
        if isinstance(value, dict):
            return {
                key if key in _STRUCTURE else self._replaced(key, replace): self._replaced(item, replace)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._replaced(item, replace) for item in value]
        return value


# Keys that templates look up; a tokenizer whose added token is called like one must not hide it from the template.
_STRUCTURE = frozenset(
    {"role", "content", "name", "tool_calls", "function", "arguments", "reasoning_content", "type", "parameters"}
)
