"""The wire's types as JSON schemas, each as the server reads or writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from loops_core.types import routes
from loops_core.types.operation import OPERATIONS
from loops_transport_http.wire.errors import WireError

if TYPE_CHECKING:
    from pydantic_core import core_schema

Mode = Literal["validation", "serialization"]
Json = dict[str, Any]

_REFUSED: Final = "ImageAssetPointerChunk"
_REF: Final = "#/components/schemas/{model}"
_NUMBERS: Final[Json] = {
    "type": "array",
    "items": {"type": ["number", "boolean", "null"]},
    "description": "Flat and row-major; null is NaN.",
}


class _WireSchema(GenerateJsonSchema):
    """Knows what a NumPy array is in JSON."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        del schema  # bytes are base64 wherever they travel
        return {"type": "string", "contentEncoding": "base64"}

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:
        del schema  # there is one such class in the wire's types
        return dict(_NUMBERS)


def make_schemas() -> tuple[dict[tuple[type[BaseModel], Mode], Json], dict[str, Json]]:
    """Return a reference to the schema of each type in each direction, and the schemas by name."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(WireError, "serialization"): None}
    for route in routes.ROUTES:
        wanted[(route.reply_type, "serialization")] = None
        if route.body_type is not None:
            wanted[(route.body_type, "validation")] = None
    for spec in OPERATIONS.values():
        wanted[(spec.result_type, "serialization")] = None
    refs, document = models_json_schema(
        list(wanted), ref_template=_REF, schema_generator=_WireSchema
    )
    schemas: dict[str, Json] = document["$defs"]
    for schema in schemas.values():
        schema["description"] = _first_paragraph(schema.get("description", ""))
    _name_results(refs, schemas)
    return {
        (key[0], key[1]): dict(ref) for key, ref in refs.items() if issubclass(key[0], BaseModel)
    }, schemas


def _name_results(refs: Any, schemas: dict[str, Json]) -> None:
    """Say what a result may be: one of the table of operations, or null."""
    results = {spec.result_type: None for spec in OPERATIONS.values()}
    result = schemas["OperationStatus"]["properties"]["result"]
    result["anyOf"] = [
        *({"$ref": refs[(result_type, "serialization")]["$ref"]} for result_type in results),
        {"type": "null"},
    ]
    schemas.pop("WireModel", None)
    schemas.pop(_REFUSED, None)
    for schema in schemas.values():
        _drop_refused(schema)
    for name, schema in schemas.items():
        if name.partition("-")[0] == "TensorData":  # as it is read, and as it is written
            schema["properties"]["data"] = dict(_NUMBERS)


def _drop_refused(schema: object) -> None:
    """Leave out of every union what the protocol names and nobody accepts."""
    if isinstance(schema, list):
        for each in cast("list[object]", schema):
            _drop_refused(each)
    elif isinstance(schema, dict):
        fields = cast("Json", schema)
        if "oneOf" in fields and "discriminator" in fields:
            fields["oneOf"] = [one for one in fields["oneOf"] if not one["$ref"].endswith(_REFUSED)]
            mapping = fields["discriminator"]["mapping"]
            fields["discriminator"]["mapping"] = {
                name: ref for name, ref in mapping.items() if not ref.endswith(_REFUSED)
            }
        for each in fields.values():
            _drop_refused(each)


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
