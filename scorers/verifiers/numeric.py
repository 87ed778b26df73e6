"""The number in the text is the reference's, exactly or within a tolerance. In fractions, so that 0.1 + 0.2 is 0.3."""

from decimal import Decimal
from fractions import Fraction

from pydantic import Field

from scorers.verifiers.case import CannotScore, Case, Check, Verdict
from scorers.verifiers.extract import Extraction, How, extractor
from scorers.verifiers.numerals import read_number


class NumericOptions(Extraction):
    """How the number is found, and how near is near enough."""

    extract: How = Field("last_number", description=f"{Extraction.model_fields['extract'].description}")
    absolute: Decimal = Field(Decimal(0), ge=0, description="Largest difference that passes.")
    relative: Decimal = Field(Decimal(0), ge=0, description="Largest that passes as a share of the reference.")
    percent: bool = Field(True, description="Read 50% as 0.5; false: as 50, the sign being a unit.")


def numeric(options: NumericOptions) -> Check:
    """1 where the answer is the reference's number within the tolerance (either of two), else 0; units are ignored."""
    find = extractor(options)

    def check(case: Case) -> Verdict:
        if case.reference is None:
            raise CannotScore("The request has no reference to compare the number with.")
        wanted = read_number(case.reference, percent=options.percent)
        if wanted is None:
            raise CannotScore("The reference is no number.")
        found = find(case.text)
        number = read_number(found, percent=options.percent) if found is not None else None
        parts = {"extracted": float(number is not None)}
        if number is None:
            return Verdict(0.0, parts)
        difference = abs(number - wanted)
        allowed = max(Fraction(options.absolute), Fraction(options.relative) * abs(wanted))
        for name, value in (("number", number), ("difference", difference)):
            parts |= _shown(name, value)
        return Verdict(float(difference <= allowed), parts)

    return check


def _shown(name: str, value: Fraction) -> dict[str, float]:
    try:
        return {name: float(value)}
    except OverflowError:  # parts are for people; a number beyond all floats is still compared exactly
        return {}
