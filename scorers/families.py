"""Model families, as data: how each makes a prompt of a conversation, where a step's score stands, which model it is.

A reward is only what its authors measured where the ids that the model reads are those that it was trained on. Each
rule here is from the family's own card (`sources`) and tested against its template. Light: no torch, no transformers.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from scorers.contract import Kind
from scorers.model_path import LoadError


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a conversation becomes text, and that text ids.

    shape: "template": by the tokenizer's chat template. "pair": two texts, the conversation and the answer, with what
    the tokenizer puts around and between two. "answer": the answer alone, with what the tokenizer puts around it.
    "joined": the conversation, a space, and the answer.
    special: who writes special tokens such as BOS around the whole: "template": the template, or nobody. "tokenizer":
    the tokenizer, as for any text; what the template wrote of them already is not written twice.
    system: what is done with system prompts: they are kept as messages, dropped, or put before the first user's text.
    thoughts: whether the template is given reasoning that stands in a field of its own, or that field is dropped.
    options: variables that the template is given, so that it does not look at the clock.
    closes: what the judged turn ends with, white space aside; empty: whatever the template writes.
    """

    shape: Literal["template", "pair", "answer", "joined"] = "template"
    special: Literal["template", "tokenizer"] = "template"
    system: Literal["keep", "drop", "user"] = "keep"
    thoughts: Literal["keep", "drop"] = "keep"
    options: tuple[tuple[str, str], ...] = ()
    closes: str = ""


@dataclass(frozen=True, slots=True)
class StepMark:
    """How a process reward model is told where a step ends, and where its verdict stands.

    token: the token whose position scores the step before it. before, after: what is written before and after it;
    nothing is written after the last. separator: what stands between two steps of an answer, unless settings say.
    verdicts: empty for a token classifier, whose labels are read there; else two tokens of a language model, good and
    bad, of which one comes next.
    """

    token: str
    before: str = ""
    after: str = ""
    separator: str = "\n\n"
    verdicts: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """name: what `family` in the settings says. max_tokens: the longest input that its authors recommend.

    It is found by a pattern in the model's name, by the architecture in config.json, or by text in its chat template.
    """

    name: str
    kinds: tuple[Kind, ...]
    about: str
    sources: tuple[str, ...]
    prompt: Prompt = Prompt()
    steps: StepMark | None = None
    max_tokens: int | None = None
    names: str = ""
    architectures: tuple[str, ...] = ()
    template_has: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotServed:
    """Models that need code of their own to run, which is not run here: found as families are, and refused by `why`."""

    names: str
    architectures: tuple[str, ...]
    why: str


_HUB = "https://huggingface.co/"
# Llama 3.2's template writes today's date; a reward must not change overnight. This is Llama 3.1's own constant.
_LLAMA_DATE = (("date_string", "26 Jul 2024"),)
_PLAIN_TEMPLATE = _HUB + "docs/transformers/chat_templating"

FAMILIES: tuple[Family, ...] = (
    Family(
        "skywork-v2-qwen3",
        ("reward",),
        "Skywork-Reward-V2 on Qwen3: no system prompt, at most 16,384 tokens.",
        (_HUB + "Skywork/Skywork-Reward-V2-Qwen3-8B",),
        Prompt(special="tokenizer", system="drop", thoughts="drop", closes="<|im_end|>"),
        max_tokens=16_384,
        names=r"skywork-reward-v2-qwen3",
    ),
    Family(
        "skywork-v2-llama",
        ("reward",),
        "Skywork-Reward-V2 on Llama 3.1 and 3.2: no system prompt of ours (the template writes its own), one BOS, at "
        "most 16,384 tokens.",
        (_HUB + "Skywork/Skywork-Reward-V2-Llama-3.1-8B",),
        Prompt(special="tokenizer", system="drop", thoughts="drop", options=_LLAMA_DATE, closes="<|eot_id|>"),
        max_tokens=16_384,
        names=r"skywork-reward-v2-llama",
    ),
    Family(
        "qwen-math-prm",
        ("process",),
        "Qwen2.5-Math-PRM and models trained like it: <extra_0> after each step, two labels of which the last is good.",
        (_HUB + "Qwen/Qwen2.5-Math-PRM-7B", "arXiv:2501.07301"),
        Prompt(special="tokenizer", thoughts="drop", closes="<|im_end|>"),
        steps=StepMark("<extra_0>"),
        max_tokens=4096,
        names=r"qwen2\.5-math-(prm|7b-prm800k)",
        architectures=("Qwen2ForProcessRewardModel",),
    ),
    Family(
        "math-shepherd",
        ("process",),
        "Math-Shepherd: a language model that writes + or - after each step's ки; question and steps as plain text.",
        (_HUB + "peiyi9979/math-shepherd-mistral-7b-prm", "arXiv:2312.08935"),
        Prompt(shape="joined", special="tokenizer", thoughts="drop"),
        steps=StepMark("ки", before=" ", after="\n", separator="\n", verdicts="+ -"),
        names=r"math-shepherd",
    ),
    Family(
        "llama3",
        ("reward", "process"),
        "Llama 3's header template, one BOS: Skywork-Reward-Llama-3.1, Llama-3.1-8B-Instruct-RM-RB2, FsfairX-LLaMA3-RM "
        "and GRM-Llama3-rewardmodel-ft.",
        (
            _HUB + "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2",
            _HUB + "allenai/Llama-3.1-8B-Instruct-RM-RB2",
            _HUB + "sfairXC/FsfairX-LLaMA3-RM-v0.1",
            _HUB + "Ray2333/GRM-Llama3-8B-rewardmodel-ft",
        ),
        Prompt(special="tokenizer", options=_LLAMA_DATE),
        steps=StepMark("<extra_0>"),
        template_has=("<|start_header_id|>", "<|eot_id|>"),
    ),
    Family(
        "gemma",
        ("reward",),
        "Gemma's template, which knows no system prompt: it goes before the first user's text. One BOS. "
        "Skywork-Reward-Gemma-2-27B, GRM-Gemma2-2B-rewardmodel-ft.",
        (_HUB + "Skywork/Skywork-Reward-Gemma-2-27B-v0.2", _HUB + "Ray2333/GRM-Gemma2-2B-rewardmodel-ft"),
        Prompt(special="tokenizer", system="user"),
        template_has=("<start_of_turn>", "<end_of_turn>"),
    ),
    Family(
        "chatml",
        ("reward", "process"),
        "ChatML, as Qwen's models have it: what the template writes, and nothing around it.",
        (_HUB + "Qwen/Qwen3-0.6B",),
        steps=StepMark("<extra_0>"),
        template_has=("<|im_start|>", "<|im_end|>"),
    ),
    Family(
        "template",
        ("reward", "process"),
        "Any other chat template: what it writes, and nothing around it.",
        (_PLAIN_TEMPLATE,),
        steps=StepMark("<extra_0>"),
    ),
    Family(
        "pair",
        ("reward",),
        "No template: the conversation and the answer as a pair of texts. OpenAssistant's DeBERTa, BERT-like models.",
        (_HUB + "OpenAssistant/reward-model-deberta-v3-large-v2",),
        Prompt(shape="pair", special="tokenizer", thoughts="drop"),
    ),
    Family(
        "answer",
        ("reward",),
        "No template: the answer alone, as a classifier of single texts reads it. Only where the settings name it.",
        (_HUB + "docs/transformers/tasks/sequence_classification",),
        Prompt(shape="answer", special="tokenizer", thoughts="drop"),
    ),
)

NOT_SERVED: tuple[NotServed, ...] = (
    NotServed(
        r"armorm|\bqrm-|urm-llama|ldl-reward",
        ("LlamaForRewardModelWithGating", "LlamaForRewardModelWithGating31", "Gemma2ForRewardModelWithGating"),
        "its several objectives are weighed by a gate that is code of its own, not by fixed weights",
    ),
    NotServed(
        r"inf-orm",
        ("INFORMForSequenceClassification",),
        "its head has two layers, which its card defines in code of its own",
    ),
    NotServed(
        r"grm-.*-(sftreg|distill)|internlm2.*-reward|starling-rm|ultrarm|eurus-rm|qwen2\.5-math-rm|skywork-o1-open-prm",
        (
            "InternLM2ForRewardModel", "Qwen2ForRewardModel", "Qwen2ForPrmModel", "LlamaRewardModel", "EurusRewardModel"
        ),
        "its head is code of its own",
    ),
    NotServed(
        r"pairrm|pair-preference-model",
        ("DebertaV2PairRM",),
        "it compares two answers and gives none of them a reward",
    ),
    NotServed(
        r"llama3\.1-8b-prm-(mistral|deepseek)-data",
        (),
        "its steps are turns of a conversation that it answers itself, one after the other",
    ),
)  # fmt: skip

VLLM_ONLY: dict[str, str] = {
    "Qwen2ForProcessRewardModel": "its head of two layers is built into vLLM and not into transformers",
}
"""Architectures that vLLM runs and this server cannot, with why."""

_ENCODERS = re.compile("bert|electra|mpnet", re.IGNORECASE)


def find_family(
    kind: Kind, name: str, architectures: Collection[str], template: str | None, wanted: str | None = None
) -> Family:
    """The family that the settings want, else the model's own: by its name, its architecture, its chat template.

    name: Hugging Face id or folder. template: its chat template, if it has one. Raises LoadError where no family fits.
    """
    if wanted is not None:
        return _named(kind, wanted)
    for one in NOT_SERVED:
        if _matches(one.names, name) or not set(one.architectures).isdisjoint(architectures):
            raise LoadError(f"{name} cannot be served: {one.why}.")
    for family in _of(kind):
        if _matches(family.names, name) or not set(family.architectures).isdisjoint(architectures):
            return family
    if not template:
        if kind == "reward" and any(map(_ENCODERS.search, architectures)):
            return _named(kind, "pair")
        raise LoadError(
            f"The tokenizer of {name} has no chat template, which a {kind} model needs to read a conversation as it "
            f"did in training. If it needs none, name its `family`: {_names(kind)}."
        )
    for family in _of(kind):
        if family.template_has and all(mark in template for mark in family.template_has):
            return family
    return _named(kind, "template")


def _of(kind: Kind) -> list[Family]:
    return [family for family in FAMILIES if kind in family.kinds]


def _named(kind: Kind, name: str) -> Family:
    for family in _of(kind):
        if family.name == name:
            return family
    raise LoadError(f"There is no family {name!r} of kind {kind}; there is {_names(kind)}.")


def _names(kind: Kind) -> str:
    return ", ".join(family.name for family in _of(kind))


def _matches(pattern: str, name: str) -> bool:
    return bool(pattern) and re.search(pattern, name, re.IGNORECASE) is not None
