"""How a policy is trained. All of it stands in the job's manifest and in the version's version.json."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.data.rows import Source

Method = Literal["sft", "rejection", "dpo", "kto", "rloo", "grpo"]


class Grader(BaseModel):
    """A verifier as a reward: what it says of an answer (1 passes, 0 does not), times its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field("", description="What its rewards are reported as; empty: the check's name.")
    check: str = Field(description="exact, numeric, regex, json_schema, length, or an own one (see scorers, verifier).")
    options: dict[str, Any] = Field({}, description="The check's own settings (`bestow scorers verifiers` lists them).")
    weight: float = Field(1.0, description="What it counts; the rewards of an answer are summed.")


class PolicySettings(BaseModel):
    """What decides the weights, beside the rows, the base and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = Field(
        "dpo",
        description="sft: imitate demonstrations. rejection: imitate the best few of n. dpo: prefer chosen answers. "
        "kto: thumbs alone. rloo, grpo: sample, score, reinforce.",
    )
    lora: bool = Field(True, description="Train a LoRA adapter, which running workers can load; else all weights.")
    lora_rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA; workers load up to their --max-lora-rank.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the LoRA, over its rank.")
    epochs: int = Field(1, ge=1, le=100, description="Passes over the rows.")
    max_steps: int | None = Field(None, ge=1, description="End after so many steps, whatever epochs says.")
    batch: int = Field(16, ge=1, description="Rows in a step, over all devices.")
    micro_batch: int | None = Field(None, ge=1, description="Rows that a device holds at once; empty: the batch.")
    rate: float | None = Field(None, gt=0, description="Peak learning rate; empty: by method and size.")
    warm_up: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises; it then falls.")
    decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    beta: float = Field(0.1, ge=0, description="How strongly the policy is kept near the reference (KL penalty).")
    sft_weight: float = Field(
        0.1, ge=0, description="dpo: weight of imitating the chosen answer beside preferring it (TRL's sigmoid + sft)."
    )
    best: int = Field(1, ge=1, description="rejection: how many of each prompt's candidates are imitated.")
    samples: int = Field(8, ge=2, le=128, description="rejection, rloo, grpo: candidates sampled for a prompt.")
    temperature: float = Field(1.0, gt=0, le=2, description="rejection, rloo, grpo: at which they are sampled.")
    max_new_tokens: int = Field(128, ge=1, description="rejection, rloo, grpo: longest candidate, in tokens.")
    reward_weight: float = Field(1.0, description="rloo, grpo: what the reward model counts beside the graders.")
    graders: list[Grader] = Field(
        [], description="rloo, grpo: verifiers as rewards; one that needs a reference is of prompts that have one."
    )
    sources: list[Source] = Field([], description="Learn from rows of these sources alone; empty: all.")
    max_length: int = Field(2048, ge=8, description="Tokens; rows that are longer are left out and counted.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Of the weights under a LoRA, and as saved.")
    checkpoints: int = Field(4, ge=1, le=50, description="Points of the curves (reward, KL, length, safety).")
    save_every: int = Field(200, ge=1, description="Steps between the checkpoints that a killed job goes on from.")
