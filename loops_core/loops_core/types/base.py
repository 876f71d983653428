"""The base of every type that travels."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """A value that goes over the wire: readers ignore unknown fields, writers send their own."""

    model_config = ConfigDict(
        extra="ignore",
        arbitrary_types_allowed=True,
        populate_by_name=True,
        protected_namespaces=(),
        ser_json_inf_nan="null",
        hide_input_in_errors=True,
    )
