"""Patterns that must, or must not, occur in the text. RE2, so that no text takes more than linear time."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from scorers.settings import Section
from scorers.verifiers.case import Case, Check, Verdict
from scorers.verifiers.extract import compiled


class RegexOptions(Section):
    """The patterns."""

    must_match: list[str] = Field([], description="Regular expressions (RE2) of which each must occur in the text.")
    must_not_match: list[str] = Field([], description="Regular expressions (RE2) of which none may occur.")
    ignore_case: bool = Field(False, description="Whether capitals make no difference.")

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            compiled(pattern)
        return patterns

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.must_match and not self.must_not_match:
            raise ValueError("there is no pattern: give must_match or must_not_match")
        return self


def regex(options: RegexOptions) -> Check:
    """1 where all patterns of must_match occur in the text and none of must_not_match, else 0."""
    patterns = [
        (f"{name}.{index}", compiled(pattern, ignore_case=options.ignore_case), wanted)
        for name, listed, wanted in (
            ("must_match", options.must_match, True),
            ("must_not_match", options.must_not_match, False),
        )
        for index, pattern in enumerate(listed)
    ]

    def check(case: Case) -> Verdict:
        text = case.text
        occurs = {name: pattern.search(text) is not None for name, pattern, _ in patterns}
        passes = all(occurs[name] == wanted for name, _, wanted in patterns)
        return Verdict(float(passes), {name: float(found) for name, found in occurs.items()})

    return check
