"""Learning rates that nobody named: by method, by size, with a LoRA or without. What was tried is in docs/policy.md."""

from training.policy.settings import Method

# AdamW's peak rate for all of a billion weights.
_OF_A_BILLION: dict[Method, float] = {
    "sft": 1e-5,
    "rejection": 1e-5,
    "dpo": 1e-6,
    "kto": 1e-6,
    "rloo": 1e-6,
    "grpo": 1e-6,
}
_LORA_FASTER = 10.0
_FASTEST = 2e-3


def default_rate(parameters: int, method: Method, lora: bool) -> float:
    """The rate of a billion weights from there on, and with the size to the power of -2/3 below; times ten with a LoRA.

    That is 1e-3 for dpo and kto with a LoRA on the demo's million; between is a guess.
    """
    rate = _OF_A_BILLION[method] * max(1.0, 1e9 / parameters) ** (2 / 3)
    return float(min(rate * (_LORA_FASTER if lora else 1.0), _FASTEST))
