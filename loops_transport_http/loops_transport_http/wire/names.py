"""Names of headers and media types."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
TENSORS: Final = "application/vnd.loops.tensors.v1"
"""A packed value as `loops_core.types.frames` writes it: JSON with raw little-endian buffers."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
RUN_ID: Final = "X-Run-Id"
SAMPLER_ID: Final = "X-Sampler-Id"
CHECKPOINT_PATH: Final = "X-Checkpoint-Path"
MIN_POLICY_VERSION: Final = "X-Min-Policy-Version"
AFFINITY_KEY: Final = "X-Baseten-Session-ID"
POLICY_VERSION: Final = "x-trainers-policy-version"
"""Of an answered sample: the version of the weights that drew it."""

ACCEPT_ERROR: Final = "X-Baseten-Accept-Error"
ERROR_SOURCE: Final = "X-Baseten-Error-Source"
ERROR_CODE: Final = "X-Baseten-Error-Code"
FINAL_ERROR: Final = "06"
"""An `ERROR_SOURCE` that published clients never retry, whatever the status."""

FEATURES: Final = "X-Loops-Features"
HOLD: Final = "X-Loops-Hold"
"""Of a poll: how long it may be held, in seconds."""

PART: Final = "X-Loops-Part"
"""Of a submit: `<index>/<count>` of the batch's parts."""

LONGEST_HOLD_S: Final = 30.0
"""The longest that a poll is held."""
