"""Settings of each kind of scorer: the `scorers:` part of the configuration file, told apart by `kind`.

The gateway's config embeds them, and the scorer server reads them. Those whose `gives` is "value" rank candidates;
those that give "categories" guard prompts and answers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, FiniteFloat, field_validator, model_validator

from scorers.contract import Gives, Kind
from scorers.settings import Name, Section, Upstream, Url, check_address

Dtype = Literal["float32", "bfloat16", "auto"]
Aggregate = Literal["last", "min", "prod", "mean"]
Combine = Literal["weighted", "worst", "uncertainty"]


class VllmConfig(Upstream):
    """A vLLM server that runs the weights; templates and tokenizers stay in the scorer server."""

    url: Url = Field(description="Base address of that vLLM server, without /v1.")
    model: str | None = Field(None, description="What it calls the model; empty: the only one it serves.")
    timeout_s: float = Field(30.0, gt=0, description="Longest wait for one of its answers.")
    start_timeout_s: float = Field(900.0, gt=0, description="Longest wait for it to be ready, when the scorer loads.")

    @model_validator(mode="after")
    def _address_agrees(self) -> Self:
        check_address(self.url, self)
        return self


class _Scorer(Upstream):
    """What every scorer has: a version, and where the scorer server that runs it is."""

    gives: ClassVar[Gives] = "value"

    version: int = Field(1, ge=1, description="The N of name@N in receipts and in the log.")
    url: Url | None = Field(
        None, description="Scorer server that runs it; empty: `bestow up` starts one for all such scorers."
    )
    calibration: Path | None = Field(
        None, description="Calibration made by `bestow calibrate`: quantiles of rewards, temperature of probabilities."
    )

    @property
    def relative(self) -> bool:
        """Whether its scores depend on the other candidates of a request, which must come together then."""
        return False

    @model_validator(mode="after")
    def _address_agrees(self) -> Self:
        if self.url is not None:
            check_address(self.url, self)
        elif self.tls_keys or self.api_key_file or self.api_key_env:
            what = self.tls_keys or ("api_key_file" if self.api_key_file else "api_key_env")
            raise ValueError(f"{what} is for a scorer with a url; that of the server started here is in scorer_server")
        return self


class _ModelScorer(_Scorer):
    """One that runs a model."""

    dtype: Dtype = Field("float32", description="Number format the model runs in.")
    max_tokens: int | None = Field(None, ge=16, description="Longest input read at once; empty: the model's own.")
    family: str | None = Field(
        None, description="How its prompts are made (`bestow scorers families` lists them); empty: found by the model."
    )
    vllm: VllmConfig | None = Field(None, description="A vLLM server that runs the weights; empty: run here.")


# In each class below, the fields of the base named last come first in the generated example.
class _Reward(Section):
    kind: Literal["reward"] = Field(description="reward: one raw number; safety: a probability a category.")
    model: str = Field(min_length=1, description="Hugging Face id or local folder of a sequence classifier.")
    weights: dict[str, FiniteFloat] = Field(
        {},
        description="Of a model with several labels: what each counts; the reward is the weighted sum of raw scores. "
        "One that is not named counts nothing.",
    )


class RewardConfig(_ModelScorer, _Reward):
    """A sequence classifier with one label, or several with fixed weights."""


class _Ensemble(Section):
    kind: Literal["ensemble"] = Field(description="Several reward models as one.")
    members: dict[Name, FiniteFloat] = Field(
        min_length=2,
        description="Scorers of the same server and what each counts; they are served by themselves too. One of weight "
        "0 is asked and its reward told, and does not count.",
    )
    combine: Combine = Field(
        "weighted",
        description="weighted: the sum by weight; worst: the lowest of the members' rewards; uncertainty: their mean "
        "less a penalty for disagreeing. The last two help where members err independently: other bases and data, not "
        "other seeds.",
    )
    penalty: FiniteFloat | None = Field(
        None, ge=0, description="With uncertainty: how much of the members' variance is taken off; empty: 0.5."
    )
    standardise: bool = Field(
        True, description="Put members on one scale by the mean and deviation of their calibration before combining."
    )


class EnsembleConfig(_Scorer, _Ensemble):
    """Several reward models as one; each member's own reward is told too."""

    @model_validator(mode="after")
    def _members_can_be_combined(self) -> Self:
        if self.penalty is not None and self.combine != "uncertainty":
            raise ValueError(f"penalty is for combine: uncertainty, and this one is {self.combine}: leave it out")
        if self.combine == "weighted":
            return self
        for name, weight in self.members.items():
            if weight not in (0, 1):
                raise ValueError(
                    f"members.{name} has the weight {weight:g}, and combine: {self.combine} knows only 1 (it counts) "
                    "and 0 (its reward is told and does not count)"
                )
        if sum(self.members.values()) < 2:
            raise ValueError(f"combine: {self.combine} compares members, so at least two of them need the weight 1")
        return self


class _Process(Section):
    kind: Literal["process"] = Field(description="A process reward model: a score for each step.")
    model: str = Field(
        min_length=1, description="Hugging Face id or local folder of a token classifier, or of Math-Shepherd."
    )
    separator: str | None = Field(
        None, min_length=1, description="What stands between two steps of an answer; empty: its family's, a blank line."
    )
    step_token: str | None = Field(
        None, description="Token at which the model scores a step; empty: its family's (such as <extra_0>)."
    )
    good_label: str | None = Field(
        None, description="Label whose probability is a step's score; empty: the last of two, or the only one raw."
    )
    aggregate: Aggregate = Field(
        "last",
        description="How the steps' scores become the reward: the last one, the smallest, the logarithm of their "
        "product (which never sinks to 0), or their mean.",
    )


class ProcessConfig(_ModelScorer, _Process):
    """A token classifier that scores each step."""


class _Judge(Section):
    kind: Literal["judge"] = Field(description="A language model that judges by a written constitution.")
    model: str = Field(min_length=1, description="Hugging Face id or local folder of a language model.")
    mode: Literal["pairwise", "pointwise"] = Field(
        "pairwise", description="pairwise: answers are compared two by two, both ways; pointwise: each is rated alone."
    )
    constitution: Path | None = Field(
        None, description="Principles with ids, examples and an order of authority (YAML); empty: the built-in one."
    )
    opponents: int = Field(
        8,
        ge=2,
        multiple_of=2,
        description="Pairwise: with how many others each answer is compared, both ways; all where there are no more.",
    )


class JudgeConfig(_ModelScorer, _Judge):
    """A generative model whose verdict is read from token probabilities."""

    @model_validator(mode="after")
    def _has_no_family(self) -> Self:
        if self.family is not None:
            raise ValueError("family is not for a judge: the chat template of its model makes the prompt")
        return self

    @property
    def relative(self) -> bool:
        """Answers that are compared two by two are scored by how they do against each other."""
        return self.mode == "pairwise"


class _Verifier(Section):
    kind: Literal["verifier"] = Field(description="A check by rule, without a model.")
    check: str = Field(
        min_length=1,
        description="exact, numeric, regex, json_schema, tool_call, length, or an own one: the name of a Python entry "
        "point of the group bestow.verifiers.",
    )
    options: dict[str, Any] = Field({}, description="The check's own settings (`bestow scorers verifiers` lists them).")
    timeout_s: float = Field(5.0, gt=0, description="Longest that an own check may take for one answer.")


class VerifierConfig(_Scorer, _Verifier):
    """1 where the answer passes, 0 where it does not, or what the check says in between."""


class _Guard(_Scorer):
    gives: ClassVar[Gives] = "categories"


class _Safety(Section):
    kind: Literal["safety"] = Field(description="A classifier of unsafe content: a probability a category.")
    model: str = Field(min_length=1, description="Hugging Face id or local folder of a sequence classifier.")
    safe_labels: list[str] = Field(
        ["safe", "benign", "ok"],
        description="Labels of a safety classifier that mean 'nothing wrong' and are no category (case is ignored).",
    )


class SafetyConfig(_ModelScorer, _Safety):
    """A sequence classifier with categories."""

    gives: ClassVar[Gives] = "categories"


class _GenerativeSafety(Section):
    kind: Literal["generative_safety"] = Field(
        description="A guard that is a language model (Llama Guard, Qwen3Guard, ...)."
    )
    model: str = Field(min_length=1, description="Hugging Face id or local folder of a language model.")
    template: Path | None = Field(
        None,
        description="Guard format of another family (YAML, as deploy/guard-format.example.yaml); empty: by the model's "
        "family.",
    )


class GenerativeSafetyConfig(_ModelScorer, _GenerativeSafety):
    """A generative guard, read as one prefill with label probabilities."""

    gives: ClassVar[Gives] = "categories"

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.template and self.family:
            raise ValueError("template and family both say how its prompts are made: keep one of them")
        return self


class ModerationEndpoint(Upstream):
    """A service that answers as OpenAI's /v1/moderations does."""

    url: Url = Field(description="Base address of the service, /v1 included (it is asked at /moderations).")
    model: str | None = Field(None, description="Which of its models; empty: its default.")
    timeout_s: float = Field(10.0, gt=0, description="Longest wait for one of its answers.")

    @model_validator(mode="after")
    def _address_agrees(self) -> Self:
        check_address(self.url, self)
        return self


class _Moderation(Section):
    kind: Literal["moderation"] = Field(description="An OpenAI-style moderation endpoint.")
    endpoint: ModerationEndpoint = Field(description="The service, and how to speak to it.")
    window: int = Field(
        2000, ge=100, description="Characters sent as one text; a longer one is judged in pieces that overlap."
    )


class ModerationConfig(_Guard, _Moderation):
    """A guard at another's service: texts of prompts and answers leave for it."""


class _Patterns(Section):
    kind: Literal["patterns"] = Field(description="A plain list of patterns.")
    patterns: dict[str, list[str]] = Field(
        min_length=1, description="By category, regular expressions (RE2) of which none may occur in a text."
    )
    ignore_case: bool = Field(True, description="Whether capitals make no difference.")


class PatternsConfig(_Guard, _Patterns):
    """Probability 1 where a pattern of the category occurs, 0 where none does."""

    @field_validator("patterns")
    @classmethod
    def _none_is_empty(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for category, patterns in value.items():
            if not patterns or not all(patterns):
                raise ValueError(f"the category {category!r} holds an empty pattern or none")
        return value


ScorerConfig = Annotated[
    RewardConfig
    | EnsembleConfig
    | ProcessConfig
    | JudgeConfig
    | VerifierConfig
    | SafetyConfig
    | GenerativeSafetyConfig
    | ModerationConfig
    | PatternsConfig,
    Field(discriminator="kind"),
]

KINDS: tuple[str, ...] = get_args(Kind)
UNKNOWN_KIND = ("union_tag_invalid", "union_tag_not_found")


def location(error: Any) -> str:
    """Where one of pydantic's errors is, as keys are written; the kind that it puts behind a scorer's name is none."""
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    if parts[0] == "scorers" and len(parts) > 2 and parts[2] in KINDS:
        del parts[2]
    return ".".join([*parts, "kind"] if error["type"] in UNKNOWN_KIND else parts)


def no_such_kind(error: Any) -> str:
    """What is wrong with a scorer without a kind that is known, in words."""
    given = error["input"].get("kind") if isinstance(error["input"], dict) else None
    return f"{f'there is no kind {given!r}' if given else 'a kind is missing'}; there is {', '.join(KINDS)}"


def calls_of(config: ScorerConfig) -> Mapping[str, VllmConfig | ModerationEndpoint]:
    """The servers that the scorer server calls for this scorer, by the key that names each."""
    if isinstance(config, ModerationConfig):
        return {"endpoint": config.endpoint}
    vllm = getattr(config, "vllm", None)
    return {"vllm": vllm} if vllm else {}


def weights_of(config: ScorerConfig) -> str | None:
    """The Hugging Face id or folder of the model that the scorer reads; None where it reads none."""
    return getattr(config, "model", None) if isinstance(config, _ModelScorer) else None


def with_weights(config: ScorerConfig, model: str | None) -> ScorerConfig:
    """The same settings with the model from elsewhere, where it has one."""
    return config if model is None else config.model_copy(update={"model": model})
