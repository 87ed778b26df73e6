"""What a profile says of comparisons: how many requests get two answers, which two, and who is asked."""

from typing import Literal

from pydantic import Field

from scorers.settings import Section

Against = Literal["best", "random"]


class ComparisonConfig(Section):
    """Two answers side by side, for a person to pick the better one: `docs/comparison.md`."""

    share: float = Field(0.0, ge=0, le=1, description="Share of the requests that can show two answers which get two.")
    against: Against = Field(
        "best",
        description="What the chosen answer is held against. best: the others' best by reward, where a pick says most "
        "about the choice. random: any of the others, so that picks tell of the whole range of rewards.",
    )
    ask: Literal["opted_in", "all"] = Field(
        "opted_in",
        description="Which requests can show two. opted_in: those that say so with guidance.comparison. all: those "
        "that do not deny it; an application that reads only the first choice gets either of the two then.",
    )
