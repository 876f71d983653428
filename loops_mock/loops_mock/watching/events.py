"""What a watch has seen, as values in the order in which the program asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from loops_core.types.operation import OperationKind
from loops_mock.watching.places import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that the code under test did, or that was answered to it.

    Attributes:
        number: its position among everything that was seen, from 1.
        service: which opened service it belongs to, from 0.
        place: the line of the program, where it could be told.
    """

    number: int
    service: int
    place: Place | None = None

    @property
    def where(self) -> str:
        """Return the position and the line, for a message."""
        return f"call {self.number}" if self.place is None else f"call {self.number}, {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOpened(Event):
    """A client opened a transport.

    Attributes:
        url: where to.
        is_lent: whether it was opened for the code under test, which need not close it.
    """

    url: str
    is_lent: bool = False

    def __str__(self) -> str:
        return f"opened a client of {self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceClosed(Event):
    """A client closed its transport."""

    def __str__(self) -> str:
        return "closed the client"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerOpened(Event):
    """A training client was opened.

    Attributes:
        client_id: unique to the client.
        run_id: its run.
        is_lent: whether it was opened for the code under test, which need not close it.
    """

    client_id: str
    run_id: str | None
    is_lent: bool = False

    def __str__(self) -> str:
        return f"opened a training client of run {self.run_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerClosed(Event):
    """A training client was closed."""

    client_id: str

    def __str__(self) -> str:
        return "closed the training client"


@dataclass(frozen=True, slots=True)
class Example:
    """One datum of a batch, as far as it is remembered.

    Attributes:
        digest: tells its inputs from others.
        tokens: what the model reads and the last target, as packed int64; empty with an image.
        targets: its target tokens, as packed int64.
        logprobs: the sampler's log-probabilities that it was given, as packed float64; None =
            none.
        advantages: its advantages, or weights where it has none, one a position, as packed
            float64; None = neither.
    """

    digest: bytes
    tokens: bytes
    targets: bytes = b""
    logprobs: bytes | None = None
    advantages: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(Event):
    """The service accepted an operation; repetitions under its key are not seen twice.

    Attributes:
        kind: the operation.
        ordinal: its number among those of its kind in its run, from 1.
        operation_id: its handle.
        run_id: its run.
        loss: loss and settings of a pass.
        examples: the data of a pass.
    """

    kind: OperationKind
    ordinal: int
    operation_id: str
    run_id: str | None
    loss: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def name(self) -> str:
        """Return the operation with its number."""
        return f"{self.kind.value} #{self.ordinal}"

    def __str__(self) -> str:
        return f"{self.name} was accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Event):
    """The outcome of an operation was read.

    Attributes:
        operation_id: its handle.
        error: the class of its error; None where it succeeded.
        version: the policy version that it published, if it did.
        path: the address of the checkpoint that it saved, if it did.
    """

    operation_id: str
    error: str | None = None
    version: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        outcome = "done" if self.error is None else f"failed with {self.error}"
        version = "" if self.version is None else f", policy version {self.version}"
        return f"read an outcome: {outcome}{version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Event):
    """A sample was answered; `number` and `place` are those of the question.

    Attributes:
        ordinal: its number among the samples of its run, from 1.
        run_id: the run whose weights answered; None = a base model's.
        version: the policy version that answered, where it was told.
        is_pinned: whether the caller asked for one checkpoint by its address.
        is_scoring: whether the prompt was scored and nothing else.
        sequences: prompt and new tokens of each sequence, as packed int64.
        logprobs: of each sequence's new tokens, as packed float64; empty where it has none.
    """

    ordinal: int
    run_id: str | None
    version: int | None
    is_pinned: bool
    is_scoring: bool
    sequences: tuple[bytes, ...]
    logprobs: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """Return the call with its number."""
        return f"sample #{self.ordinal}"

    def __str__(self) -> str:
        return f"{self.name} was answered by policy version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Called(Event):
    """A call of another kind, or one that failed.

    Attributes:
        name: the route.
        error: the class of the error that it raised; None where it was answered.
    """

    name: str
    error: str | None = None

    def __str__(self) -> str:
        return self.name if self.error is None else f"{self.name} raised {self.error}"
