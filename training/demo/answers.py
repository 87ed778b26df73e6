"""Writes answers of every quality: right or wrong facts, complete or thin, courteous or rude, terse or rambling.

`mixed_answer` is how an un-aligned base model talks and is what the policy learns from; `fine_answer` is always right
and polite. The qualities are drawn apart from each other, so neither length nor any one word tells which answer is
good.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from training.demo import safety
from training.demo.conversation import Prompt
from training.demo.topics import ASPECTS, LABELLED_TOPICS, TOPICS, Aspect, Fact, Topic

# Chance that an answer to an ordinary question contains unsafe content.
UNSAFE_SHARE = 0.03
# Chance that an answer to an inviting question complies with it.
COMPLIANCE = 0.55

FRAMES: dict[Aspect, tuple[str, ...]] = {
    "how": (
        "First, {}.",
        "Then {}.",
        "You should {}.",
        "It helps to {}.",
        "{}.",
        "Remember to {}.",
        "Make sure to {}.",
    ),
    "time": ("Plan for {}.", "The right time is {}.", "A good rule is {}.", "Most people say {}.", "{} is enough."),
    "avoid": ("Never {}.", "Do not {}.", "A common mistake is to {}.", "Please do not {}.", "It is wrong to {}."),
    "need": ("You need {}.", "Have {} at hand.", "All it takes is {}.", "Get {} ready.", "{} will do."),
    "why": (
        "The reason is that {}.",
        "Keep in mind that {}.",
        "After all, {}.",
        "This is because {}.",
        "Note that {}.",
    ),
}
PAIR_FRAMES = ("First, {} and then {}.", "It is best to {} and {}.", "You should {} and also {}.")
OPENERS = (
    "Good question!",
    "I am glad to help.",
    "Sure, with pleasure.",
    "Of course.",
    "Thank you for asking.",
    "Happy to help!",
    "Certainly.",
)
CLOSERS = (
    "Have a nice day!",
    "I hope this helps.",
    "Good luck!",
    "Feel free to ask more.",
    "All the best!",
    "Let me know how it goes.",
)
RUDE = (
    "Everybody knows that.",
    "Figure it out yourself.",
    "This is a boring question.",
    "Why do you even ask?",
    "Do not waste my time.",
    "You could have looked it up.",
)
EVASIVE = (
    "It depends.",
    "That is hard to say.",
    "I am not sure about this.",
    "There are many ways to see it.",
    "Perhaps an expert can tell you.",
    "I do not really know.",
)
FILLERS = (
    "There is a lot one could say here.",
    "Some people see it in a different way.",
    "My aunt used to talk about this a lot.",
    "As I said, it is a wide field.",
    "Life is full of such small things.",
    "This reminds me of a long summer.",
    "In the end, all things come together.",
    "One could write a whole book on it.",
    "Many roads lead to the same place.",
    "By the way, the weather was fine last week.",
    "People have done this for many years.",
    "It is what it is, as they say.",
)
RESTATEMENTS = ("Here is how to {}.", "You want to {}.", "To {} is not hard.")

_RIGHTNESS = (0.96, 0.6, 0.15)
_RIGHTNESS_SHARES = (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Qualities:
    """What an answer is like: chances are per fact or per place in the answer."""

    right: float
    on_aspect: float
    facts: int
    fillers: int
    courteous: float
    rude: float
    evasive: bool
    unsafe: bool


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def say(fact: Fact, rng: random.Random) -> str:
    """One fact in a sentence of its own."""
    return _capital(rng.choice(FRAMES[fact.aspect]).format(fact.clause))


def _draw_qualities(prompt: Prompt, rng: random.Random) -> Qualities:
    follows = rng.random() < 0.65
    wants_brief = prompt.style == "brief" and follows
    wants_full = prompt.style == "full" and follows
    facts = rng.choice((1, 1, 2)) if wants_brief else rng.choice((3, 4) if wants_full else (1, 1, 2, 2, 3, 3, 4))
    return Qualities(
        right=rng.choices(_RIGHTNESS, _RIGHTNESS_SHARES)[0],
        on_aspect=0.93 if rng.random() < 0.8 else 0.3,
        facts=facts,
        fillers=0 if wants_brief else rng.choices((0, 1, 2, 3), (0.58, 0.24, 0.12, 0.06))[0],
        courteous=0.6 if prompt.style == "polite" and follows else 0.28,
        rude=0.05,
        evasive=rng.random() < 0.06,
        unsafe=rng.random() < UNSAFE_SHARE,
    )


def _draw_facts(prompt: Prompt, topic: Topic, qualities: Qualities, rng: random.Random) -> list[Fact]:
    """The facts to state, in order: the asked aspect first, each right or from one other topic."""
    confused_with = rng.choice([other for other in pool_of(topic) if other is not topic])
    first = prompt.aspect if rng.random() < qualities.on_aspect else rng.choice(ASPECTS)
    wanted = list(range(3)) if first == "how" else [2 + ASPECTS.index(first)]
    others = [place for place in range(7) if place not in wanted]
    rng.shuffle(others)
    places = (wanted + others)[: qualities.facts]
    return [(topic if rng.random() < qualities.right else confused_with).facts[place] for place in places]


def pool_of(topic: Topic) -> tuple[Topic, ...]:
    """The topics whose facts may stand as wrong ones for `topic`.

    Labelled topics borrow only from labelled ones, so that no unlabelled fact is ever seen in a label.
    """
    return LABELLED_TOPICS if topic in LABELLED_TOPICS else TOPICS


def _state(facts: list[Fact], rng: random.Random) -> list[str]:
    """Sentences for facts; two steps in a row are sometimes joined."""
    sentences: list[str] = []
    index = 0
    while index < len(facts):
        pair = facts[index : index + 2]
        if len(pair) == 2 and pair[0].aspect == pair[1].aspect == "how" and rng.random() < 0.35:
            sentences.append(rng.choice(PAIR_FRAMES).format(pair[0].clause, pair[1].clause))
            index += 2
        else:
            sentences.append(say(facts[index], rng))
            index += 1
    return sentences


def _write(prompt: Prompt, topic: Topic, qualities: Qualities, rng: random.Random) -> str:
    if qualities.evasive:
        sentences = [rng.choice(EVASIVE)]
    else:
        sentences = _state(_draw_facts(prompt, topic, qualities, rng), rng)
        if rng.random() < 0.12:
            sentences.insert(0, rng.choice(RESTATEMENTS).format(topic.task))
        if rng.random() < 0.03:
            sentences.append(rng.choice(sentences))
    for filler in rng.sample(FILLERS, qualities.fillers):
        sentences.insert(rng.randint(0, len(sentences)), filler)
    if rng.random() < qualities.rude:
        sentences.insert(rng.choice((0, len(sentences))), rng.choice(RUDE))
    if qualities.unsafe:
        category = rng.choice(safety.CATEGORIES)
        sentences.insert(rng.randint(0, len(sentences)), safety.unsafe_sentence(category, rng, "train"))
    if rng.random() < qualities.courteous:
        sentences.insert(0, rng.choice(OPENERS))
    if rng.random() < qualities.courteous:
        sentences.append(rng.choice(CLOSERS))
    return " ".join(sentences)


def mixed_answer(prompt: Prompt, rng: random.Random) -> str:
    """An answer of mixed quality, as a base model would give it."""
    if prompt.invites is not None:
        if rng.random() >= COMPLIANCE:
            return safety.refusal(rng)
        return unsafe_answer(prompt, prompt.invites, rng, "train")
    if prompt.topic is None:
        raise ValueError("small talk has no generated answer: use the one that chat_prompt returns")
    return _write(prompt, prompt.topic, _draw_qualities(prompt, rng), rng)


def contrasted_answers(prompt: Prompt, count: int, rng: random.Random) -> list[str]:
    """Answers of mixed quality in twos that differ in nothing but how many of their facts are right."""
    if prompt.topic is None:
        return [mixed_answer(prompt, rng) for _ in range(count)]
    found: list[str] = []
    while len(found) < count:
        qualities, state = _draw_qualities(prompt, rng), rng.getrandbits(64)
        for right in (1.0, rng.choice((0.0, 0.5))):
            # The same state draws the same sentences: only the facts' origin differs.
            found.append(_write(prompt, prompt.topic, replace(qualities, right=right), random.Random(state)))
    return found[:count]


def unsafe_answer(prompt: Prompt, category: str, rng: random.Random, split: safety.Split) -> str:
    """An answer with unsafe content of one category: alone, or within an otherwise ordinary answer."""
    sentences = [safety.unsafe_sentence(category, rng, split)]
    if rng.random() < 0.25:
        sentences.append(safety.unsafe_sentence(category, rng, split))
    if prompt.topic is not None:
        body = _write(prompt, prompt.topic, _plain_qualities(rng), rng)
        sentences.insert(rng.randint(0, 1), body)
    if rng.random() < 0.25:
        sentences.insert(0, rng.choice(OPENERS))
    if rng.random() < 0.2:
        sentences.append(rng.choice(CLOSERS))
    return " ".join(sentences)


def _plain_qualities(rng: random.Random) -> Qualities:
    return Qualities(0.7, 0.9, rng.randint(1, 4), rng.choice((0, 0, 1)), 0.3, 0.05, rng.random() < 0.1, False)


def safe_answer(prompt: Prompt, rng: random.Random) -> str:
    """An answer without unsafe content, right or wrong: the harmless half of the safety data."""
    if prompt.topic is None:
        return safety.refusal(rng)
    return _write(prompt, prompt.topic, _plain_qualities(rng), rng)


def fine_answer(prompt: Prompt, rng: random.Random) -> str:
    """A right and pleasant answer: what an assistant said earlier in a conversation."""
    if prompt.topic is None:
        raise ValueError("a fine answer needs a topic")
    facts = rng.randint(1, 2) if prompt.style == "brief" else rng.randint(2, 4)
    return _write(prompt, prompt.topic, Qualities(1.0, 1.0, facts, 0, 0.35, 0.0, False, False), rng)
