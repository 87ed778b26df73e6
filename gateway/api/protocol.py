"""The wire types of a chat completion request, and reading one from bytes.

Only the fields that the gateway acts on are declared; the others pass to the worker as they came. Every mistake is a
`BadRequest` that names the field.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from gateway.admission.tiers import ServiceTier
from gateway.api.passed import check_passed
from gateway.api.session import MOST_CHARACTERS, named_in
from gateway.errors import BadRequest

T = TypeVar("T")

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

# What is read here is written and read again behind us, each with a limit of its own on the depth of its stack.
MAX_DEPTH = 100

# Characters of an expected answer.
MAX_REFERENCE = 20_000

# The gateway decides these itself; what a client sends for them does not reach a worker.
OWNED = frozenset(
    {
        "guidance", "model", "n", "stream", "stream_options", "stream_interval", "cache_salt", "priority", "request_id",
        "session_id", "return_token_ids", "user", "safety_identifier", "store", "service_tier",
    }
)  # fmt: skip

# What would change an answer if it were dropped silently, and is not for a client to decide.
REFUSED = {
    "best_of": "use guidance.n, which samples and judges that many candidates",
    "chat_template": "the model's own template is used; chat_template_kwargs are passed on to it",
    "kv_transfer_params": "where a prompt's cache lies is the gateway's business",
    "ec_transfer_params": "where a prompt's cache lies is the gateway's business",
    "functions": "it was replaced by tools, which work here",
    "function_call": "it was replaced by tool_choice, which works here",
}

# Neither best-of-n nor a guard can honour these: they would return text that nobody judged, or candidates in a tree.
# Where one sample is taken and no guard is on, they pass.
UNJUDGEABLE = {
    "echo": "the prompt cannot be repeated in a judged answer",
    "prompt_logprobs": "log-probabilities of the prompt are not returned with guided decoding",
    "use_beam_search": "beam search cannot be combined with best-of-n or a guard",
}


def says(text: str, **more: Any) -> msgspec.Meta:
    """A field's description on the OpenAPI page, and what else JSON Schema can say of it; neither is checked here."""
    return msgspec.Meta(description=text, extra_json_schema=more or None)


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the search for the best answer may cost."""

    ms: Annotated[int | None, says("Milliseconds; then the best candidate so far is delivered.", minimum=1)] = None
    tokens: Annotated[int | None, says("Tokens that all candidates together may have.", minimum=1)] = None


class GuidanceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bestow's own part of a request, under the key `guidance`. The profile bounds what may be asked for."""

    profile: Annotated[str | None, says("Another profile than the model's.")] = None
    policy: Annotated[
        str | None,
        says(
            "Certain weights of the model's policy, by the name that its workers have them under (`demo-policy-v2`), "
            "or the policy's own name. For operators alone, who try what is not released: an admin key of the tenant "
            "`default`."
        ),
    ] = None
    strategy: Annotated[str | None, says("The strategy that is expected; another than the profile's is a 400.")] = None
    n: Annotated[int | None, says("How many candidates are sampled and judged.", minimum=1)] = None
    budget: Annotated[Budget | None, says("How much the search may cost.")] = None
    seed: Annotated[int | None, says("Candidate i is sampled with seed + i, and the choice is the same again.")] = None
    return_candidates: Annotated[bool, says("List all candidates, with their scores, in the receipt.")] = False
    comparison: Annotated[
        bool | None,
        says(
            "`true`: you can show two answers side by side and send back which one a person picked, so a share of your "
            "requests may get two choices with `guidance.comparison`. `false`: never. Left out: as the profile says."
        ),
    ] = None
    reference: Annotated[
        Annotated[str, msgspec.Meta(max_length=MAX_REFERENCE)] | None,
        says(
            "The expected answer, where you know it: verifiers hold candidates against it. It chooses among samples "
            "that the model makes without it, so it is for evaluations; the log keeps it."
        ),
    ] = None
    session: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_CHARACTERS)] | None,
        says(
            "The conversation that this belongs to, in your words; the log keeps a keyed hash, by which it puts a "
            "conversation together. Left out: `session_id`, a key of `metadata` (`session_id`, `conversation_id`, "
            "`chat_id`, `thread_id`), or the header `x-session-id`."
        ),
    ] = None
    stream_mode: Annotated[
        Literal["hold", "block", "first"] | None,
        says(
            "How a stream is served. `hold`: best of n, then the winner at once. `first`: one sample, live, as the "
            "guard clears it. `block`: each block of the answer as it is chosen, where the strategy chooses blocks."
        ),
    ] = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What else a stream holds."""

    include_usage: Annotated[bool | None, says("A last chunk without choices holds the usage.")] = None
    continuous_usage_stats: Annotated[bool | None, says("vLLM's own: usage so far on every chunk.")] = None


# For the OpenAPI page; `_check_messages` is what counts.
_MESSAGE = {
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": sorted(ROLES)},
        "content": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
                },
                {"type": "null"},
            ]
        },
    },
}


class ChatBody(msgspec.Struct, frozen=True):
    """The fields that Bestow acts on, in the order of OpenAI's documentation; all others pass to the worker."""

    model: Annotated[str, says("One of `GET /v1/models`.")]
    messages: Annotated[
        list[Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=_MESSAGE)]],
        says("The conversation so far.", minItems=1),
    ]
    max_completion_tokens: Annotated[int | None, says("Most tokens of each candidate.", minimum=1)] = None
    max_tokens: Annotated[int | None, says("Its older name.", minimum=1)] = None
    n: Annotated[int | None, says("How many choices come back: the n best, best first.", minimum=1)] = None
    seed: Annotated[int | None, says("As `guidance.seed`.")] = None
    service_tier: Annotated[
        ServiceTier | None,
        says(
            "The class of the request: while the workers are full, `priority` goes first and `flex` is turned away "
            "first. The answer says which one it got: at most what the tenant may have."
        ),
    ] = None
    store: Annotated[
        bool | None,
        says(
            "`false`: nothing of this request is logged, it is only counted, and takes no feedback. Left out, it is "
            "logged as configured; unlike OpenAI, which stores nothing then."
        ),
    ] = None
    stream: Annotated[bool | None, says("Answer with an event stream.")] = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[
        float | None, says("Of the sampling; at 0 one candidate is sampled.", minimum=0, maximum=2)
    ] = None
    tools: Annotated[list[dict[str, Any]] | None, says("Functions that the model may call.")] = None
    safety_identifier: Annotated[str | None, says("Who asks, in your words; the log keeps a keyed hash.")] = None
    user: Annotated[str | None, says("Its older name.")] = None
    guidance: GuidanceRequest | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request, of whichever endpoint.

    passed_on: all fields that go to the worker, messages (or prompt) included. messages: the conversation as a scorer
    reads it. max_tokens: the output limit under either name. user: OpenAI's safety_identifier, else user.
    service_tier: the class that was asked for; None: the request does not say. store: False: nothing of it is logged.
    session: the conversation that it belongs to, in the application's words (`api.session`). previous: the
    interaction that it goes on from.
    path: the worker's endpoint; endpoint: ours, as it is logged.
    """

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    passed_on: dict[str, Any]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    temperature: float | None
    max_tokens: int | None
    user: str | None
    return_token_ids: bool
    guidance: GuidanceRequest
    body_bytes: int
    service_tier: ServiceTier | None = None
    store: bool = True
    path: str = "/v1/chat/completions"
    endpoint: str = "chat"
    session: str | None = None
    previous: str | None = None

    @property
    def unjudgeable(self) -> list[str]:
        """Fields asked for that neither best-of-n nor a guard can honour."""
        return [name for name in UNJUDGEABLE if _given(self.passed_on.get(name))]


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
    if _deeper_than(MAX_DEPTH, body):
        raise BadRequest(f"the body is nested more than {MAX_DEPTH} deep", code="invalid_json")
    return body


def _deeper_than(limit: int, value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for children in inside for child in children if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def parse_chat(raw: bytes) -> ChatRequest:
    """A chat completion request from its body. Raises BadRequest naming the field."""
    return chat_request(parse_json(raw), len(raw))


def chat_request(body: dict[str, Any], body_bytes: int) -> ChatRequest:
    """A chat completion request from its decoded body. Raises BadRequest naming the field."""
    fields = convert(body, ChatBody)
    refuse_unsupported(body)
    _check_messages(fields.messages)
    at_least_one(fields.n, "n")
    at_least_one(fields.max_tokens, "max_tokens")
    at_least_one(fields.max_completion_tokens, "max_completion_tokens")
    options = fields.stream_options or StreamOptions()
    return ChatRequest(
        model=fields.model,
        messages=fields.messages,
        tools=fields.tools or [],
        passed_on={key: value for key, value in body.items() if key not in OWNED},
        n=1 if fields.n is None else fields.n,
        seed=fields.seed,
        stream=bool(fields.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        temperature=fields.temperature,
        max_tokens=fields.max_completion_tokens or fields.max_tokens,
        user=fields.safety_identifier or fields.user,
        return_token_ids=body.get("return_token_ids") is True,
        guidance=fields.guidance or GuidanceRequest(),
        body_bytes=body_bytes,
        service_tier=fields.service_tier,
        store=fields.store is not False,
        session=named_in(body),
    )


def refuse_unsupported(body: dict[str, Any]) -> None:
    """Raises BadRequest for a field that is not served and would change the answer, or that a worker would choke on."""
    for name, reason in REFUSED.items():
        if _given(body.get(name)):
            raise BadRequest(f"{name} is not supported here: {reason}", param=name, code="unsupported_parameter")
    check_passed(body)


def _given(value: Any) -> bool:
    # Not `in (None, False)`: 0 is equal to False, and prompt_logprobs may be 0.
    return value is not None and value is not False


_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)


def convert(body: dict[str, Any], kind: type[T], *, strict: bool = True) -> T:
    """`body` as a wire type. Raises BadRequest with msgspec's reason and the field it names.

    strict: False where numbers and such are written as text, as in a URL.
    """
    try:
        return msgspec.convert(body, kind, strict=strict)
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


def at_least_one(value: int | None, name: str) -> None:
    if value is not None and value < 1:
        raise BadRequest(f"{name}: {value} is below the least value, 1", param=name)
