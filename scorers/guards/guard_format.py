"""The prompt formats of generative guards, as data: what they write before a verdict, their labels and categories.

A format is a YAML file. Those of `formats/` are shipped; an operator's own is named by the scorer's `template`, and
`deploy/guard-format.example.yaml` is one. A format says how the prompt is made only where the tokenizer has no chat
template of its own for it.
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from scorers.model_path import LoadError
from scorers.settings import Section

_SHIPPED = Path(__file__).with_name("formats")


def _with_punctuation(marker: str) -> str:
    if marker.replace(" ", "").isalnum() or not marker.strip():
        raise ValueError(f"{marker!r} is only words, which anybody may write: a marker has punctuation")
    return marker


Text = Annotated[str, Field(min_length=1)]
Marker = Annotated[str, AfterValidator(_with_punctuation)]
CategoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Label(Section):
    """A verdict. `text` is told from the others by its first token."""

    text: Text = Field(description="What the guard writes, white space before it included.")
    unsafe: float = Field(ge=0, le=1, description="0 for safe, 1 for unsafe, what lies between for neither.")
    name: CategoryName | None = Field(None, description="Report this label's own probability too, as this category.")


class Category(Section):
    """A kind of unsafe content. `text` is told from the others by its first token."""

    text: Text = Field(description="What the guard writes for it, white space before it included.")
    name: CategoryName = Field(description="What thresholds call it.")
    listed: str | None = Field(
        None,
        description="Text of the prompt that names it; where the model's prompt lacks it, there is no such category.",
    )


class GuardFormat(Section):
    """One family's format."""

    about: Text = Field(description="The models that have it.")
    sources: list[str] = Field([], description="Where it is documented.")
    recognised_by: list[Text] = Field([], description="Texts that stand in each of this family's prompts.")
    template: Text | None = Field(
        None,
        description="The prompt, as a Jinja chat template: messages alternate, the user's first, each with one string "
        "of content, and the last is judged; empty: the tokenizer's own.",
    )
    lead: str = Field("", description="What stands between the prompt and a label.")
    labels: list[Label] = Field(min_length=2, description="The verdicts.")
    category: CategoryName = Field("unsafe", description="Category of the probability that it is unsafe at all.")
    then: str = Field("", description="What the guard writes between an unsafe label and the first category.")
    categories: list[Category] = Field([], description="The kinds of unsafe content.")
    sections: list[Marker] = Field([], description="Plain text that structures the prompt; untrusted text loses it.")
    speakers: list[Marker] = Field([], description="The same, for what begins a turn at the start of a line.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        weights = [label.unsafe for label in self.labels]
        if 0 not in weights or 1 not in weights:
            raise ValueError("labels need one with unsafe: 0 and one with unsafe: 1")
        if self.categories and not self.then:
            raise ValueError(
                "categories need `then`: what the guard writes between an unsafe label and the first of them"
            )
        for names in (self.names, [one.text for one in self.labels], [one.text for one in self.categories]):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{twice[0]!r} stands twice")
        return self

    @property
    def names(self) -> list[str]:
        """What it reports: the whole, single labels, categories."""
        labels = [label.name for label in self.labels if label.name]
        return [self.category, *labels, *(category.name for category in self.categories)]

    @property
    def unsafe_label(self) -> str:
        """The first label that means unsafe."""
        return next(label.text for label in self.labels if label.unsafe == 1)


def shipped_formats() -> dict[str, GuardFormat]:
    """Those that need no file, by name."""
    return {path.stem: read_format(path) for path in sorted(_SHIPPED.glob("*.yaml"))}


def read_format(path: Path) -> GuardFormat:
    """A format file. Raises LoadError naming the file and the field."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"The guard format {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise LoadError(f"The guard format {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    try:
        return GuardFormat.model_validate(data)
    except ValidationError as error:
        raise LoadError("; ".join(f"{path}: {_explain(one)}" for one in error.errors())) from error


def _explain(error: object) -> str:
    assert isinstance(error, dict)
    where = ".".join(map(str, error["loc"]))
    what = "there is no such key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else str(what)
