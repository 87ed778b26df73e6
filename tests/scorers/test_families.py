"""The ids that each family's encoder makes are those of the family's own code on its card, and its model is known."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from scorers.contract import Message
from scorers.errors import BadScoreRequest
from scorers.families import FAMILIES, NOT_SERVED, Family, find_family
from scorers.model_family import within_recommended
from scorers.model_path import LoadError
from scorers.reward import encoder_of
from tests.scorers.encoders import ENCODERS, Case, family, files_of
from tests.scorers.models import (
    GEMMA_TEMPLATE,
    LLAMA_TEMPLATE,
    QWEN3_TEMPLATE,
    QWEN_MATH_TEMPLATE,
    QWEN_TEMPLATE,
    SMALL_TEMPLATE,
    STEP_TOKEN,
    make_bert_tokenizer,
    make_deberta_tokenizer,
    make_gemma_tokenizer,
    make_llama_tokenizer,
    make_tokenizer,
)

USER: Message = {"role": "user", "content": "What is the capital of France?"}
ANSWER: Message = {"role": "assistant", "content": "Paris.\n\nIt is old."}
SYSTEM: Message = {"role": "system", "content": "Be brief."}
HISTORY: list[Message] = [USER, {"role": "assistant", "content": "I know."}, {"role": "user", "content": "Tell me!"}]
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "weather", "description": "of a city"}}]
DATE = {"date_string": "26 Jul 2024"}

TALKS = {"single turn": [USER], "several turns": HISTORY}


def encode(name: str, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **more: Any) -> list[int]:
    return encoder_of(files_of(tokenizer), family(name)).encode(messages, ANSWER, more.get("tools", []))


def card_ids(tokenizer: Any, messages: Sequence[Message], **options: Any) -> list[int]:
    """As Skywork's, FsfairX's and AI2's cards do: the template as text, its BOS removed, then the tokenizer's own."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
    if tokenizer.bos_token is not None:
        text = text.removeprefix(tokenizer.bos_token)
    ids: list[int] = tokenizer(text).input_ids
    return ids


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("skywork-v2-qwen3", lambda: make_tokenizer(QWEN3_TEMPLATE), {}),
        ("skywork-v2-llama", make_llama_tokenizer, DATE),
        ("llama3", make_llama_tokenizer, DATE),
        ("gemma", make_gemma_tokenizer, {}),
        ("chatml", make_tokenizer, {}),
        ("template", lambda: make_tokenizer(SMALL_TEMPLATE), {}),
    ],
)
def test_a_template_family_makes_the_ids_of_its_card(name: str, make: Any, options: Any, talk: str) -> None:
    tokenizer = make()
    assert encode(name, tokenizer, TALKS[talk]) == card_ids(tokenizer, [*TALKS[talk], ANSWER], **options)


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [("llama3", make_llama_tokenizer, DATE), ("chatml", make_tokenizer, {})],
)
def test_system_prompts_and_tools_stand_where_the_template_puts_them(name: str, make: Any, options: Any) -> None:
    tokenizer = make()
    expected = card_ids(tokenizer, [SYSTEM, *HISTORY, ANSWER], tools=TOOLS, **options)
    assert encode(name, tokenizer, [SYSTEM, *HISTORY], tools=TOOLS) == expected


@pytest.mark.parametrize(
    ("name", "make"),
    [("skywork-v2-qwen3", lambda: make_tokenizer(QWEN3_TEMPLATE)), ("skywork-v2-llama", make_llama_tokenizer)],
)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_skywork_v2_reads_no_system_prompt_as_its_card_asks(name: str, make: Any, role: str) -> None:
    tokenizer = make()
    assert encode(name, tokenizer, [{**SYSTEM, "role": role}, *HISTORY]) == encode(name, tokenizer, HISTORY)


def test_gemma_reads_a_system_prompt_before_the_first_users_text() -> None:
    tokenizer = make_gemma_tokenizer()
    moved = {"role": "user", "content": f"Be brief.\n\n{USER['content']}"}
    assert encode("gemma", tokenizer, [SYSTEM, *HISTORY]) == encode("gemma", tokenizer, [moved, *HISTORY[1:]])
    with pytest.raises(BadScoreRequest, match="System role not supported"):
        encode("template", tokenizer, [SYSTEM, *HISTORY])


def test_gemma_reads_a_system_prompt_that_stands_alone() -> None:
    tokenizer = make_gemma_tokenizer()
    assert encode("gemma", tokenizer, [SYSTEM]) == encode("gemma", tokenizer, [{**SYSTEM, "role": "user"}])


def test_skywork_v2_reads_no_reasoning_that_stands_in_a_field_of_its_own() -> None:
    tokenizer = make_tokenizer(QWEN3_TEMPLATE)
    encoder = encoder_of(files_of(tokenizer), family("skywork-v2-qwen3"))
    thought = {**ANSWER, "reasoning": "I think of France."}
    assert encoder.encode([USER], thought, []) == encoder.encode([USER], ANSWER, [])
    assert "<think>\n\n</think>" in str(tokenizer.decode(encoder.encode([USER], thought, [])))


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_there_is_one_bos_whoever_writes_it(written: bool, added: bool) -> None:
    template = LLAMA_TEMPLATE if written else LLAMA_TEMPLATE.replace("{{- bos_token }}\n", "")
    tokenizer = make_llama_tokenizer(template)
    if not added:
        tokenizer.backend_tokenizer.post_processor = make_tokenizer().backend_tokenizer.post_processor
    ids = encode("llama3", tokenizer, HISTORY)
    assert ids.count(tokenizer.bos_token_id) == (1 if written or added else 0)
    assert (ids[0] == tokenizer.bos_token_id) is (written or added)


def test_a_llama_template_that_looks_at_the_clock_is_given_a_date() -> None:
    template = LLAMA_TEMPLATE.replace("set date_string = '26 Jul 2024'", "set date_string = strftime_now('%d %b %Y')")
    text = make_llama_tokenizer(template).decode(encode("llama3", make_llama_tokenizer(template), [USER]))
    assert "Today Date: 26 Jul 2024" in str(text)


@pytest.mark.parametrize("make", [make_bert_tokenizer, make_deberta_tokenizer])
def test_a_pair_family_makes_the_ids_of_its_card(make: Any) -> None:
    tokenizer = make()
    expected: list[int] = tokenizer(USER["content"], ANSWER["content"]).input_ids
    assert encode("pair", tokenizer, [USER]) == expected
    said = f"Be brief.\n{USER['content']}\nI know.\nTell me!"
    assert encode("pair", tokenizer, [SYSTEM, *HISTORY]) == tokenizer(said, ANSWER["content"]).input_ids


def test_the_answer_family_makes_the_ids_of_the_answer_alone() -> None:
    tokenizer = make_bert_tokenizer()
    assert encode("answer", tokenizer, [SYSTEM, *HISTORY]) == tokenizer(ANSWER["content"]).input_ids


def step_case(name: str) -> Case:
    return next(case for case in ENCODERS if case.name == f"process-{name}")


def test_qwen_math_prm_makes_the_ids_of_its_card() -> None:
    case = step_case("qwen-math-prm")
    tokenizer: Any = case.tokenizer
    for before in ([SYSTEM, USER], [USER], HISTORY):
        content = f"Paris.{STEP_TOKEN}It is old.{STEP_TOKEN}"
        text = tokenizer.apply_chat_template([*before, {"role": "assistant", "content": content}], tokenize=False)
        assert case.encode(before, ANSWER, []) == tokenizer.encode(text)


def test_math_shepherd_makes_the_ids_of_its_card() -> None:
    case = step_case("math-shepherd")
    tokenizer: Any = case.tokenizer
    output = "Step 1: 16 - 3 = 13. ки\nStep 2: 13 * 2 = 26. The answer is: 26 ки"
    candidate = {"content": output.replace(" ки", "")}
    assert case.encode([USER], candidate, []) == tokenizer.encode(f"{USER['content']} {output}")


@pytest.mark.parametrize("one", [one for one in FAMILIES if one.prompt.closes], ids=lambda one: one.name)
def test_a_prompt_closes_the_judged_turn_as_its_family_says(one: Family) -> None:
    [case] = [case for case in ENCODERS if case.name in (f"reward-{one.name}", f"process-{one.name}")]
    assert str(case.tokenizer.decode(case.encode([USER], ANSWER, []))).rstrip().endswith(one.prompt.closes)


def test_a_template_that_closes_turns_in_another_way_is_not_the_familys() -> None:
    with pytest.raises(LoadError, match=r"does not close a turn with <\|eot_id\|>, as the family skywork-v2-llama"):
        encoder_of(files_of(make_tokenizer()), family("skywork-v2-llama"))


def test_a_template_family_needs_a_template() -> None:
    with pytest.raises(LoadError, match="has no chat template, which the family chatml needs"):
        encoder_of(files_of(make_bert_tokenizer()), family("chatml"))


def test_a_pair_that_is_told_apart_by_token_types_is_refused() -> None:
    files = files_of(make_bert_tokenizer(), type_vocab_size=2)
    with pytest.raises(LoadError, match="token types"):
        encoder_of(files, family("pair"))
    assert encoder_of(files, family("answer"))


@pytest.mark.parametrize(
    ("kind", "name", "architecture", "template", "found"),
    [
        ("reward", "Skywork/Skywork-Reward-V2-Qwen3-0.6B", "Qwen3ForSequenceClassification", QWEN3_TEMPLATE, 0),
        ("reward", "/hub/models--Skywork--Skywork-Reward-V2-Qwen3-8B/snapshots/1", "", QWEN3_TEMPLATE, 0),
        ("reward", "Skywork/Skywork-Reward-V2-Llama-3.1-8B-40M", "LlamaForSequenceClassification", LLAMA_TEMPLATE, 1),
        ("process", "Qwen/Qwen2.5-Math-PRM-7B", "Qwen2ForProcessRewardModel", QWEN_MATH_TEMPLATE, 2),
        ("process", "./mine", "Qwen2ForProcessRewardModel", QWEN_MATH_TEMPLATE, 2),
        ("process", "peiyi9979/math-shepherd-mistral-7b-prm", "MistralForCausalLM", None, 3),
        ("reward", "allenai/Llama-3.1-8B-Instruct-RM-RB2", "LlamaForSequenceClassification", LLAMA_TEMPLATE, 4),
        ("reward", "sfairXC/FsfairX-LLaMA3-RM-v0.1", "LlamaForSequenceClassification", LLAMA_TEMPLATE, 4),
        ("reward", "Ray2333/GRM-Gemma2-2B-rewardmodel-ft", "Gemma2ForSequenceClassification", GEMMA_TEMPLATE, 5),
        ("reward", "./mine", "Qwen3ForSequenceClassification", QWEN_TEMPLATE, 6),
        ("process", "./mine", "Qwen3ForTokenClassification", QWEN_TEMPLATE, 6),
        ("reward", "./mine", "MistralForSequenceClassification", "{{ messages }}", 7),
        ("reward", "OpenAssistant/reward-model-deberta-v3-large-v2", "DebertaV2ForSequenceClassification", None, 8),
        ("reward", "./mine", "ModernBertForSequenceClassification", None, 8),
    ],
)
def test_a_model_is_known_by_its_name_its_architecture_or_its_template(
    kind: Any, name: str, architecture: str, template: str | None, found: int
) -> None:
    assert find_family(kind, name, [architecture], template) is FAMILIES[found]


def test_the_settings_name_a_family_over_all_else() -> None:
    name = "Skywork/Skywork-Reward-V2-Qwen3-0.6B"
    assert find_family("reward", name, [], QWEN3_TEMPLATE, "chatml").name == "chatml"
    assert find_family("reward", "./mine", ["INFORMForSequenceClassification"], None, "answer").name == "answer"


def test_a_family_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(LoadError, match="no family 'skywork' of kind reward; there is skywork-v2-qwen3, "):
        find_family("reward", "./mine", [], None, "skywork")
    with pytest.raises(LoadError, match="no family 'pair' of kind process"):
        find_family("process", "./mine", [], None, "pair")


@pytest.mark.parametrize(
    ("name", "architecture", "why"),
    [
        ("RLHFlow/ArmoRM-Llama3-8B-v0.1", "LlamaForRewardModelWithGating", "code of its own, not by fixed weights"),
        ("nicolinho/QRM-Llama3.1-8B-v2", "LlamaForRewardModelWithGating31", "code of its own"),
        ("infly/INF-ORM-Llama3.1-70B", "INFORMForSequenceClassification", "its head has two layers"),
        ("Ray2333/GRM-llama3-8B-sftreg", "", "its head is code of its own"),
        ("internlm/internlm2-7b-reward", "InternLM2ForRewardModel", "its head is code of its own"),
        ("Qwen/Qwen2.5-Math-RM-72B", "Qwen2ForRewardModel", "its head is code of its own"),
        ("llm-blender/PairRM", "DebertaV2PairRM", "compares two answers"),
        ("RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", "LlamaForCausalLM", "turns of a conversation"),
    ],
)
def test_a_model_that_needs_code_of_its_own_is_refused_with_the_reason(name: str, architecture: str, why: str) -> None:
    for one in (name, "./mine") if architecture and "Causal" not in architecture else (name,):
        with pytest.raises(LoadError, match=f"cannot be served: .*{why}"):
            find_family("reward", one, [architecture], LLAMA_TEMPLATE)


def test_models_that_are_served_are_not_taken_for_others() -> None:
    for name in (
        "Ray2333/GRM-Llama3-8B-rewardmodel-ft",
        "Skywork/Skywork-Reward-Gemma-2-27B",
        "Qwen/Qwen2.5-Math-PRM-7B",
    ):
        assert not any(re.search(one.names, name, re.IGNORECASE) for one in NOT_SERVED)


def test_a_decoder_without_a_template_is_refused_with_what_to_do() -> None:
    with pytest.raises(LoadError, match=r"has no chat template, .* name its `family`: .*answer"):
        find_family("reward", "./mine", ["LlamaForSequenceClassification"], None)


def test_names_are_unique_and_every_rule_has_a_source() -> None:
    assert len({one.name for one in FAMILIES}) == len(FAMILIES)
    assert all(one.sources and one.about for one in FAMILIES)


def test_a_family_recommends_the_longest_input_unless_the_settings_say() -> None:
    files = dataclasses.replace(files_of(make_tokenizer(QWEN3_TEMPLATE)), max_tokens=40_960)
    skywork = family("skywork-v2-qwen3")
    assert within_recommended(files, skywork, None).max_tokens == 16_384
    assert within_recommended(files, skywork, 40_960).max_tokens == 40_960
    assert within_recommended(dataclasses.replace(files, max_tokens=512), skywork, None).max_tokens == 512
    assert within_recommended(files, family("chatml"), None).max_tokens == 40_960


def test_the_table_is_read_without_torch_or_transformers() -> None:
    probe = "import sys, scorers.families; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
