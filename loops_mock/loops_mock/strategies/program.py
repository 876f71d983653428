"""Programs: what a user's code asks of one trainer, call by call, as plain values that print short.

A program says nothing about what comes back; `loops_mock.contract.oracle` knows that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET


@dataclass(frozen=True, slots=True)
class Row:
    """A datum as plain numbers.

    Attributes:
        tokens: what the model reads, N ids.
        targets: what it should predict, N ids, -100 = ignored.
        inputs: further inputs of the loss by name, N numbers each.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    inputs: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def datum(self) -> Datum:
        """Return the datum."""
        tensors = {"target_tokens": np.asarray(self.targets, np.int64)}
        tensors |= {name: np.asarray(values, np.float32) for name, values in self.inputs}
        return Datum(
            model_input=ModelInput.from_ints(self.tokens),
            loss_fn_inputs={name: TensorData.from_numpy(each) for name, each in tensors.items()},
        )

    def active(self) -> tuple[bool, ...]:
        """Return which positions count: not ignored, and neither weight nor advantage is zero."""
        inputs = dict(self.inputs)
        gate = inputs.get("weights", inputs.get("advantages", (1.0,) * len(self.targets)))
        return tuple(
            target != IGNORED_TARGET and value != 0.0
            for target, value in zip(self.targets, gate, strict=True)
        )

    def __repr__(self) -> str:
        """Return it as short as it can be typed."""
        more = f", {self.inputs!r}" if self.inputs else ""
        return f"Row({self.tokens!r}, {self.targets!r}{more})"


@dataclass(frozen=True, slots=True)
class Pass:
    """`forward_backward`, or `forward` where nothing goes backward."""

    rows: tuple[Row, ...]
    backward: bool = True
    loss_fn: str = "cross_entropy"
    skip_normalization: bool = False


@dataclass(frozen=True, slots=True)
class OptimStep:
    """`optim_step`, with the protocol's defaults for what is not given."""

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    grad_clip_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class SaveState:
    """`save_state`."""

    name: str = "a"


@dataclass(frozen=True, slots=True)
class Load:
    """`load_state_with_optimizer`, or `load_state`; fails where nothing was saved as `name`."""

    name: str = "a"
    optimizer: bool = True


@dataclass(frozen=True, slots=True)
class Init:
    """`init_trainer_server`: a fresh adapter."""

    rank: int = 1


@dataclass(frozen=True, slots=True)
class Publish:
    """`save_weights_and_get_sampling_client`."""

    name: str = "a"


@dataclass(frozen=True, slots=True)
class Sample:
    """`sample`, from what was published last, or from what was published as `of`.

    Before anything was published it is the base model that answers.
    """

    prompt: tuple[int, ...]
    max_tokens: int = 1
    num_samples: int = 1
    temperature: float = 1.0
    seed: int = 0
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A pass or step again under its own key: the last one that was not refused, or one before."""

    back: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancels the pass or step that was submitted last, if its result was not read yet."""


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """Reads the result of an operation, and reads it again: the last operation, or one before."""

    back: int = 0


Refusal: TypeAlias = Literal[
    "a token beyond the vocabulary",
    "a negative token",
    "a target beyond the vocabulary",
    "one target too many",
    "targets that are floats",
    "weights of another length",
    "weights that is not finite",
    "an input that no loss reads",
    "no positions",
    "no data",
    "a loss that nobody offers",
    "a setting that the loss does not have",
    "a negative learning rate",
    "a checkpoint name with a slash",
    "a used key with another body",
]
"""What is wrong with a call that is refused before it becomes an operation."""

REFUSALS: Final[tuple[Refusal, ...]] = get_args(Refusal)


@dataclass(frozen=True, slots=True)
class Refused:
    """A wrong call; nothing changes but for the error that it raises."""

    what: Refusal = "no data"


ProgramCall: TypeAlias = (
    Pass
    | OptimStep
    | SaveState
    | Load
    | Init
    | Publish
    | Sample
    | Repeat
    | Cancel
    | ReadAgain
    | Refused
)
"""Any call of a program."""


@dataclass(frozen=True, slots=True)
class Program:
    """Calls in the order in which they are made.

    Results are read only where a call says so, and at the end, the newest first.

    >>> print(Program((Pass((Row((0,), (1,)),)), OptimStep())))
    1. Pass(rows=(Row((0,), (1,)),))
    2. OptimStep()
    """

    calls: tuple[ProgramCall, ...] = ()

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.calls)

    def __iter__(self) -> Iterator[ProgramCall]:
        """Return the calls in order."""
        return iter(self.calls)

    def __str__(self) -> str:
        """Return the calls, one a line, without what is as by default."""
        return "\n".join(f"{number}. {say(call)}" for number, call in enumerate(self.calls, 1))


def say(call: ProgramCall) -> str:
    """Return a call as text, without the arguments that are as by default.

    >>> say(Load("a", optimizer=False)), say(Cancel())
    ('Load(optimizer=False)', 'Cancel()')
    """
    fields = type(call).__dataclass_fields__
    given = {name: getattr(call, name) for name in fields}
    told = [f"{k}={v!r}" for k, v in given.items() if v != fields[k].default]
    return f"{type(call).__name__}({', '.join(told)})"
