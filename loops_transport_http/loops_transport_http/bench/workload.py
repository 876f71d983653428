"""What is sent: batches of a size, as data of ours and as the JSON of the protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.operation import ForwardBody
from loops_core.types.tensor import TensorData

if TYPE_CHECKING:
    from loops_core.types.training import ForwardBackwardOutput

_SEED: Final = 0
SMALL_VOCABULARY: Final = 200
"""Below what the mock backend's model has."""

VOCABULARY: Final = 49_152
"""As small language models have it: what decides how long token ids are in JSON."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The size of a batch.

    Attributes:
        num_data: its data.
        length: positions of each of them.
    """

    num_data: int
    length: int

    def __str__(self) -> str:
        """Return it as it is written in the names of rows and models.

        >>> str(BatchSize(32, 1024)), BatchSize.parse("32x1024").length
        ('32x1024', 1024)
        """
        return f"{self.num_data}x{self.length}"

    @classmethod
    def parse(cls, text: str) -> BatchSize:
        """Return the size that `str` wrote."""
        num_data, _, length = text.partition("x")
        return cls(int(num_data), int(length))


TINY: Final = BatchSize(1, 8)
BIG: Final = BatchSize(32, 1024)
LONG: Final = BatchSize(64, 8192)


def make_data(size: BatchSize, *, vocabulary: int = SMALL_VOCABULARY) -> list[Datum]:
    """Return data for `cross_entropy`: token ids below `vocabulary`, with targets."""
    import numpy as np

    draw = np.random.default_rng(_SEED)
    rows = draw.integers(5, vocabulary, (size.num_data, size.length + 1))
    return [
        Datum(
            model_input=ModelInput.from_ints(row[:-1].tolist()),
            loss_fn_inputs={"target_tokens": TensorData.from_numpy(row[1:].copy())},
        )
        for row in rows
    ]


def make_rl_data(size: BatchSize) -> list[Datum]:
    """Return data for `importance_sampling`: token ids, targets, logprobs and advantages."""
    import numpy as np

    draw = np.random.default_rng(_SEED)
    data: list[Datum] = []
    for _ in range(size.num_data):
        tokens = draw.integers(0, VOCABULARY, size.length + 1)
        logprobs, advantages = draw.normal(-1.0, 1.0, (2, size.length)).astype(np.float32)
        data.append(
            Datum(
                model_input=ModelInput.from_ints(tokens[:-1].tolist()),
                loss_fn_inputs={
                    "target_tokens": TensorData.from_numpy(tokens[1:].copy()),
                    "logprobs": TensorData.from_numpy(logprobs),
                    "advantages": TensorData.from_numpy(advantages),
                },
            )
        )
    return data


def make_body(data: list[Datum], *, loss_fn: str = "cross_entropy") -> ForwardBody:
    """Return the body of a `forward_backward`."""
    return ForwardBody(seq_id=1, data=data, loss_fn=loss_fn)


def make_json(body: ForwardBody) -> bytes:
    """Return a body as the compact JSON of the protocol."""
    return json.dumps(body.model_dump(mode="json"), separators=(",", ":")).encode()


def make_output(size: BatchSize) -> ForwardBackwardOutput:
    """Return the result of a pass over a batch of a size: one `logprobs` tensor a datum."""
    import numpy as np

    from loops_core.types.training import ForwardBackwardOutput

    draw = np.random.default_rng(_SEED)
    values = draw.normal(-1.0, 1.0, (size.num_data, size.length)).astype(np.float32)
    return ForwardBackwardOutput(
        loss=1.0,
        loss_fn_output_type="per_token_logprobs",
        loss_fn_outputs=[{"logprobs": TensorData.from_numpy(row)} for row in values],
        metrics={"loss": 1.0},
    )
