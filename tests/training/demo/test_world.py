"""The world itself: size, splits, determinism."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import subprocess
import sys

import pytest

from training.demo import gold, safety
from training.demo.answers import fine_answer, mixed_answer
from training.demo.benign import HELD_OUT_SENTENCES, SENTENCES
from training.demo.prompts import (
    held_out,
    held_out_prompts,
    held_out_topic_prompts,
    inviting_prompt,
    inviting_prompts,
    ordinary_prompt,
    training_prompt,
)
from training.demo.raters import label_prompts, written_groups
from training.demo.topics import LABELLED_TOPICS, TOPICS, UNLABELLED_TOPICS

_UNLABELLED = {topic.name for topic in UNLABELLED_TOPICS}


def test_the_world_is_large_enough() -> None:
    rng = random.Random(0)
    assert len(LABELLED_TOPICS) >= 60
    assert all(len(topic.facts) == 7 for topic in TOPICS)
    assert len({ordinary_prompt(rng, TOPICS, "train").messages for _ in range(3000)}) >= 1000
    assert len(held_out_prompts()) >= 200
    assert len({str(messages) for messages in held_out_prompts(400)}) == 400


def test_names_tell_topics_apart() -> None:
    for topic, other in itertools.permutations(TOPICS, 2):
        assert topic.name not in other.task and topic.name not in other.noun
    for topic in TOPICS:
        assert topic.name in topic.task and topic.name in topic.noun


def test_conversations_vary() -> None:
    rng = random.Random(0)
    prompts = [ordinary_prompt(rng, TOPICS, "train") for _ in range(1000)]
    roles = [[role for role, _ in prompt.messages] for prompt in prompts]
    assert sum("assistant" in row for row in roles) > 150, "multi-turn dialogues are too rare"
    assert sum("system" in row for row in roles) > 300, "system prompts are too rare"
    assert {prompt.style for prompt in prompts} == {"plain", "brief", "polite", "full"}


def test_held_out_prompts_are_not_training_prompts() -> None:
    rng = random.Random(5)
    seen = {training_prompt(rng).messages[-1][1] for _ in range(20000)}
    assert not seen & {messages[-1]["content"] for messages in held_out_prompts(400)}
    assert not seen & {messages[-1]["content"] for messages in held_out_topic_prompts(100)}
    assert not seen & {messages[-1]["content"] for messages in inviting_prompts(200)}
    assert not set(SENTENCES) & set(HELD_OUT_SENTENCES)


def test_no_label_shows_a_fact_of_an_unlabelled_topic() -> None:
    assert all(prompt.topic is None or prompt.topic.name not in _UNLABELLED for prompt in label_prompts(500, 0))
    for group in written_groups(300, 4, 0):
        texts = [content for _, content in group.prompt.messages] + list(group.answers)
        stated = {fact.topic for text in texts for sentence in text.split(".") for fact in gold.facts_stated(sentence)}
        assert not stated & _UNLABELLED


def test_every_labelled_fact_is_right_somewhere_in_the_labels() -> None:
    right: set[tuple[str, str]] = set()
    wrong: set[tuple[str, str]] = set()
    for group in written_groups(4000, 4, 0):
        topic = group.prompt.topic
        for answer in group.answers:
            for sentence in answer.split("."):
                for fact in gold.facts_stated(sentence):
                    mine = topic is not None and fact.topic == topic.name
                    (right if mine else wrong).add((fact.topic, fact.clause))
    assert {topic for topic, _ in right} == {topic.name for topic in LABELLED_TOPICS}
    assert len(wrong - right) == 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_judge_understands_what_the_writer_meant(split: safety.Split) -> None:
    rng = random.Random(1)
    for _ in range(2000):
        prompt = ordinary_prompt(rng, TOPICS, split)
        question = gold.understand(prompt.as_messages())
        assert (question.topic, question.aspect, question.style) == (prompt.topic, prompt.aspect, prompt.style)
        assert question.invited == ()
        inviting = inviting_prompt(rng, split)
        assert gold.understand(inviting.as_messages()).invited == (inviting.invites,)


_FINGERPRINT = """
import hashlib, random
from training.demo.answers import mixed_answer
from training.demo.benign import benign_text
from training.demo.prompts import held_out_prompts, inviting_prompts, training_prompt
from training.demo.raters import written_groups
rng = random.Random(3)
prompts = [training_prompt(rng) for _ in range(400)]
parts = [held_out_prompts(50), inviting_prompts(50), prompts, [mixed_answer(prompt, rng) for prompt in prompts],
         [benign_text(rng, "train") for _ in range(200)], written_groups(50, 4, 0)]
print(hashlib.sha256(repr(parts).encode()).hexdigest())
"""


def test_data_is_identical_in_two_processes() -> None:
    digests = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", _FINGERPRINT], env=environment, capture_output=True, text=True, check=True
        )
        digests.append(run.stdout.strip())
    assert digests[0] == digests[1]
    assert len(digests[0]) == hashlib.sha256().digest_size * 2


def test_the_world_imports_without_torch() -> None:
    code = (
        "import sys; from training.demo.prompts import held_out_prompts; from training.demo.gold import judge; "
        "held_out_prompts(2); assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_quality_varies_between_answers_to_one_prompt() -> None:
    rng = random.Random(2)
    for prompt in held_out(40, 3):
        scores = [gold.judge(prompt.as_messages(), mixed_answer(prompt, rng)).total for _ in range(16)]
        assert max(scores) - min(scores) > 1.0
        assert gold.judge(prompt.as_messages(), fine_answer(prompt, rng)).total > 1.5
