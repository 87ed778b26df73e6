"""Cuts what we serve out of OpenAI's published description.

    python -m tests.openai_spec.extract openapi.json COMMIT > tests/openai_spec/schemas.json

Kept: the schemas in ROOTS and all that they refer to, as JSON Schema 2020-12 under `$defs`. Dropped: descriptions,
examples, and what only documentation uses. `nullable: true` of OpenAPI 3.0, which the description still uses here and
there, becomes a null beside the schema.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOTS = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionResponse",
    "CreateEmbeddingResponse",
    "Error",
    "ErrorResponse",
    "ListModelsResponse",
    "Model",
    "Response",
    "ResponseItemList",
    "ResponseStreamEvent",
)
_DROPPED = frozenset({"description", "example", "examples", "title", "deprecated", "default", "externalDocs", "format"})
_MAPS = frozenset({"properties", "patternProperties"})


def extract(description: dict[str, Any], commit: str) -> dict[str, Any]:
    schemas = description["components"]["schemas"]
    found: dict[str, Any] = {}
    wanted = list(ROOTS)
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _converted(schemas[name], name, wanted)
    return {
        "$comment": f"openai/openai-openapi {commit}, openapi.json, version {description['info']['version']} (MIT)",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": dict(sorted(found.items())),
    }


def _converted(node: Any, name: str, wanted: list[str]) -> Any:
    """`name`: the schema that `node` is in; names that it refers to are added to `wanted`."""
    if isinstance(node, list):
        return [_converted(item, name, wanted) for item in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key in _MAPS:
            made[key] = {word: _converted(part, name, wanted) for word, part in value.items()}
        elif key == "$ref":
            target = value.rsplit("/", 1)[1]
            wanted.append(target)
            made[key] = f"#/$defs/{target}"
        elif key == "$recursiveRef":
            made["$ref"] = f"#/$defs/{name}"
        elif key in ("enum", "const", "required"):
            made[key] = value
        elif key not in _DROPPED and key not in ("nullable", "discriminator", "$recursiveAnchor") and key[:2] != "x-":
            made[key] = _converted(value, name, wanted)
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


if __name__ == "__main__":
    published = json.loads(Path(sys.argv[1]).read_bytes())
    json.dump(extract(published, sys.argv[2]), sys.stdout, indent=1, ensure_ascii=False)
    print()
