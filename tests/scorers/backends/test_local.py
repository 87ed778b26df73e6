"""A model run here: the rows of plain transformers, alone, in any batch, in any order, with beginnings shared or kept.

The tolerance that `scorers.backends.local` states is the one that is tested.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from scorers.backend import Head, NextToken, Pooled, Row, Steps
from scorers.backends.local import LocalModel
from scorers.backends.padded import PaddedModel
from scorers.backends.weights import load_weights
from scorers.errors import ScorerFailed
from scorers.model_path import LoadError
from tests.scorers.models import (
    make_bert_classifier,
    make_causal,
    make_classifier,
    make_llama_classifier,
    make_step_model,
    make_tokenizer,
)

TOLERANCE = 1e-4
STEP = 7
MIB = 2**20

_PROMPT = [(37 * at) % 290 + 3 for at in range(90)]
beginnings = st.sampled_from([[], _PROMPT[:20], _PROMPT[:70], _PROMPT])
endings = st.lists(st.integers(0, 300), min_size=1, max_size=30)
batches = st.lists(st.builds(lambda begin, end: [*begin, *end], beginnings, endings), min_size=1, max_size=7)
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_row(model: Any, head: Head, ids: list[int]) -> Row:
    """What transformers gives for one input alone."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    if isinstance(head, Pooled):
        return [float(one) for one in logits]
    if isinstance(head, NextToken):
        return [float(one) for one in logits[-1].log_softmax(-1)[list(head.ids)]]
    return [float(one) for position, ids_one in enumerate(ids) if ids_one == head.token_id for one in logits[position]]


@dataclass(frozen=True)
class Case:
    folder: Path
    head: Head
    plain: Any
    local: LocalModel


_AUTO: dict[type[Head], Any] = {
    Pooled: AutoModelForSequenceClassification,
    Steps: AutoModelForTokenClassification,
    NextToken: AutoModelForCausalLM,
}
_MAKERS: dict[str, tuple[Callable[..., Path], Head]] = {
    "Qwen3": (make_classifier, Pooled()),
    "Llama": (make_llama_classifier, Pooled()),
    "ModernBERT": (make_bert_classifier, Pooled()),
    "Qwen3 steps": (make_step_model, Steps(STEP)),
    "Qwen3 next token": (make_causal, NextToken((4, 9, 4))),
}


@pytest.fixture(scope="module", params=_MAKERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    make, head = _MAKERS[request.param]
    folder = make(tmp_path_factory.mktemp("model"))
    plain = _AUTO[type(head)].from_pretrained(folder, dtype=torch.float32).eval()
    return Case(folder, head, plain, LocalModel(load_weights(str(folder), head, "float32"), head, MIB))


@quick
@given(batches, st.randoms(use_true_random=False))
def test_rows_are_those_of_plain_transformers_alone_in_any_batch_and_in_any_order(
    case: Case, batch: list[list[int]], random: Any
) -> None:
    expected = [plain_row(case.plain, case.head, ids) for ids in batch]
    order = list(range(len(batch)))
    random.shuffle(order)
    together = case.local.forward([batch[index] for index in order]).rows
    for row, index in zip(together, order, strict=True):
        assert row == pytest.approx(expected[index], abs=TOLERANCE)
    for ids, row in zip(batch, expected, strict=True):  # beginnings were kept of those that came before
        assert case.local.forward([ids]).rows[0] == pytest.approx(row, abs=TOLERANCE)


def test_decoders_share_beginnings_and_encoders_are_packed_without(case: Case) -> None:
    batch = [[*_PROMPT, 1, STEP], [*_PROMPT, 2, STEP]]
    fresh = LocalModel(load_weights(str(case.folder), case.head, "float32"), case.head, MIB)
    ran = fresh.forward(batch).tokens
    if isinstance(case.plain.config.architectures, list) and "ModernBert" in case.plain.config.architectures[0]:
        assert (fresh.about, ran) == ("packed", 2 * len(batch[0]))
    else:
        assert (fresh.about, ran) == ("packed, beginnings shared", len(_PROMPT) + 4)


@pytest.mark.parametrize("name", ["Qwen3", "Llama", "Qwen3 steps", "Qwen3 next token"])
def test_a_candidate_that_comes_later_costs_only_itself(name: str, tmp_path: Path) -> None:
    make, head = _MAKERS[name]
    weights = load_weights(str(make(tmp_path)), head, "float32")
    keeping, forgetful = LocalModel(weights, head, MIB), LocalModel(load_weights(str(tmp_path), head, "float32"), head)
    late = [*_PROMPT, 5, STEP]
    assert keeping.forward([[*_PROMPT, 1, STEP]]).tokens == len(_PROMPT) + 2
    again = keeping.forward([late])
    assert again.tokens == 2
    assert again.rows[0] == pytest.approx(forgetful.forward([late]).rows[0], abs=TOLERANCE)
    assert forgetful.forward([late]).tokens == len(late)


def test_bfloat16_rows_differ_by_rounding_alone(case: Case) -> None:
    local = LocalModel(load_weights(str(case.folder), case.head, "bfloat16"), case.head, MIB)
    batch = [[*_PROMPT[:length], 5 + length % 50, STEP] for length in (3, 9, 30, 31, 75, 90)]
    plain = PaddedModel(load_weights(str(case.folder), case.head, "bfloat16"), case.head)
    with torch.inference_mode():
        alone = [plain.run([ids]) for ids in batch]
    expected = [value for ran in alone for value in ran.rows[0]]
    spread = max(expected) - min(expected)
    for rows in (local.forward(batch).rows, [local.forward([ids]).rows[0] for ids in batch]):
        assert [value for row in rows for value in row] == pytest.approx(expected, abs=0.05 * spread)


def test_a_head_whose_logits_exceed_20_still_ranks(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, head_scale=3000.0)
    local = LocalModel(load_weights(str(folder), Pooled(), "float32"), Pooled(), MIB)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    batch = [[*_PROMPT[:40], number, 3 * number + 1] for number in range(20, 40)]
    rows = [row[0] for row in local.forward(batch).rows]
    expected = [plain_row(plain, Pooled(), ids)[0] for ids in batch]
    high = [index for index, value in enumerate(expected) if value > 20]
    assert len(high) > 2
    assert len({1 / (1 + math.exp(-expected[index])) for index in high}) < len(high)  # squashed, some would be equal
    assert sorted(range(20), key=rows.__getitem__) == sorted(range(20), key=expected.__getitem__)


@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>", None])
def test_an_input_that_ends_in_any_control_token_is_pooled_as_alone_in_plain_transformers(
    tmp_path: Path, pad: str | None
) -> None:
    folder = make_classifier(tmp_path, pad=pad)
    weights = load_weights(str(folder), Pooled(), "float32")
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    padded = PaddedModel(load_weights(str(folder), Pooled(), "float32"), Pooled())
    for run in (LocalModel(weights, Pooled(), MIB).forward, torch.inference_mode()(padded.run)):
        for last in ([0], [1], [2], [2, 0, 0]):
            ids = [5, 6, 7, *last]
            row = run([ids, [8, 9, 10, 11, 12, 0], [1], [0, 0], [2]]).rows[0]
            assert row == pytest.approx(plain_row(plain, Pooled(), ids), abs=TOLERANCE)
    assert weights.model.config.pad_token_id == (None if pad is None else 2 if pad == "<|im_end|>" else 0)


def test_the_rows_of_steps_are_as_many_as_there_are_steps(tmp_path: Path) -> None:
    head = Steps(STEP)
    local = LocalModel(load_weights(str(make_step_model(tmp_path)), head, "float32"), head)
    assert [len(row) for row in local.forward([[1, STEP, 2, STEP, STEP], [1, 2], [STEP]]).rows] == [6, 0, 2]
    assert local.forward([[1, 2], [3]]).rows == [[], []]


def test_only_the_last_logits_of_a_language_model_are_computed(tmp_path: Path) -> None:
    weights = load_weights(str(make_causal(tmp_path)), NextToken((1,)), "float32")
    shapes: list[tuple[int, ...]] = []
    weights.model.lm_head.register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape[:-1])))
    local = LocalModel(weights, NextToken((1,)))
    PaddedModel(weights, NextToken((1,)))
    shapes.clear()
    local.forward([[1] * 50, [2] * 30])
    assert shapes == [(2, 1)]


def test_an_empty_input_is_an_error(case: Case) -> None:
    with pytest.raises(ScorerFailed):
        case.local.forward([[1], []])


def test_a_model_that_cannot_be_packed_runs_padded_with_the_same_rows(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    local = LocalModel(load_weights(str(tmp_path), Pooled(), "float32"), Pooled(), MIB)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert local.about == "padded"
    batch = [[5, 6, 7], [8, 9, 10, 11, 12], [4]]
    ran = local.forward(batch)
    assert ran.tokens == 15
    for ids, row in zip(batch, ran.rows, strict=True):
        assert row == pytest.approx(plain_row(plain, Pooled(), ids), abs=TOLERANCE)
    assert local.plan([[1] * 10, [1] * 500, [1] * 11], 8192) == [0, 2]


def odd_classifier(folder: Path, **odd: Any) -> Path:
    """A Qwen3 classifier with settings of attention or positions that few have."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "pad_token_id": 0,
        "num_labels": 1,
    }
    model = Qwen3ForSequenceClassification(Qwen3Config(**{**options, **odd}))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.score.weight.mul_(30)
    model.save_pretrained(folder)
    return folder


def test_sliding_windows_are_kept_to_and_nothing_is_shared_under_them(tmp_path: Path) -> None:
    folder = odd_classifier(tmp_path, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    local = LocalModel(load_weights(str(folder), Pooled(), "float32"), Pooled(), MIB)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    assert local.about == "packed"
    batch = [_PROMPT, _PROMPT[:30], [*_PROMPT[:30], 5], [9, 8, 7]]
    for ids, row in zip(batch, local.forward(batch).rows, strict=True):
        assert row == pytest.approx(plain_row(plain, Pooled(), ids), abs=TOLERANCE)


def test_where_positions_stretch_with_the_longest_input_each_runs_alone(tmp_path: Path) -> None:
    stretched = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    folder = odd_classifier(tmp_path, max_position_embeddings=32, rope_parameters=stretched)
    local = LocalModel(load_weights(str(folder), Pooled(), "float32"), Pooled(), MIB)
    batch = [_PROMPT, _PROMPT[:40], _PROMPT[:30], [9, 8, 7]]
    assert local.plan(batch, 8192) == [0]
    for ids, row in zip(batch, local.forward(batch).rows, strict=True):
        plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        assert row == pytest.approx(plain_row(plain, Pooled(), ids), abs=TOLERANCE)


def language_model(folder: Path) -> Path:
    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


@pytest.mark.parametrize(
    ("make", "head", "complaint"),
    [
        (language_model, Pooled(), "no trained sequence classifier"),
        (language_model, Steps(STEP), "no trained token classifier"),
        (make_classifier, NextToken((1,)), "is a classifier|no trained language model"),
        (make_step_model, NextToken((1,)), "is a classifier|no trained language model"),
    ],
)
def test_a_model_without_the_head_that_is_asked_for_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], head: Head, complaint: str
) -> None:
    with pytest.raises(LoadError, match=complaint):
        load_weights(str(make(tmp_path)), head, "float32")
