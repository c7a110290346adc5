"""openapi.yaml for tests: schemas of requests and answers with their references resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import yaml

import harness.contract

DOCUMENT = yaml.safe_load((Path(harness.contract.__file__).parent / "openapi.yaml").read_text(encoding="utf-8"))


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and description by operationId."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict) and "operationId" in operation
    }


def resolved(node: Any) -> Any:
    """The node itself, or what its $ref points at."""
    while isinstance(node, dict) and "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def validate(schema: dict[str, Any], value: Any) -> None:
    """Raise jsonschema.ValidationError unless the value has the schema's shape."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)
