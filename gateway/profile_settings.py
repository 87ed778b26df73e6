"""A profile's settings: what an operator tunes, in the file or while everything runs."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from gateway.comparison.settings import ComparisonConfig
from gateway.decoding.registry import strategy
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Options
from scorers.contract import Gives
from scorers.scorer_settings import ScorerConfig
from scorers.settings import Name, Section

Action = Literal["refuse", "block", "flag"]

_NAMES = TypeAdapter(list[Name])


class PruneStage(Section):
    scorer: Name = Field(description="A cheap scorer that gives numbers.")
    keep: int = Field(
        ge=1, le=127, description="How many of the best by it go on; where no more are left it is not asked."
    )


class NearGuard(Section):
    at: float = Field(
        0.5, gt=0, le=1, description="Share of its threshold that some category of the prompt must have at least."
    )
    n: int = Field(2, ge=1, le=128, description="Candidates then; no more than the request would get anyway.")


class ProfileConfig(Section):
    """The tunable settings of a strategy; they seed version 1 of the profile."""

    strategy: Name = Field(
        "best_of_n",
        description="How samples are spent; `bestow strategies` lists all, with their options.",
    )
    options: dict[str, Any] = Field({}, description="The strategy's own settings.")
    n: int = Field(8, ge=1, le=128, description="Candidates sampled for a request.")
    max_n: int = Field(16, ge=1, le=128, description="Most candidates a request may ask for.")
    min_n: int = Field(1, ge=1, le=128, description="Fewest candidates that n shrinks to when the workers are full.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature when the request names none; empty: the model's own."
    )
    max_tokens: int = Field(512, ge=1, description="Output tokens when the request names no limit.")
    max_tokens_limit: int = Field(4096, ge=1, description="Most output tokens a request may ask for.")
    budget_ms: int | None = Field(
        None,
        ge=1,
        description="Milliseconds after which the best so far is delivered; empty: gateway.request_timeout_s.",
    )
    budget_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens that all candidates of a request together may have; n shrinks to fit, and strategies that "
        "sample in rounds begin none that would go beyond; empty: any number.",
    )
    stream_mode: Literal["hold", "block", "first"] = Field(
        "hold",
        description="How streams are served. hold: the winner at once, when it is found. block: each block of it, as "
        "it is chosen (strategies that choose blocks). first: one sample, live.",
    )
    stream_guard: Literal["hold-back", "window", "audit"] = Field(
        "hold-back",
        description="How live streams are guarded. hold-back: no text leaves before all text up to it is cleared; "
        "window: chunks leave as each is cleared; audit: all leaves, the verdict follows.",
    )
    stream_window: int = Field(
        80, ge=1, le=100_000, description="Characters of new text before the guard is asked about a live stream again."
    )
    stream_context: int = Field(
        400,
        ge=0,
        le=100_000,
        description="Characters before its window that the guard reads too (stream_guard: window).",
    )
    reward: Name | None = Field(
        "reward", description="The scorer that ranks candidates; empty: the first safe one wins."
    )
    selection: SelectionConfig = Field(
        SelectionConfig(), description="How the winner is drawn from the scored candidates."
    )
    near_guard: NearGuard | None = Field(
        None,
        description="Fewer candidates for prompts near the guard's threshold: the best of many is the likelier to be "
        "what the guard missed, and there it misses most. Empty: n for all.",
    )
    prune: list[PruneStage] = Field(
        [],
        description="Cheaper scorers before it, each of which lets its best go on, so that reward reads fewer. Those "
        "given up stay in the log and rank after those that went on.",
    )
    safety: Name | list[Name] | None = Field(
        "safety",
        description="The scorer that guards prompts and answers, or several, asked in this order, cheap ones first: "
        "what one flags no other reads, and what passes they have all passed; empty: nothing is guarded.",
    )
    second_check: Name | None = Field(
        None,
        description="Another guard that reads the winner alone; where it flags one, the next best is tried. The best "
        "of many is the likelier to be what the guard missed. Live streams have it among their guards. Empty: none.",
    )
    shadow: list[Name] = Field(
        [], description="Scorers that score too, for the log alone: what they say decides nothing and holds up nothing."
    )
    safety_threshold: float = Field(0.5, gt=0, le=1, description="Probability at which a category flags a text.")
    category_thresholds: dict[str, float] = Field(
        {}, description="Thresholds of single categories, over the general one; `guard:category` means one guard's."
    )
    action: Action = Field(
        "refuse",
        description="What becomes of a text that is flagged. refuse: it is not delivered, and where nothing else is "
        "safe the answer is the refusal below; block: the same with an error 400; flag: it is delivered, and receipt "
        "and log say so.",
    )
    category_actions: dict[str, Action] = Field(
        {}, description="Actions of single categories, over the general one; `guard:category` means one guard's."
    )
    unreadable: Literal["unavailable", "pass"] = Field(
        "unavailable",
        description="When the guard cannot answer or meets content it cannot read: a 503, or let it through.",
    )
    resample: int = Field(1, ge=0, le=3, description="More rounds of n candidates when none was safe.")
    refusal: str = Field(
        "I can't help with that.",
        min_length=1,
        description="The answer when the prompt, or every candidate, is unsafe.",
    )
    show_candidates: bool = Field(True, description="Whether guidance.return_candidates is allowed.")
    comparison: ComparisonConfig = Field(
        ComparisonConfig(), description="Two answers side by side, of which a person picks the better one."
    )

    @property
    def guards(self) -> tuple[str, ...]:
        """The scorers that guard prompts and answers, in the order in which they are asked."""
        return (self.safety,) if isinstance(self.safety, str) else tuple(self.safety or ())

    @property
    def scorers(self) -> dict[str, tuple[str, Gives]]:
        """All scorers it names: by the key that names it, the scorer and what its scores must be."""
        found: dict[str, tuple[str, Gives]] = {
            f"prune.{index}.scorer": (stage.scorer, "value") for index, stage in enumerate(self.prune)
        }
        if self.reward is not None:
            found["reward"] = self.reward, "value"
        found |= {f"shadow.{index}": (name, "value") for index, name in enumerate(self.shadow)}
        for index, name in enumerate(self.guards):
            found["safety" if isinstance(self.safety, str) else f"safety.{index}"] = name, "categories"
        if self.second_check is not None:
            found["second_check"] = self.second_check, "categories"
        return found

    @property
    def deciding(self) -> list[str]:
        """The scorers that have a say in an answer: all but the shadow ones."""
        return [name for key, (name, _) in self.scorers.items() if not key.startswith("shadow.")]

    @field_validator("safety", mode="before")
    @classmethod
    def _is_a_name_or_names(cls, value: Any) -> Any:
        # The union's own errors would be two for each mistake, one a branch.
        names = value if isinstance(value, list) else [] if value is None else [value]
        try:
            _NAMES.validate_python(names)
        except ValidationError:
            raise ValueError("it must be a scorer's name or a list of names") from None
        return value

    @field_validator("category_thresholds")
    @classmethod
    def _are_probabilities(cls, value: dict[str, float]) -> dict[str, float]:
        for category, threshold in value.items():
            if not 0 < threshold <= 1:
                raise ValueError(f"the threshold of {category!r} must be above 0 and at most 1")
        return value

    @model_validator(mode="after")
    def _bounds_agree(self) -> "ProfileConfig":
        if self.n > self.max_n:
            raise ValueError(f"n ({self.n}) is above max_n ({self.max_n})")
        if self.min_n > self.n:
            raise ValueError(f"min_n ({self.min_n}) is above n ({self.n})")
        if self.max_tokens > self.max_tokens_limit:
            raise ValueError(f"max_tokens ({self.max_tokens}) is above max_tokens_limit ({self.max_tokens_limit})")
        if self.comparison.share and self.max_n < 2:
            raise ValueError("comparison.share needs max_n of 2 or more: two of the candidates are compared")
        return self

    @model_validator(mode="after")
    def _strategy_agrees(self) -> "ProfileConfig":
        found = strategy(self.strategy)
        try:
            options = found.options.model_validate(self.options)
        except ValidationError as error:
            wrong = error.errors()[0]
            key = ".".join(["options", *map(str, wrong["loc"])])
            if wrong["type"] == "extra_forbidden":
                known = ", ".join(found.options.model_fields) or "none"
                raise ValueError(f"{key}: {self.strategy} has no such option (it has {known})") from None
            raise ValueError(f"{key}: {str(wrong['msg']).removeprefix('Value error, ')}") from None
        if (found.needs or options.needs) and self.reward is None:
            so_set = "" if found.needs else " with these options"
            raise ValueError(f"strategy {self.strategy} needs reward{so_set}, the scorer that it chooses by")
        if self.stream_mode == "block" and not found.streams:
            raise ValueError(
                f"stream_mode: block needs a strategy that chooses blocks, such as blockwise; {self.strategy} chooses "
                "whole answers"
            )
        if self.selection.floor and self.reward is None:
            raise ValueError("selection.floor needs reward, an ensemble that has its part")
        return self

    @cached_property
    def strategy_options(self) -> Options:
        """The strategy's own settings, defaults filled in."""
        return strategy(self.strategy).options.model_validate(self.options)

    @model_validator(mode="after")
    def _scorers_agree(self) -> "ProfileConfig":
        if self.prune and self.reward is None:
            raise ValueError("prune needs reward, the scorer that decides among those left")
        for index, stage in enumerate(self.prune):
            above, where = (self.prune[index - 1].keep, "the stage before keeps") if index else (self.max_n, "max_n is")
            if stage.keep >= above:
                raise ValueError(f"prune.{index}.keep ({stage.keep}) gives up nothing: {where} {above}")
        keys: dict[str, str] = {}
        for key, (name, _) in self.scorers.items():
            if name in keys:
                raise ValueError(f"{keys[name]} and {key} both name the scorer {name!r}: keep one of them")
            keys[name] = key
        return self


_INSTEAD: dict[Gives, str] = {
    "value": "gives no number that ranks answers",
    "categories": "gives no categories of unsafe content",
}


def check_scorers(where: str, profile: ProfileConfig, scorers: Mapping[str, ScorerConfig]) -> None:
    """Every scorer that a profile names is there and gives what it is named for. Raises ValueError naming the key."""
    for key, (name, gives) in profile.scorers.items():
        if name not in scorers:
            raise ValueError(f"{where}.{key}: no scorer {name!r} (there is {listed(scorers)})")
        one = scorers[name]
        if one.gives != gives:
            raise ValueError(f"{where}.{key}: scorer {name!r} of kind {one.kind!r} {_INSTEAD[gives]}")
    reward, floor = scorers.get(profile.reward or ""), profile.selection.floor
    if floor is not None and (reward is None or reward.kind != "ensemble" or floor.part not in reward.members):
        raise ValueError(
            f"{where}.selection.floor.part: {floor.part!r} is no member of {profile.reward!r}; reward must be an "
            "ensemble that has it"
        )
    if "steps" in strategy(profile.strategy).needs and (reward is None or reward.kind != "process"):
        raise ValueError(f"{where}.strategy: {profile.strategy} needs a reward of kind 'process', which scores steps")


def listed(names: Mapping[str, Any]) -> str:
    """The names, for a sentence."""
    return ", ".join(sorted(names)) or "none"
