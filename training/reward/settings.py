"""How a reward model is trained. All of it stands in the job's manifest and on the model's card."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.data.rows import Source


class RewardSettings(BaseModel):
    """What decides the weights, beside the rows, the base and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["full", "lora"] = Field(
        "full", description="Train all weights, or a LoRA that is merged at the end."
    )
    epochs: int = Field(
        1, ge=1, le=100, description="Passes over the rows; a reward model over-fits from the second on."
    )
    batch: int = Field(16, ge=1, description="Rows (pairs and thumbs) in a step, over all devices.")
    micro_batch: int | None = Field(
        None, ge=1, description="Rows that a device holds at once; empty: the batch, shared by the devices."
    )
    rate: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate; empty: by size, 1e-5 from a billion weights on, times ten with LoRA, and more "
        "the smaller the model is.",
    )
    warm_up: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises; it then falls.")
    decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    sources: list[Source] = Field(
        [], description="Learn from rows of these sources alone; empty: all. [curated] makes a reference for `defend`."
    )
    max_length: int = Field(2048, ge=8, description="Tokens; rows that are longer are left out and counted.")
    margins: bool = Field(
        True, description="Ask for a larger difference where people said that the answer is much better."
    )
    centring: float = Field(0.01, ge=0, description="How strongly rewards are drawn to a mean of zero.")
    label_weight: float = Field(1.0, ge=0, description="What a thumb counts against a pair of the same weight.")
    label_rate: float = Field(0.01, gt=0, description="Peak learning rate of a and b, which turn rewards into thumbs.")
    lora_rank: int = Field(16, ge=1, description="Rank of the LoRA.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the LoRA, over its rank.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the weights as they are saved; with bfloat16 a GPU computes in it too."
    )
    save_every: int = Field(200, ge=1, description="Steps between checkpoints, of a job.")
