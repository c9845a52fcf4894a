"""What ``/openapi.json`` says: which operations there are, and what each may answer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method: in capitals.
        path: a template, such as ``/v1/responses/{response_id}``.
        answers: the schema of its 200 in JSON, if it has one.
        events: the schema of the JSON of its server-sent events, if it has any.
        sentinels: data of events that are no JSON.
    """

    method: str
    path: str
    answers: jsonschema_rs.Validator | None
    events: jsonschema_rs.Validator | None
    sentinels: frozenset[str]

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Description:
    """All of it.

    Attributes:
        operations: by their names.
        error: the schema of every error.
    """

    operations: Mapping[str, Operation]
    error: jsonschema_rs.Validator

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Description":
        """Read ``/openapi.json``."""
        components = document["components"]
        operations = [
            _operation(method.upper(), path, described, components)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
            if method in METHODS
        ]
        error = _validator({"$ref": "#/components/schemas/ErrorResponse"}, components)
        return cls({operation.name: operation for operation in operations}, error)


def _operation(method: str, path: str, described: Mapping[str, Any], components: Any) -> Operation:
    content = described["responses"].get("200", {}).get("content", {})
    schema = content.get(JSON, {}).get("schema")
    data = content.get(EVENTS, {}).get("itemSchema", {}).get("properties", {}).get("data")
    schemas = [] if data is None else [kind["contentSchema"] for kind in _kinds(data) if "contentSchema" in kind]
    return Operation(
        method,
        path,
        None if schema is None or method == "HEAD" else _validator(schema, components),
        _validator({"anyOf": schemas}, components) if schemas else None,
        frozenset() if data is None else frozenset(kind["const"] for kind in _kinds(data) if "const" in kind),
    )


def _kinds(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The members of a union; the schema itself if it is none."""
    yield from schema.get("anyOf", [schema])


def _validator(schema: Mapping[str, Any], components: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.dumps({**schema, "components": components}))
