"""The answer in the text is the reference, once both are written the same way."""

import re
import string
import unicodedata
from typing import Literal

from pydantic import Field

from scorers.verifiers.case import CannotScore, Case, Check, Verdict
from scorers.verifiers.extract import Extraction, extractor

_BLANKS = re.compile(r"\s+")
# No signs, brackets, percent or factorial: those make another answer.
_AT_ENDS = string.whitespace + ".,;:?…。，、；：？`*_\"'“”„«»‘’‹›「」"


class ExactOptions(Extraction):
    """How the answer is found, and which differences do not count."""

    unicode: bool = Field(True, description="Write both in one form of Unicode (NFKC): ｆｕｌｌ width is full width.")
    ignore_case: bool = Field(True, description="Whether capitals make no difference.")
    spaces: Literal["keep", "collapse", "remove"] = Field(
        "collapse", description="Runs of blanks count as they are, as one, or not at all."
    )
    punctuation: Literal["keep", "ends", "remove"] = Field(
        "ends",
        description="Punctuation counts; counts but for full stops, commas, quotes and such at the two ends; or not "
        "at all, which makes -5 a 5.",
    )


def exact(options: ExactOptions) -> Check:
    """1 where the answer equals the reference after normalisation, else 0."""
    find = extractor(options)

    def check(case: Case) -> Verdict:
        if case.reference is None:
            raise CannotScore("The request has no reference to compare the answer with.")
        wanted = normalised(case.reference, options)
        if not wanted:
            raise CannotScore("Nothing is left of the reference after normalisation, so no answer can equal it.")
        found = find(case.text)
        equal = found is not None and normalised(found, options) == wanted
        return Verdict(float(equal), {"extracted": float(found is not None)})

    return check


def normalised(text: str, options: ExactOptions) -> str:
    """The text without the differences that do not count."""
    if options.unicode:
        text = unicodedata.normalize("NFKC", text)
    if options.ignore_case:
        text = text.casefold()
        if options.unicode:
            text = unicodedata.normalize("NFKC", text)
    if options.punctuation == "remove":
        text = "".join(each for each in text if not unicodedata.category(each).startswith("P"))
    if options.spaces != "keep":
        text = _BLANKS.sub("" if options.spaces == "remove" else " ", text).strip()
    if options.punctuation == "ends":
        text = text.strip(_AT_ENDS)
    return text
