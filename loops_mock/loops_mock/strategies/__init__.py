"""Hypothesis strategies: for every type that goes over the wire, for errors, and for programs.

What is drawn is valid and small, and shrinks to the smallest: short rows, low token ids, few calls.
Asked with `invalid=True` a strategy draws a `Defect` instead: one named thing that is wrong, and
the field that the refusal must name.
"""

from __future__ import annotations

from loops_mock.strategies.data import (
    LOSS_INPUTS,
    PROTOCOL_LOSSES,
    adam_params,
    batches,
    datums,
    model_inputs,
    prompts,
    rows,
    sampling_params,
)
from loops_mock.strategies.defects import Defect
from loops_mock.strategies.errors import error_classes, errors
from loops_mock.strategies.names import (
    checkpoint_addresses,
    checkpoint_names,
    deployments,
    sampler_pins,
)
from loops_mock.strategies.program import (
    Cancel,
    Init,
    Load,
    OptimStep,
    Pass,
    Program,
    ProgramCall,
    Publish,
    ReadAgain,
    Refused,
    Repeat,
    Row,
    Sample,
    SaveState,
)
from loops_mock.strategies.programs import program_calls, programs
from loops_mock.strategies.wire import json_values, tensors, wire_types, wire_values

__all__ = [
    "LOSS_INPUTS",
    "PROTOCOL_LOSSES",
    "Cancel",
    "Defect",
    "Init",
    "Load",
    "OptimStep",
    "Pass",
    "Program",
    "ProgramCall",
    "Publish",
    "ReadAgain",
    "Refused",
    "Repeat",
    "Row",
    "Sample",
    "SaveState",
    "adam_params",
    "batches",
    "checkpoint_addresses",
    "checkpoint_names",
    "datums",
    "deployments",
    "error_classes",
    "errors",
    "json_values",
    "model_inputs",
    "program_calls",
    "programs",
    "prompts",
    "rows",
    "sampler_pins",
    "sampling_params",
    "tensors",
    "wire_types",
    "wire_values",
]
