"""Loops: LoRA fine-tuning and RL of language models over a submit-and-retrieve protocol.

The public names load on first use; importing this package imports none of the heavy libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from loops_core.client.futures import (
        APIFuture,
        ComposedFuture,
        ForwardBackwardFuture,
        OperationFuture,
    )
    from loops_core.client.sampling import SamplingClient
    from loops_core.client.service import ServiceClient
    from loops_core.client.training import TrainingClient
    from loops_core.types.checkpoint import (
        Checkpoint,
        CheckpointDownload,
        CheckpointFile,
        CheckpointFilesResponse,
        CheckpointTarget,
    )
    from loops_core.types.datum import (
        Datum,
        EncodedTextChunk,
        ExternalRef,
        ImageChunk,
        ModelInput,
        ModelInputChunk,
    )
    from loops_core.types.deployment import ServerCapabilities, SupportedModel
    from loops_core.types.sampling import (
        SampledSequence,
        SampleResponse,
        SampleResult,
        SamplingParams,
    )
    from loops_core.types.tensor import TensorData
    from loops_core.types.training import (
        AdamParams,
        ForwardBackwardOutput,
        GetInfoResponse,
        InitTrainerServerResponse,
        LoadWeightsResponse,
        OptimStepResponse,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
        WandbConfig,
    )

__version__ = "0.1.0"

_HOMES: Final[dict[str, tuple[str, ...]]] = {
    "loops_core.client.futures": (
        "APIFuture",
        "ComposedFuture",
        "ForwardBackwardFuture",
        "OperationFuture",
    ),
    "loops_core.client.sampling": ("SamplingClient",),
    "loops_core.client.service": ("ServiceClient",),
    "loops_core.client.training": ("TrainingClient",),
    "loops_core.types.checkpoint": (
        "Checkpoint",
        "CheckpointDownload",
        "CheckpointFile",
        "CheckpointFilesResponse",
        "CheckpointTarget",
    ),
    "loops_core.types.datum": (
        "Datum",
        "EncodedTextChunk",
        "ExternalRef",
        "ImageChunk",
        "ModelInput",
        "ModelInputChunk",
    ),
    "loops_core.types.deployment": ("ServerCapabilities", "SupportedModel"),
    "loops_core.types.sampling": (
        "SampleResponse",
        "SampleResult",
        "SampledSequence",
        "SamplingParams",
    ),
    "loops_core.types.tensor": ("TensorData",),
    "loops_core.types.training": (
        "AdamParams",
        "ForwardBackwardOutput",
        "GetInfoResponse",
        "InitTrainerServerResponse",
        "LoadWeightsResponse",
        "OptimStepResponse",
        "SaveWeightsForSamplerResponse",
        "SaveWeightsResponse",
        "WandbConfig",
    ),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "APIFuture",
    "AdamParams",
    "Checkpoint",
    "CheckpointDownload",
    "CheckpointFile",
    "CheckpointFilesResponse",
    "CheckpointTarget",
    "ComposedFuture",
    "Datum",
    "EncodedTextChunk",
    "ExternalRef",
    "ForwardBackwardFuture",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "ImageChunk",
    "InitTrainerServerResponse",
    "LoadWeightsResponse",
    "ModelInput",
    "ModelInputChunk",
    "OperationFuture",
    "OptimStepResponse",
    "SampleResponse",
    "SampleResult",
    "SampledSequence",
    "SamplingClient",
    "SamplingParams",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "ServerCapabilities",
    "ServiceClient",
    "SupportedModel",
    "TensorData",
    "TrainingClient",
    "WandbConfig",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
