"""What the SDK's `forward_backward_custom` asks of torch, for where torch is not to be had.

Flat lists with a gradient each: exactly the calls that the SDK makes, and sums and products for the
loss. Only the client's own arithmetic is stood in for; what goes over the wire is the SDK's doing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__version__ = "stand-in"


@dataclass(frozen=True)
class DType:
    """An element type by its name."""

    name: str
    is_floating_point: bool

    def __str__(self) -> str:
        """Return the name as torch writes it."""
        return f"torch.{self.name}"


float32, float64 = DType("float32", True), DType("float64", True)
float16, bfloat16 = DType("float16", True), DType("bfloat16", True)
int8, int32, int64 = DType("int8", False), DType("int32", False), DType("int64", False)
globals()["bool"] = DType("bool", False)  # a name that annotations here need as it is

Backward = Callable[[list[float]], None]


class Tensor:
    """Values in row-major order, and how a gradient goes back from them."""

    def __init__(
        self, values: list[float], shape: Sequence[int], back: Backward | None = None
    ) -> None:
        """Hold the values; `back` hands a gradient of them to what they were made of."""
        self.values, self.shape, self.dtype = values, tuple(shape), float32
        self.grad: Tensor | None = None
        self._back = back

    def reshape(self, shape: Sequence[int]) -> Tensor:
        """Return the same values in another shape."""
        assert math.prod(shape) == len(self.values)
        return Tensor(self.values, shape)

    def flatten(self) -> Tensor:
        """Return the same values in one dimension."""
        return self.reshape([len(self.values)])

    def tolist(self) -> list[float]:
        """Return the values."""
        return list(self.values)

    def detach(self) -> Tensor:
        """Return the values without their history."""
        return Tensor(self.values, self.shape)

    clone = detach

    def requires_grad_(self, needed: object) -> Tensor:
        """Keep the gradient that arrives here in `grad`."""
        assert needed
        self._back = self._keep
        return self

    def _keep(self, gradient: list[float]) -> None:
        before = self.grad.values if self.grad else [0.0] * len(gradient)
        summed = [a + b for a, b in zip(before, gradient, strict=True)]
        self.grad = Tensor(summed, self.shape)

    def backward(self) -> None:
        """Send a gradient of one back to the leaves."""
        self._send([1.0])

    def _send(self, gradient: list[float]) -> None:
        if self._back is not None:
            self._back(gradient)

    def sum(self) -> Tensor:
        """Return the sum of all values."""
        size = len(self.values)
        return Tensor([math.fsum(self.values)], [], lambda given: self._send(given * size))

    def __neg__(self) -> Tensor:
        """Return the negative."""
        return self * -1.0

    def __mul__(self, other: Tensor | float) -> Tensor:
        """Return the elementwise product."""
        factors = other.values if isinstance(other, Tensor) else [other] * len(self.values)

        def back(given: list[float]) -> None:
            self._send([g * f for g, f in zip(given, factors, strict=True)])
            if isinstance(other, Tensor):
                other._send([g * v for g, v in zip(given, self.values, strict=True)])

        product = [v * f for v, f in zip(self.values, factors, strict=True)]
        return Tensor(product, self.shape, back)

    def __add__(self, other: Tensor | float) -> Tensor:
        """Return the elementwise sum."""
        added = other.values if isinstance(other, Tensor) else [other] * len(self.values)

        def back(given: list[float]) -> None:
            self._send(given)
            if isinstance(other, Tensor):
                other._send(given)

        return Tensor([a + b for a, b in zip(self.values, added, strict=True)], self.shape, back)

    __radd__ = __add__


def tensor(data: Sequence[float], dtype: DType) -> Tensor:
    """Return the values as a tensor."""
    assert dtype.is_floating_point
    return Tensor([float(value) for value in data], [len(data)])


def nan_to_num(given: Tensor, nan: float) -> Tensor:
    """Return the tensor with another value for NaN."""
    return Tensor([nan if math.isnan(v) else v for v in given.values], given.shape)
