"""The public names of `loops_core` are frozen: a change of this list is a change that users see."""

from __future__ import annotations

import loops_core

PUBLIC_NAMES = {
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
}


def test_the_public_names_are_these() -> None:
    assert set(loops_core.__all__) == PUBLIC_NAMES


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(loops_core, name) is not None for name in loops_core.__all__)


def test_public_names_are_what_dir_shows() -> None:
    assert dir(loops_core) == sorted(PUBLIC_NAMES)
