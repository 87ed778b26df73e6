"""Settings of the scorers and of their server: each key declared once, with type, default, bounds and one sentence.

They are the `scorers:` and `scorer_server:` parts of the one configuration file; the gateway's config embeds them, and
the scorer server reads only them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A part of the file. An unknown key is an error, so that a misspelt one is not silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScorerConfig(Section):
    kind: Literal["reward", "safety"] = Field(description="reward: one raw number; safety: a probability a category.")
    model: str = Field(min_length=1, description="Hugging Face id or local folder of a sequence classifier.")
    version: int = Field(1, ge=1, description="The N of name@N in receipts and in the log.")
    url: Url | None = Field(
        None, description="Scorer server that runs it; empty: `bestow up` starts one for all such scorers."
    )
    safe_labels: list[str] = Field(
        ["safe", "benign", "ok"],
        description="Labels of a safety classifier that mean 'nothing wrong' and are no category (case is ignored).",
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field("float32", description="Number format the model runs in.")
    max_tokens: int | None = Field(None, ge=16, description="Longest input read at once; empty: the model's own.")


class ScorerServerConfig(Section):
    """The scorer server that `bestow up` starts and `bestow scorer` runs."""

    host: str = Field("127.0.0.1", description="Address the scorer server listens on.")
    port: Port = Field(8201, description="Port of the scorer server.")
    threads: int = Field(
        0, ge=0, description="CPU threads a model uses; 0: half of the cores, since vLLM needs the others."
    )
    max_batch_tokens: int = Field(8192, ge=16, description="Padded tokens in one batch.")
    max_queue: int = Field(2048, ge=1, description="Inputs waiting for a model; beyond it the answer is a 429.")
    max_body_bytes: int = Field(8_388_608, ge=1024, description="Largest request body; beyond it the answer is a 413.")
