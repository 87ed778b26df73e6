"""A scorer's calibration: what `bestow calibrate` writes and the scorer server reads (`scorers.NAME.calibration`)."""

from pathlib import Path

import msgspec

from scorers.calibration.quantiles import RewardLaw
from scorers.model_path import LoadError

FORMAT = 1


class CategoryFit(msgspec.Struct, frozen=True):
    """One category's temperature, with what it was fitted on.

    texts, unsafe: how many there were, and how many belong to the category. ece_before, ece_after: expected
    calibration error without and with the temperature, on texts that it was not fitted on.
    """

    temperature: float
    texts: int
    unsafe: int
    ece_before: float
    ece_after: float


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """scorer: name@N of the version it was measured on. created: seconds since 1970.

    reward: the law of its values under a reference policy. categories: a safety classifier's, by name.
    """

    format: int
    scorer: str
    created: float
    reward: RewardLaw | None = None
    categories: dict[str, CategoryFit] = {}


def read_calibration(path: Path, scorer: str) -> Calibration:
    """The file, for the scorer name@N; what a judge's constitution adds to that is not looked at. Raises LoadError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        raise LoadError(f"The calibration {path} cannot be read: {error.strerror or error}.") from error
    except msgspec.DecodeError as error:
        raise LoadError(f"{path} is no calibration that `bestow calibrate` wrote: {error}.") from error
    if found.format != FORMAT:
        raise LoadError(f"The calibration {path} has format {found.format}; this version of Bestow reads {FORMAT}.")
    if found.scorer.partition("+")[0] != scorer:
        raise LoadError(
            f"The calibration {path} was measured on {found.scorer}, not on {scorer}: measure it again with "
            "`bestow calibrate`, or leave `calibration` out."
        )
    return found


def write_calibration(path: Path, calibration: Calibration) -> None:
    """As indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
