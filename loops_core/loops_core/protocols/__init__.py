"""The seams: what a transport, a backend, a loss and a checkpoint store are.

Each Protocol's docstring is its contract. Whoever fulfils it plugs in through `loops_core.hooks`.
"""

from __future__ import annotations

from loops_core.protocols.backend import Backend, BackendConfig, RunSpec
from loops_core.protocols.losses import (
    Array,
    LossFunction,
    LossInput,
    LossSetting,
    LossSettings,
    LossSpec,
)
from loops_core.protocols.sampling import (
    SampledTokens,
    SampleHandle,
    SampleOutcome,
    Sampler,
    SamplerDescription,
    SampleRequest,
    SamplerFeature,
    SamplerSpec,
)
from loops_core.protocols.storage import CheckpointStore, StoredFile
from loops_core.protocols.training import Trainer, TrainerDescription, TrainerSpec
from loops_core.protocols.transport import BodyLimits, Transport

__all__ = [
    "Array",
    "Backend",
    "BackendConfig",
    "BodyLimits",
    "CheckpointStore",
    "LossFunction",
    "LossInput",
    "LossSetting",
    "LossSettings",
    "LossSpec",
    "RunSpec",
    "SampleHandle",
    "SampleOutcome",
    "SampleRequest",
    "SampledTokens",
    "Sampler",
    "SamplerDescription",
    "SamplerFeature",
    "SamplerSpec",
    "StoredFile",
    "Trainer",
    "TrainerDescription",
    "TrainerSpec",
    "Transport",
]
