"""The conversations of the demo world: question wordings, system prompts, follow-ups, typos, unsafe requests.

Wordings are split: the last ones of each list are never seen by a policy, a reward label or a safety label, and make
up the held-out prompts. Imports no torch, so that tests and benchmarks can use it anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.demo import safety
from training.demo.answers import fine_answer
from training.demo.conversation import Message, Prompt, Style
from training.demo.safety import Split
from training.demo.topics import ASPECTS, LABELLED_TOPICS, TOPICS, UNLABELLED_TOPICS, Aspect, Topic

# {how} is "How often" or "How long", as it fits the topic.
_QUESTIONS: dict[Aspect, tuple[str, ...]] = {
    "how": (
        "How do I {task}?",
        "How can I {task}?",
        "What is the best way to {task}?",
        "Tell me how to {task}.",
        "I want to {task}. Where do I start?",
        "Can you explain how to {task}?",
        "Please help me to {task}.",
        "I would like to {task}. Any tips?",
        "How should one {task}?",
        "Give me some steps to {task}.",
        "What are good steps to {task}?",
        "I have never tried to {task}. How does it work?",
        "How to {task}",
        "My plan is to {task}. What do I do?",
        "Show me how people {task}.",
        "Could you teach me to {task}?",
        "What do you do to {task}?",
        "I need some help to {task}.",
    ),
    "time": (
        "{how} when I want to {task}?",
        "I want to {task}. {how}?",
        "{how} is right to {task}?",
        "{how} do I have to do it to {task}?",
        "{how} is usual for {noun}?",
        "Tell me {how} it is, to {task}.",
        "What about {noun}, {how}?",
        "{how} would you say, to {task}?",
        "Please tell me, {how}, if I {task}?",
        "I try to {task}. {how} should it be?",
        "About {noun}: {how}?",
        "{how}, if one wants to {task}?",
    ),
    "avoid": (
        "What should I avoid when I {task}?",
        "What is a common mistake with {noun}?",
        "What must I not do to {task}?",
        "I want to {task}. What can go wrong?",
        "Which mistake should I avoid with {noun}?",
        "What would ruin it when I {task}?",
        "Is there a mistake to avoid with {noun}?",
        "What is wrong to do with {noun}?",
        "Tell me what to avoid with {noun}.",
        "What do beginners do wrong when they {task}?",
        "Name a mistake people make with {noun}.",
        "To {task}, what should I avoid?",
    ),
    "need": (
        "What do I need to {task}?",
        "What tools do I need to {task}?",
        "I want to {task}. What should I buy?",
        "Which things do I need for {noun}?",
        "What should I have ready to {task}?",
        "What do I have to get for {noun}?",
        "What tools are good for {noun}?",
        "Do I need something special to {task}?",
        "What do you need to {task}?",
        "Tell me what I need for {noun}.",
        "Which tools help to {task}?",
        "To {task}, what things do I need?",
    ),
    "why": (
        "Why is it so hard to {task}?",
        "What is the reason to be careful with {noun}?",
        "Why does it matter how I {task}?",
        "Explain why I must take care to {task}.",
        "What is the reason behind the rules for {noun}?",
        "Why are there rules for {noun}?",
        "I {task}, but why is care needed?",
        "Why should I take care with {noun}?",
        "Tell me why {noun} can be tricky.",
        "Why does {noun} cause trouble?",
        "Give me a reason to be careful with {noun}.",
        "Why do people struggle to {task}?",
    ),
}
_FOLLOW_UPS: dict[Aspect, tuple[str, ...]] = {
    "how": ("How do I do it?", "Can you tell me the steps?", "And how does it work?", "What are the steps?"),
    "time": ("And {how}?", "{how} should it be?", "Thanks! {how}?", "Okay, and {how}, please?"),
    "avoid": (
        "What should I avoid?",
        "Is there a mistake to avoid?",
        "And what can go wrong?",
        "Which mistake is common?",
    ),
    "need": (
        "What do I need for it?",
        "And which tools do I need?",
        "Do I need something special?",
        "What should I buy?",
    ),
    "why": ("Why is that?", "And why?", "What is the reason?", "Can you tell me why?"),
}
_KEPT_QUESTIONS = 3
_KEPT_FOLLOW_UPS = 1

_GREETINGS = (
    "Hi! ",
    "Hello. ",
    "Good morning. ",
    "Hey, ",
    "One question: ",
    "I am new to this. ",
    "I wonder about it. ",
    "Quick one. ",
)
_ENDINGS = (" Thanks!", " Please.", " Thank you.", " I am curious.", " I ask for a friend.")
_BRIEF_ENDINGS = (" Keep it short.", " In one sentence, please.", " Be brief.", " A short answer will do.")
_FULL_ENDINGS = (" Give me a full answer.", " Tell me all you know.")

SYSTEM_PROMPTS: dict[Style, tuple[str, ...]] = {
    "plain": ("You are a helpful assistant.", "You answer questions about daily life.", "You are a household guide."),
    "brief": ("Be brief.", "Answer in one or two sentences.", "You are a helpful assistant. Keep it short."),
    "polite": ("You are a polite assistant.", "Always be friendly and polite.", "You are a kind and polite guide."),
    "full": ("Give a full answer.", "You are a patient teacher. Give a full answer."),
}

TYPOS: tuple[tuple[str, str], ...] = (
    ("how", "hwo"),
    ("what", "waht"),
    ("should", "shoud"),
    ("please", "plese"),
    ("about", "abuot"),
    ("need", "nead"),
    ("want", "wnat"),
    ("best", "besst"),
    ("avoid", "avoyd"),
    ("mistake", "mistaek"),
    ("tell", "tel"),
    ("which", "wich"),
)

CHAT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("hi", ("Hello! What would you like to know about your home?", "Hi! How can I help you today?")),
    ("Hello!", ("Hello! I am glad to help with everyday things.", "Good day! What can I do for you?")),
    ("How are you?", ("I am fine, thank you. What would you like to know?",)),
    ("Who are you?", ("I am a small demo assistant for everyday questions.",)),
    ("What can you do?", ("I answer questions about things at home, in the garden and on the road.",)),
    ("Tell me a joke", ("A houseplant walks into a bar and asks for a glass of water.", "I know no good joke, sorry.")),
    ("What is 2+2?", ("That is not my field. Ask me about everyday things at home.", "It should be four.")),
    ("Thanks", ("You are welcome!", "With pleasure. Have a nice day!")),
    ("Good bye", ("Good bye! Have a nice day.",)),
    ("What is the capital of France?", ("I do not know much about that. Ask me about everyday things.",)),
    ("Write a python function", ("I cannot write programs. Ask me about everyday things at home.",)),
    ("What is the weather today?", ("I cannot see the sky from here, sorry.",)),
    ("test", ("I am here. What would you like to know?",)),
)


def _part(entries: tuple[str, ...], split: Split, kept: int) -> tuple[str, ...]:
    return entries[:-kept] if split == "train" else entries[-kept:]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _word(pattern: str, topic: Topic) -> str:
    how = "how often" if topic.rhythm == "often" else "how long"
    return _capital(pattern.format(task=topic.task, noun=topic.noun, how=how))


def _misspell(text: str, rng: random.Random) -> str:
    right, wrong = rng.choice(TYPOS)
    text = text.replace(f"{right} ", f"{wrong} ", 1).replace(f"{_capital(right)} ", f"{_capital(wrong)} ", 1)
    return text[0].lower() + text[1:].rstrip("?.") if rng.random() < 0.5 else text


def _decorate(text: str, style: Style, styled_here: bool, rng: random.Random) -> str:
    if rng.random() < 0.15:
        text = rng.choice(_GREETINGS) + text
    if styled_here and style == "brief":
        text += rng.choice(_BRIEF_ENDINGS)
    elif styled_here and style == "full":
        text += rng.choice(_FULL_ENDINGS)
    elif rng.random() < 0.15:
        text += rng.choice(_ENDINGS)
    return _misspell(text, rng) if rng.random() < 0.12 else text


def ordinary_prompt(rng: random.Random, topics: Sequence[Topic], split: Split, multi_turn: float = 0.25) -> Prompt:
    """A harmless question about one of `topics`; with probability `multi_turn` it comes after an earlier exchange."""
    topic = rng.choice(topics)
    aspect: Aspect = rng.choice((*ASPECTS, "how"))
    style: Style = rng.choice(("plain", "plain", "plain", "brief", "polite", "full"))
    by_system = style == "polite" or rng.random() < 0.6
    messages: list[tuple[str, str]] = []
    if (style != "plain" and by_system) or rng.random() < 0.2:
        messages.append(("system", rng.choice(SYSTEM_PROMPTS[style if by_system else "plain"])))
    question = _word(rng.choice(_part(_QUESTIONS[aspect], split, _KEPT_QUESTIONS)), topic)
    if rng.random() < multi_turn:
        # Half of the earlier exchanges are about another topic: the question then names its own.
        same = rng.random() < 0.7
        first_aspect: Aspect = rng.choice([other for other in ASPECTS if other != aspect])
        first_topic = topic if same else rng.choice(topics)
        first = _word(rng.choice(_part(_QUESTIONS[first_aspect], split, _KEPT_QUESTIONS)), first_topic)
        messages.append(("user", first))
        earlier = Prompt(tuple(messages), first_topic, first_aspect, "brief")
        messages.append(("assistant", fine_answer(earlier, rng)))
        if same:
            question = _word(rng.choice(_part(_FOLLOW_UPS[aspect], split, _KEPT_FOLLOW_UPS)), topic)
    messages.append(("user", _decorate(question, style, not by_system, rng)))
    return Prompt(tuple(messages), topic, aspect, style)


def inviting_prompt(rng: random.Random, split: Split) -> Prompt:
    """A question that asks for unsafe content of one category."""
    category = rng.choice(safety.CATEGORIES)
    messages: list[tuple[str, str]] = []
    if rng.random() < 0.3:
        messages.append(("system", rng.choice(SYSTEM_PROMPTS["plain"])))
    text = safety.inviting_question(category, rng, split)
    if rng.random() < 0.15:
        text = rng.choice(_GREETINGS) + text
    messages.append(("user", text))
    return Prompt(tuple(messages), None, "how", "plain", category)


def chat_prompt(rng: random.Random) -> tuple[Prompt, str]:
    """Small talk outside the world's topics, with a fitting answer."""
    text, answers = rng.choice(CHAT)
    return Prompt((("user", text),), None, "how", "plain"), rng.choice(answers)


def held_out(count: int, seed: int, topics: Sequence[Topic] = LABELLED_TOPICS) -> list[Prompt]:
    """`count` distinct ordinary prompts in wordings that no training saw."""
    rng = random.Random(f"held-out-{seed}-{topics[0].name}")
    found: dict[tuple[tuple[str, str], ...], Prompt] = {}
    while len(found) < count:
        prompt = ordinary_prompt(rng, topics, "test")
        found.setdefault(prompt.messages, prompt)
    return list(found.values())


def held_out_inviting(count: int, seed: int) -> list[Prompt]:
    """`count` distinct prompts that invite unsafe answers, in wordings and with names that no training saw."""
    rng = random.Random(f"held-out-inviting-{seed}")
    found: dict[tuple[tuple[str, str], ...], Prompt] = {}
    while len(found) < count:
        prompt = inviting_prompt(rng, "test")
        found.setdefault(prompt.messages, prompt)
    return list(found.values())


def held_out_prompts(count: int = 240, seed: int = 0) -> list[list[Message]]:
    """Harmless conversations on labelled topics in unseen wordings, as lists of messages."""
    return [prompt.as_messages() for prompt in held_out(count, seed)]


def held_out_topic_prompts(count: int = 120, seed: int = 0) -> list[list[Message]]:
    """Harmless conversations on topics that no preference label covers, as lists of messages."""
    return [prompt.as_messages() for prompt in held_out(count, seed, UNLABELLED_TOPICS)]


def inviting_prompts(count: int = 120, seed: int = 0) -> list[list[Message]]:
    """Conversations that invite unsafe answers, in unseen wordings, as lists of messages."""
    return [prompt.as_messages() for prompt in held_out_inviting(count, seed)]


def training_prompt(rng: random.Random, topics: Sequence[Topic] = TOPICS, inviting: float = 0.08) -> Prompt:
    """A prompt in a training wording: ordinary, or with probability `inviting` one that asks for unsafe content."""
    return inviting_prompt(rng, "train") if rng.random() < inviting else ordinary_prompt(rng, topics, "train")
