"""The wire types of a chat completion request, and reading one from bytes.

Only the fields that the gateway acts on are declared; the others pass to the worker as they came. Every mistake is a
`BadRequest` that names the field.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from gateway.errors import BadRequest

T = TypeVar("T")

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

# The gateway decides these itself; what a client sends for them does not reach a worker.
OWNED = frozenset(
    {
        "guidance", "model", "n", "stream", "stream_options", "stream_interval", "cache_salt", "priority", "request_id",
        "session_id", "kv_transfer_params", "ec_transfer_params", "chat_template", "return_token_ids", "user",
        "safety_identifier", "store",
    }
)  # fmt: skip

# Neither best-of-n nor a guard can honour these: they would return text that nobody judged, or candidates in a tree.
REFUSED = {
    "echo": "the prompt cannot be repeated in a judged answer",
    "prompt_logprobs": "log-probabilities of the prompt are not returned with guided decoding",
    "use_beam_search": "beam search cannot be combined with best-of-n",
    "best_of": "use guidance.n, which samples and judges that many candidates",
}


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ms: milliseconds after which the best candidate so far is delivered."""

    ms: int | None = None


class GuidanceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bestow's own part of a request, under the key `guidance`."""

    profile: str | None = None
    strategy: str | None = None
    n: int | None = None
    budget: Budget | None = None
    seed: int | None = None
    return_candidates: bool = False
    stream_mode: Literal["hold", "block", "first"] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class ChatBody(msgspec.Struct, frozen=True):
    """The fields that Bestow acts on, in the order of OpenAI's documentation; all others pass to the worker."""

    model: str
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    tools: list[dict[str, Any]] | None = None
    safety_identifier: str | None = None
    user: str | None = None
    guidance: GuidanceRequest | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request.

    passed_on: all fields that go to the worker, messages included. max_tokens: the output limit under either name.
    user: OpenAI's safety_identifier, else user.
    """

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    passed_on: dict[str, Any]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool
    temperature: float | None
    max_tokens: int | None
    user: str | None
    return_token_ids: bool
    guidance: GuidanceRequest
    body_bytes: int


def parse_json(raw: bytes) -> dict[str, Any]:
    """A JSON object from a request's body. Raises BadRequest."""
    if not raw.strip():
        raise BadRequest("the request has no body; send a JSON object", code="invalid_json")
    try:
        raw.decode("utf-8")
        body = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not valid UTF-8 at byte {error.start}", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return body


def parse_chat(raw: bytes) -> ChatRequest:
    """A chat completion request from its body. Raises BadRequest naming the field."""
    body = parse_json(raw)
    fields = convert(body, ChatBody)
    for name, reason in REFUSED.items():
        if body.get(name) not in (None, False):
            raise BadRequest(f"{name} is not supported here: {reason}", param=name, code="unsupported_parameter")
    _check_messages(fields.messages)
    _at_least_one(fields.n, "n")
    _at_least_one(fields.max_tokens, "max_tokens")
    _at_least_one(fields.max_completion_tokens, "max_completion_tokens")
    return ChatRequest(
        model=fields.model,
        messages=fields.messages,
        tools=fields.tools or [],
        passed_on={key: value for key, value in body.items() if key not in OWNED},
        n=1 if fields.n is None else fields.n,
        seed=fields.seed,
        stream=bool(fields.stream),
        include_usage=fields.stream_options is not None and fields.stream_options.include_usage,
        temperature=fields.temperature,
        max_tokens=fields.max_completion_tokens or fields.max_tokens,
        user=fields.safety_identifier or fields.user,
        return_token_ids=body.get("return_token_ids") is True,
        guidance=fields.guidance or GuidanceRequest(),
        body_bytes=len(raw),
    )


_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)


def convert(body: dict[str, Any], kind: type[T]) -> T:
    """`body` as a wire type. Raises BadRequest with msgspec's reason and the field it names."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        match = _WHERE.match(str(error))
        what, where = (match["what"], match["where"]) if match else (str(error), None)
        missing = re.search(r"missing required field `(\w+)`|unknown field `(\w+)`", what)
        if missing:
            where = ".".join(part for part in (where, missing[1] or missing[2]) if part)
        raise BadRequest(f"{where}: {what}" if where else what, param=where) from None


def _check_messages(messages: list[dict[str, Any]]) -> None:
    if not messages:
        raise BadRequest("messages: it is empty; at least one message is needed", param="messages")
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        where = f"messages[{index}]"
        if role not in ROLES:
            raise BadRequest(f"{where}.role: {role!r} is none of {', '.join(sorted(ROLES))}", param=f"{where}.role")
        if isinstance(content, list):
            for number, part in enumerate(content):
                if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                    raise BadRequest(
                        f"{where}.content[{number}]: a content part is an object with a type",
                        param=f"{where}.content[{number}]",
                    )
        elif content is not None and not isinstance(content, str):
            raise BadRequest(
                f"{where}.content: it must be text, a list of content parts, or null", param=f"{where}.content"
            )
        elif content is None and role not in ("assistant", "function"):
            raise BadRequest(f"{where}.content: a {role} message needs content", param=f"{where}.content")


def _at_least_one(value: int | None, name: str) -> None:
    if value is not None and value < 1:
        raise BadRequest(f"{name}: {value} is below the least value, 1", param=name)
