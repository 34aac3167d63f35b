"""A document of a record that nothing makes in a moment: of each field the least that its schema allows."""

from typing import Any

from tumorseg.schema.base import Record

MOST_DEEP = 12


def sample(kind: type[Record]) -> dict[str, Any]:
    """Return a document of a record; checks that look at several fields may refuse it."""
    schema = kind.model_json_schema()
    made: dict[str, Any] = _value(schema, schema.get("$defs", {}), 0)
    return made


def _value(schema: dict[str, Any], known: dict[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        return _value(known[schema["$ref"].rpartition("/")[2]], known, depth + 1)
    for key in ("const", "default"):
        if key in schema and (key == "const" or depth > 3):
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            # Nothing, where a field may hold nothing: less that two fields could disagree on.
            return None if {"type": "null"} in schema[key] else _value(schema[key][0], known, depth + 1)
    return _plain(schema, known, depth)


def _plain(schema: dict[str, Any], known: dict[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        named = schema.get("properties", {})
        made = {name: _value(field, known, depth + 1) for name, field in named.items()}
        if not named and isinstance(more := schema.get("additionalProperties"), dict) and depth < MOST_DEEP:
            made["1"] = _value(more, known, depth + 1)
        return made
    if kind == "array":
        if "prefixItems" in schema:
            return [_value(item, known, depth + 1) for item in schema["prefixItems"]]
        items = [_value(schema.get("items", {}), known, depth + 1)] if depth < MOST_DEEP else []
        return items * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        return least + (1 if kind == "integer" else 0.5)
    return {"string": "text", "boolean": True}.get(str(kind))
