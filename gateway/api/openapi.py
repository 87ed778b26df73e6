"""The OpenAPI document: what FastAPI knows of the routes, the wire types of bodies, and `operations` for the rest.

FastAPI parses no bodies here, so it knows neither their schemas nor our errors. Schemas come from msgspec types; each
object with a title (its type's name) becomes a component of that name.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api.idempotency import HEADER, MAX_KEY
from gateway.api.operations import OPERATIONS, Errors, Operation
from gateway.api.shapes import Error

Json = dict[str, Any]

DESCRIPTION = """
An OpenAI-compatible gateway that delivers the best safe one of n candidates: for each request several answers are
sampled, a reward model and a safety classifier judge them, and the best safe one is delivered.

**Start.** Point an OpenAI client at this server's `/v1`; everything else stays as it is. Where API keys exist, send one
as `Authorization: Bearer bk_...`.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="bk_...")
answer = client.chat.completions.create(
    model="bestow-demo",
    messages=[{"role": "user", "content": "How do I keep a houseplant healthy?"}],
    extra_body={"guidance": {"n": 8, "budget": {"ms": 2000}}},
)
print(answer.choices[0].message.content, answer.guidance["reward"])
```

**Guidance.** What only Bestow has goes under one key, `guidance`, in requests (all of it optional, bounded by the
model's profile) and in answers (the receipt: what was sampled, scored, and why this one). The receipt is also in the
`x-bestow-` headers. `n` keeps OpenAI's meaning: the n best, best first. Fields that are not listed here pass to the
worker as they are.

**Feedback.** Send what people think of an answer to `POST /v1/feedback` with the answer's `id`; a browser may do it
with the receipt's `feedback_token` in the place of an API key. It trains the next reward model.

**Errors** have OpenAI's shape, always JSON, always with `x-request-id`. `x-should-retry: true` comes with a whole
number of seconds in `Retry-After` where trying the same again soon can help; everywhere else it is `false`, and
OpenAI's clients then do not retry. Send an `Idempotency-Key` with what you may send twice: a repeated key gets the
first answer and samples nothing. A path that is not listed here is a 404, a wrong method a 405.
""".strip()

TAGS = [
    {"name": "chat", "description": "Completions, judged. Needs the scope `chat`."},
    {"name": "responses", "description": "OpenAI's Responses API over the same path. Needs the scope `chat`."},
    {"name": "models", "description": "The models, and what their workers do besides. Needs the scope `chat`."},
    {
        "name": "feedback",
        "description": "What people think of answers. Needs the scope `feedback`, or the answer's feedback token.",
    },
    {
        "name": "admin",
        "description": "For operators. Needs the scope `admin`, or `read-logs` to read the log; without API keys, this "
        "machine.",
    },
    {"name": "health", "description": "For probes and scrapers. Needs no key."},
]

_HEADERS: dict[str, tuple[str, Json]] = {
    "x-request-id": ("This request's id, also in the log; of an answer, its id.", {"type": "string"}),
    "x-bestow-profile": ("`guidance.profile`.", {"type": "string"}),
    "x-bestow-policy": ("`guidance.policy`.", {"type": "string"}),
    "x-bestow-reward-model": ("`guidance.reward_model`, or `none`.", {"type": "string"}),
    "x-bestow-release": ("`guidance.release`, where it is something.", {"type": "integer"}),
    "x-bestow-safe-mode": ("`guidance.safe_mode`, where it is on.", {"const": "on"}),
    "x-bestow-candidates": ("How many candidates were sampled; not known when a stream starts.", {"type": "integer"}),
    "x-bestow-reward": ("The delivered answer's reward, where it has one.", {"type": "number"}),
    "x-bestow-degraded": ("`guidance.degraded`, where it is something.", {"type": "string"}),
    "x-bestow-overhead-ms": ("Milliseconds that were not spent waiting for workers or scorers.", {"type": "number"}),
    "x-bestow-replayed": ("The answer of an earlier request with this Idempotency-Key.", {"const": "true"}),
    "x-should-retry": ("Whether the same request may succeed soon.", {"type": "string", "enum": ["true", "false"]}),
    "retry-after": ("In how many seconds; where `x-should-retry` is true.", {"type": "integer", "minimum": 1}),
}
_ALWAYS = frozenset({"x-request-id", "x-should-retry", "x-bestow-profile", "x-bestow-policy", "x-bestow-reward-model"})
_RECEIPT = tuple(name for name in _HEADERS if name.startswith("x-bestow-") and name != "x-bestow-replayed")

_IDEMPOTENCY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Any printable text of your own for this request. A repeated key with the same body gets the same "
    "answer, nothing is sampled again; with another body it is a 400.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}


def body(kind: type, example: Json) -> Json:
    """`openapi_extra` of a route whose JSON body is a `kind`."""
    content = {"schema": schema_of(kind), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def schema_of(kind: type) -> Json:
    """JSON Schema of a type, whole."""
    [found], definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    inlined: Json = _inlined(found, definitions)
    return inlined


def document(app: FastAPI) -> Json:
    """The OpenAPI document of the application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> Json:
    found = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS,
    )  # fmt: skip
    # Copied, since routes are shared by all applications of a process.
    paths: Json = copy.deepcopy(found["paths"])
    for path, methods in paths.items():
        for method, operation in methods.items():
            known = OPERATIONS.get((method.upper(), path))
            if known is not None:
                _complete(operation, known)
    schemas: Json = {}
    paths = _hoisted(paths, schemas)
    error = _hoisted(schema_of(Error), schemas)
    assert error == {"$ref": "#/components/schemas/Error"}
    headers = {
        name: {"description": text, "required": name in _ALWAYS, "schema": schema}
        for name, (text, schema) in _HEADERS.items()
    }
    scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "bk_...", "description": _SCHEME}
    return {
        **{key: value for key, value in found.items() if key not in ("paths", "components")},
        # Without API keys there are none to send.
        "security": [{"ApiKey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "headers": headers,
            "securitySchemes": {"ApiKey": scheme},
        },
    }


_SCHEME = (
    "An API key (`bestow keys create`). `x-api-key` and `api-key` are read too. For feedback, the answer's feedback "
    "token does as well. A gateway that only its own machine can reach needs none until the first key is made."
)


def _complete(operation: Json, known: Operation) -> None:
    """Add what FastAPI cannot know of an operation."""
    operation["tags"] = [known.tag]
    operation.pop("security", None)
    if known.open:
        operation["security"] = []
    parameters = operation.setdefault("parameters", [])
    if known.once:
        parameters.append(_IDEMPOTENCY)
    for name, schema in (known.query or {}).items():
        described = {key: value for key, value in schema.items() if key != "description"}
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": schema["description"], "schema": described}
        )
    if not parameters:
        del operation["parameters"]
    operation["responses"] = {
        **_answers(known, operation.get("summary", "")),
        **_errors(known.errors),
    }


def _answers(known: Operation, summary: str) -> Json:
    names = ("x-request-id", *(_RECEIPT if known.receipt else ()), *(("x-bestow-replayed",) if known.once else ()))
    if known.answer is None:
        if known.errors:
            return {}
        text = {"text/plain": {"schema": {"type": "string"}}}
        return {"200": {"description": summary, "headers": _headers(names), "content": text}}
    content: Json = {"application/json": {"schema": schema_of(known.answer)}}
    if known.stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": known.stream}}
    said = (known.answer.__doc__ or "").strip().splitlines()[0]
    found = {str(known.status): {"description": said, "headers": _headers(names), "content": content}}
    for status, kind, description in known.also:
        also = {"application/json": {"schema": schema_of(kind)}}
        found[str(status)] = {"description": description, "headers": _headers(names), "content": also}
    return found


def _errors(errors: Errors) -> Json:
    by_status: dict[int, list[str]] = defaultdict(list)
    for error in errors:
        by_status[error.status].append(error.code)
    headers = _headers(("x-request-id", "x-should-retry", "retry-after"))
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}",
            "headers": headers,
            "content": content,
        }
        for status, codes in sorted(by_status.items())
    }


def _headers(names: tuple[str, ...]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with its references replaced by what they name: none of ours is recursive."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            named = _inlined(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return {"allOf": [named], **beside} if beside else named
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    return schema


def _hoisted(value: Any, schemas: Json) -> Any:
    """`value` with each titled object moved to `schemas`. Raises ValueError where two differ under one title."""
    if isinstance(value, list):
        return [_hoisted(one, schemas) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _hoisted(inner, schemas) for key, inner in value.items()}
    title = found.get("title")
    if found.get("type") != "object" or not isinstance(title, str):
        return found
    if schemas.setdefault(title, found) != found:
        raise ValueError(f"two different types are named {title}")
    return {"$ref": f"#/components/schemas/{title}"}
