"""Who is compared: two sides, A and B, as they are named on the command line and as they are served.

MODEL                 a public model, through its own profile
MODEL:PROFILE         through that profile
MODEL[:PROFILE],n=1   one sample and no choice: the policy itself, behind the profile's guard
MODEL[:PROFILE]+NAME  by weights that are not released, as workers name them (demo-policy-v2); takes an operator's key
...@http://host/v1    at another gateway, or a model at any OpenAI-compatible server
FILE                  answers that exist already (AlpacaEval, MT-Bench or ours: `formats`)
"""

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from training.errors import TrainingError

_NAMED = re.compile(r"(?P<name>[^@,+]+)(\+(?P<policy>[^@,+]+))?(,n=(?P<n>\d+))?(@(?P<url>https?://\S+))?")


@dataclass(frozen=True, slots=True)
class Named:
    """A side as it was named. name: MODEL or MODEL:PROFILE. url: base address; None for the gateway here.

    policy: weights by the name that workers have them under; None: what is released.
    """

    name: str
    n: int | None = None
    url: str | None = None
    policy: str | None = None

    def split(self, models: list[str]) -> tuple[str, str | None]:
        """Model and profile, where these models are served. Raises TrainingError."""
        if self.name in models:
            return self.name, None
        model, _, profile = self.name.rpartition(":")
        if model in models and profile:
            return model, profile
        raise TrainingError(f"There is no model {model or self.name!r} here; there is {', '.join(models) or 'none'}.")


class Side(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A side as it is served; what of it is in a result's name.

    model, profile, policy, n: of a gateway, the profile and the policy as name@N. url: where that was said.
    answers: SHA-256 of a file's answers to the prompts; file: its name.
    """

    model: str = ""
    profile: str = ""
    policy: str = ""
    n: int | None = None
    url: str = ""
    answers: str = ""
    file: str = ""

    def __str__(self) -> str:
        if self.answers:
            return self.file
        through = f" through {self.profile}" if self.profile else ""
        # A model's public name says nothing that its policy does not.
        return f"{self.policy or self.model}{through}{f', n={self.n}' if self.n else ''}"


def read_side(text: str) -> Named | Path:
    """Raises TrainingError where it names neither."""
    if Path(text).is_file():
        return Path(text)
    match = _NAMED.fullmatch(text)
    if match is None or text.endswith((".json", ".jsonl")):
        raise TrainingError(
            f"{text!r} is no file, and does not name who answers: MODEL[:PROFILE][+WEIGHTS][,n=N]"
            "[@http://host:port/v1]."
        )
    return Named(match["name"], int(match["n"]) if match["n"] else None, match["url"], match["policy"])


def plain(side: Named) -> Named:
    """The same policy without any choice."""
    return Named(side.name, 1, side.url, side.policy)
