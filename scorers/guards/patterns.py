r"""A plain list of patterns: a category has probability 1 where one of its patterns occurs in a text, else 0.

All text is read that a guard has to see: content, reasoning, refusals, names and arguments of tool calls, and for a
prompt the descriptions of its tools; the system's messages too, so a rule there that names a forbidden word is a hit.

Each text is read twice: as it is, and as it reads without trivial tricks: in one form of Unicode (NFKC: ｆｕｌｌ width,
𝕞ath letters and ﬁ become plain), without what is invisible (zero-width characters, soft hyphens, variation selectors,
controls), without marks piled onto ASCII (b̶o̶m̶b̶), each run of blanks as one space. What it does not undo:
letters of another alphabet that look alike, digits for letters, letters spaced out, codes. Patterns are searched with
RE2, all in one pass and in time linear in the text.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from scorers.contract import Score
from scorers.guards.texts import all_texts
from scorers.loading import Loading, declared
from scorers.model_path import LoadError
from scorers.plain_scorer import PlainScorer
from scorers.scorer_settings import PatternsConfig

_MEMORY = 128 * 1024 * 1024
"""The most that all patterns together may take, in bytes; 20,000 words take a fifth of it."""

_BLANKS = re.compile(r"\s+")
_PILED = re.compile("(?<=[\0-\x7f])[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+")
# Drawn as nothing, and neither controls (Cc) nor format characters (Cf).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]+")


class Patterns:
    """Patterns by category, compiled. Raises LoadError where one cannot be."""

    def __init__(self, name: str, patterns: Mapping[str, Sequence[str]], *, ignore_case: bool) -> None:
        import re2  # noqa: PLC0415  # so that describing what a scorer server offers needs no RE2

        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = not ignore_case
        options.max_mem = _MEMORY
        self._categories = tuple(patterns)
        self._of = [(category, index) for category, each in patterns.items() for index in range(len(each))]
        self._set = re2.Set.SearchSet(options)
        for category, index in self._of:
            pattern = patterns[category][index]
            try:
                re2.compile(pattern, options)  # a set does not say what is wrong
                self._set.Add(pattern)
            except re2.error as error:
                raise LoadError(
                    f"scorers.{name}.patterns.{category}.{index}: {pattern!r} is no regular expression of RE2: "
                    f"{_reason(error)}."
                ) from None
        try:
            self._set.Compile()
        except re2.error:
            raise LoadError(
                f"scorers.{name}.patterns: they take more than {_MEMORY // 1024**2} MiB together; give fewer or "
                "shorter ones, or several scorers of this kind."
            ) from None

    def judge(self, read: Sequence[str]) -> Score:
        """1 or 0 for each category; parts name the patterns that occur, as `category.index`."""
        found = {place for text in read for form in forms(text) for place in self._set.Match(form) or ()}
        hits = [self._of[place] for place in sorted(found)]
        hit = {category for category, _ in hits}
        return Score(
            categories={category: float(category in hit) for category in self._categories},
            parts={f"{category}.{index}": 1.0 for category, index in hits},
        )


def forms(text: str) -> list[str]:
    """The text as it is, and as it reads without trivial tricks, where that is another."""
    return list(dict.fromkeys([text, plain(text)]))


def plain(text: str) -> str:
    """The text without the tricks that the head of this file names."""
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
        text = _PILED.sub("", "".join(_visible(text)))
    elif not text.isprintable():
        text = "".join(_visible(text))
    return _BLANKS.sub(" ", text)


def _visible(text: str) -> Iterator[str]:
    return (each for each in text if each.isspace() or unicodedata.category(each) not in ("Cc", "Cf"))


def load(name: str, config: PatternsConfig, loading: Loading) -> tuple[PlainScorer, str]:
    """The scorer, and how much it looks for in a few words. Raises LoadError."""
    patterns = Patterns(name, config.patterns, ignore_case=config.ignore_case)
    info = declared(name, config, prompt_only=True, categories=list(config.patterns))
    count = sum(map(len, config.patterns.values()))
    scorer = PlainScorer(
        info, lambda request, candidate: patterns.judge(all_texts(request, candidate)), limit=loading.server.max_queue
    )
    return scorer, f"{count} patterns in {len(config.patterns)} categories"


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
