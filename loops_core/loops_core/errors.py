"""Every error that Loops raises, in one tree.

```text
LoopsError                      the one root; retryable: a bool on the class; keyword-only fields
├── UsageError                  a wrong field, shape or dtype; at the call, or by the service
│   └── UnsupportedError        the backend does not claim this capability
├── NotFoundError               no such run, model or checkpoint; kind, name
├── ConflictError               the same idempotency key, another body; first_operation_id
├── RemoteOpError *             the operation ran and failed, the state is as before; error_class
├── OperationCancelledError     the operation was cancelled before it ran
├── UnknownRequestError *       no such operation, or its result has expired
├── TransportError              retryable: it may have arrived or not, the same key is safe
│   ├── UnreachableError        no connection, or it broke
│   ├── BusyError               over the bound; retry_after_s
│   └── ServerShutdownError *   going away
├── ResultTimeoutError          the wait ended, the operation goes on, the future stays usable
│   └── SampleTimeoutError *    timeout
├── SamplerTerminatedError *    deployment_id, status
├── StalePolicyError            the sampler did not reach the version in time; min_policy_version
├── CheckpointError             damaged, foreign, or written by another version
└── PluginError                 two plugins with one name, none with it, a wrong return type
```

A name with a star exists in the published API with the same base classes and attributes. Where a
standard exception says the same, the class is one too: UsageError is a ValueError, UnsupportedError
a NotImplementedError, NotFoundError a LookupError, OperationCancelledError a
concurrent.futures.CancelledError, ResultTimeoutError a TimeoutError, SamplerTerminatedError and
StalePolicyError are RuntimeErrors. Every class goes through pickle and through `error_to_body` /
`error_from_body` without loss of class or fields.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self, TypedDict, Unpack

from loops_core.types.operation import ErrorBody, ErrorField


class SharedFields(TypedDict, total=False):
    """The keyword arguments that every error takes; `LoopsError` says what they mean."""

    field: str | None
    hint: str | None
    operation_id: str | None
    operation: str | None
    run_id: str | None


class LoopsError(Exception):
    """The root of every error of this project.

    Attributes:
        message: what was wrong, with the value, what was expected, and what to do.
        field: the argument or field the message speaks of, as the caller typed it.
        hint: what to do about it, where the message does not say.
        operation_id: the operation that the error belongs to, once there is one.
        operation: that operation's name, such as `forward_backward`.
        run_id: the run that the operation belongs to.
        retryable: True where the same call with the same idempotency key may succeed later.
    """

    retryable: ClassVar[bool] = False
    own_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        message: str,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        unknown = shared.keys() - SharedFields.__annotations__.keys()
        if unknown:  # a class of the tree passes on what it does not know
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        super().__init__(message)
        self.message = message
        self.field = shared.get("field")
        self.hint = shared.get("hint")
        self.operation_id = shared.get("operation_id")
        self.operation = shared.get("operation")
        self.run_id = shared.get("run_id")

    def fields(self) -> dict[str, ErrorField]:
        """Return the keyword arguments that make an equal error, the ones that are set."""
        names = (*SharedFields.__annotations__, *type(self).own_fields)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def copy(self) -> Self:
        """Return an equal error without traceback: each waiter of a future raises its own."""
        return type(self)(self.message, **self.fields())  # type: ignore[arg-type]  # fields() are its own arguments

    def for_operation(self, *, operation_id: str, operation: str, run_id: str | None) -> Self:
        """Return a copy that names the operation it belongs to; what is already named stays."""
        named = self.copy()
        named.operation_id = self.operation_id or operation_id
        named.operation = self.operation or operation
        named.run_id = self.run_id or run_id
        return named

    def __str__(self) -> str:
        """Return the message, the hint, and the operation where there is one."""
        text = self.message if self.hint is None else f"{self.message} ({self.hint})"
        if self.operation_id is None:
            return text
        run = "" if self.run_id is None else f" of run {self.run_id}"
        return f"{text} [{self.operation or 'operation'} {self.operation_id}{run}]"

    def __reduce__(self) -> tuple[object, ...]:
        """Return what pickle needs to make an equal error."""
        return (_restore, (type(self), self.message, self.fields()))


def _restore(cls: type[LoopsError], message: str, fields: Mapping[str, ErrorField]) -> LoopsError:
    return cls(message, **fields)  # type: ignore[arg-type]  # fields() of the same class


class UsageError(LoopsError, ValueError):
    """A wrong argument, field, shape or dtype; nothing was changed."""


class UnsupportedError(UsageError, NotImplementedError):
    """The transport or backend does not offer what was asked; the message says what is missing."""


class NotFoundError(LoopsError, LookupError):
    """No such run, model, checkpoint or sampler.

    Attributes:
        kind: what was looked for, such as `checkpoint`.
        name: the name it was looked for under.
    """

    own_fields = ("kind", "name")

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        name: str | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.kind = kind
        self.name = name


class ConflictError(LoopsError):
    """The idempotency key was used before with another body; nothing was executed.

    Attributes:
        first_operation_id: the operation that holds the key.
    """

    own_fields = ("first_operation_id",)

    def __init__(
        self,
        message: str,
        *,
        first_operation_id: str | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.first_operation_id = first_operation_id


class RemoteOpError(LoopsError):
    """The operation ran and failed; the trainer's state is as before it.

    Attributes:
        error_class: name of the exception class on the worker, such as `UsageError`.
        context: the operation's descriptors as a flat dict of strings, for logs.
        descriptor: the same as one line of text.
    """

    own_fields = ("error_class",)

    def __init__(
        self,
        message: str,
        *,
        error_class: str | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.error_class = error_class

    @property
    def context(self) -> dict[str, str]:
        """Return the operation's descriptors that are known."""
        known = {
            "operation_id": self.operation_id,
            "operation": self.operation,
            "run_id": self.run_id,
        }
        return {name: value for name, value in known.items() if value is not None}

    @property
    def descriptor(self) -> str:
        """Return the operation's descriptors as one line."""
        return " ".join(f"{name}={value}" for name, value in self.context.items())


class OperationCancelledError(LoopsError, concurrent.futures.CancelledError):
    """The operation was cancelled while it waited; it never ran."""


class UnknownRequestError(LoopsError):
    """No operation has this id, or its result has expired."""


class TransportError(LoopsError):
    """The call may have arrived or not; repeating it with the same idempotency key is safe."""

    retryable = True


class UnreachableError(TransportError):
    """There is no connection to the service, or it broke."""


class BusyError(TransportError):
    """The service is over its bound.

    Attributes:
        retry_after_s: seconds to wait before the next attempt, where the service said so.
    """

    own_fields = ("retry_after_s",)

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.retry_after_s = retry_after_s


class ServerShutdownError(TransportError):
    """The service is going away."""


class ResultTimeoutError(LoopsError, TimeoutError):
    """The wait ended; the operation goes on and the future stays usable."""


class SampleTimeoutError(ResultTimeoutError):
    """A `sample` call was not answered in time.

    Attributes:
        timeout: seconds that were waited.
    """

    own_fields = ("timeout",)

    def __init__(
        self,
        message: str,
        *,
        timeout: float | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.timeout = timeout


class SamplerTerminatedError(LoopsError, RuntimeError):
    """The sampler's deployment has ended and will not answer.

    Attributes:
        deployment_id: the deployment that ended.
        status: its last status.
    """

    own_fields = ("deployment_id", "status")

    def __init__(
        self,
        message: str,
        *,
        deployment_id: str | None = None,
        status: str | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.deployment_id = deployment_id
        self.status = status


class StalePolicyError(LoopsError, RuntimeError):
    """The sampler did not reach the wanted policy version in time.

    Attributes:
        min_policy_version: the version that was waited for.
    """

    own_fields = ("min_policy_version",)

    def __init__(
        self,
        message: str,
        *,
        min_policy_version: int | None = None,
        **shared: Unpack[SharedFields],
    ) -> None:
        """Keep the message and the fields."""
        super().__init__(message, **shared)
        self.min_policy_version = min_policy_version


class CheckpointError(LoopsError):
    """A checkpoint is damaged, foreign, or written by another version."""


class PluginError(LoopsError):
    """Two plugins claim one name, none has it, or one returned the wrong type."""


def error_to_body(error: LoopsError) -> ErrorBody:
    """Return the error as the one JSON shape in which errors are stored and travel."""
    return ErrorBody(code=type(error).__name__, message=error.message, fields=error.fields())


def error_from_body(body: ErrorBody) -> LoopsError:
    """Return the error that `error_to_body` was given.

    A code that nobody here knows becomes a `LoopsError` that names it; fields that the class does
    not have are left out.
    """
    cls = next((cls for cls in _tree(LoopsError) if cls.__name__ == body.code), None)
    message = body.message if cls is not None else f"{body.code}: {body.message}"
    cls = cls or LoopsError
    names = {*SharedFields.__annotations__, *cls.own_fields}
    return _restore(cls, message, {k: v for k, v in body.fields.items() if k in names})


def _tree(cls: type[LoopsError]) -> Iterator[type[LoopsError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)
