"""The text is neither too short nor too long."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scorers.settings import Section
from scorers.verifiers.case import Case, Check, Verdict


class LengthOptions(Section):
    """The bounds."""

    unit: Literal["words", "characters"] = Field(
        "words", description="What is counted; words are what blanks part, so take characters where a script has none."
    )
    min: int = Field(0, ge=0, description="Fewest that pass.")
    max: int | None = Field(None, ge=1, description="Most that pass; empty: any number.")
    graded: bool = Field(
        False,
        description="Outside the bounds, fall from 1 to 0 in a straight line, at nothing and at twice the most; "
        "false: 0 at once.",
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min == 0:
            raise ValueError("there is no bound: give min or max")
        if self.max is not None and self.max < self.min:
            raise ValueError("max is less than min, so nothing could pass")
        return self


def length(options: LengthOptions) -> Check:
    """1 where the text has as many words or characters as the bounds allow, else 0, or between them where graded."""

    def check(case: Case) -> Verdict:
        text = case.text
        count = len(text.split()) if options.unit == "words" else len(text)
        return Verdict(_value(count, options), {options.unit: float(count)})

    return check


def _value(count: int, options: LengthOptions) -> float:
    if count < options.min:
        return count / options.min if options.graded else 0.0
    if options.max is not None and count > options.max:
        return max(0.0, 2 - count / options.max) if options.graded else 0.0
    return 1.0
