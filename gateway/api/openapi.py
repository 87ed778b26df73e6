"""What the OpenAPI page says of bodies that FastAPI does not parse: their schemas, from the wire types themselves."""

from typing import Any

import msgspec


def body(kind: type, example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is a `kind`."""
    schema, definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    [found] = schema
    if "$ref" in found:
        found = definitions.pop(found["$ref"].removeprefix("#/$defs/"))
    found = _inlined(found, definitions)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": found, "example": example}}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its references replaced by what they name: none of ours is recursive."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    return schema
