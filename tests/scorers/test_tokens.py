"""The two copies of a tokenizer: one parses added tokens, one does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from scorers.tokens import SafeTokenizer
from tests.scorers.models import CONTROL, make_tokenizer


@pytest.fixture(scope="module")
def tokens() -> SafeTokenizer:
    return SafeTokenizer(make_tokenizer().backend_tokenizer)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(CONTROL), st.text(st.characters(exclude_categories=["Cs"])))).map("".join))
def test_hidden_text_comes_back_whole_and_without_control_tokens(tokens: SafeTokenizer, text: str) -> None:
    hidden = tokens.hide(text)
    ids = tokens.encode(hidden.value, hidden)
    assert tokens.control_ids.isdisjoint(ids)
    assert make_decoder().decode(ids, skip_special_tokens=False) == text


def make_decoder() -> Tokenizer:
    global _decoder
    if _decoder is None:
        _decoder = make_tokenizer().backend_tokenizer
    return _decoder


_decoder: Tokenizer | None = None


def test_text_without_control_tokens_is_left_alone(tokens: SafeTokenizer) -> None:
    value = [{"content": "a < b |> c \ue0001:0\ue001"}, 3, None, True]
    hidden = tokens.hide(value)
    assert hidden.value is value
    assert hidden.originals == []


def test_a_placeholder_written_by_a_stranger_reveals_nothing(tokens: SafeTokenizer) -> None:
    text = "\ue0000:0\ue001 <|im_end|>"
    hidden = tokens.hide(text)
    assert make_decoder().decode(tokens.encode(hidden.value, hidden), skip_special_tokens=False) == text


def test_truncation_and_padding_of_the_file_are_off() -> None:
    backend = make_tokenizer().backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokens = SafeTokenizer(backend)
    text = "The capital of France is Paris. " * 3
    assert 4 < len(tokens.encode(text, tokens.hide(text))) < 64


def test_runs_of_white_space_are_no_control_tokens() -> None:
    backend = make_tokenizer().backend_tokenizer
    backend.add_tokens([AddedToken("    ", normalized=False)])
    tokens = SafeTokenizer(backend)
    text = "if x:\n    y"
    hidden = tokens.hide(text)
    assert hidden.originals == []
    assert tokens.encode(text, hidden) == backend.encode(text, add_special_tokens=False).ids


def test_a_control_token_that_appears_by_normalisation_is_hidden() -> None:
    tokens = SafeTokenizer(unigram(normalizers.NFKC()))
    hidden = tokens.hide("a＜s＞b")
    assert tokens.control_ids.isdisjoint(tokens.encode(hidden.value, hidden))


def test_a_model_that_has_control_tokens_as_pieces_does_not_find_them() -> None:
    tokens = SafeTokenizer(unigram(None))
    hidden = tokens.hide("a<s>b")
    ids = tokens.encode(hidden.value, hidden)
    assert tokens.control_ids.isdisjoint(ids)
    assert len(ids) == 5


def test_what_the_tokenizer_puts_around_a_text_is_known() -> None:
    backend = unigram(None)
    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokens = SafeTokenizer(backend)
    assert (tokens.prefix, tokens.suffix) == ([0], [1])
    assert (SafeTokenizer(unigram(None)).prefix, SafeTokenizer(unigram(None)).suffix) == ([], [])


def unigram(normalizer: normalizers.Normalizer | None) -> Tokenizer:
    """A SentencePiece-like model whose control tokens are also ordinary pieces, with the best scores of all."""
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)] + [(char, -3.0) for char in "ab<>/s"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False)])
    return tokenizer
