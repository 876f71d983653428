"""What TensorData promises to users of torch and JAX; importing either is what makes these slow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from loops_core.types.tensor import TensorData
from loops_mock.strategies import tensors

pytestmark = pytest.mark.slow

DTYPES = ("float32", "int64", "float16", "bfloat16", "float64", "int32", "int8", "uint8", "bool")


@given(tensors(infinities=True))
def test_torch_gives_back_what_it_got(tensor: TensorData) -> None:
    pytest.importorskip("torch", reason="torch is an optional package")
    assert TensorData.from_torch(tensor.to_torch()) == tensor


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_tensors_keep_dtype_and_shape(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional package")
    tensor = TensorData(data=torch.ones((2, 3), dtype=getattr(torch, dtype)).t())
    assert (tensor.dtype, tensor.shape) == (dtype, [3, 2])
    assert tensor.to_torch().dtype == getattr(torch, dtype)
    assert tuple(tensor.to_torch().shape) == (3, 2)


def test_torch_tensors_are_detached_and_not_copied() -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional package")
    parameter = torch.nn.Parameter(torch.ones(3))
    tensor = TensorData.from_torch(parameter)
    assert np.shares_memory(tensor.data, parameter.detach().numpy())


def test_to_torch_shares_no_memory() -> None:
    pytest.importorskip("torch", reason="torch is an optional package")
    tensor = TensorData(data=[1.0], dtype="float32", shape=[1])
    tensor.to_torch()[0] = 5.0
    assert tensor.tolist() == [1.0]


def test_sparse_torch_tensors_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional package")
    with pytest.raises(ValidationError, match="dense"):
        TensorData(data=torch.eye(2).to_sparse())


@pytest.mark.parametrize(
    "dtype", ["float32", "int32", "float16", "bfloat16", "int8", "uint8", "bool"]
)
def test_jax_gives_back_what_it_got(dtype: str) -> None:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is an optional package")
    array = jnp.ones((2, 3), dtype=dtype).T
    tensor = TensorData.from_jax(array)
    assert (tensor.dtype, tensor.shape) == (dtype, [3, 2])
    assert TensorData(data=array) == tensor
    assert (tensor.to_jax() == array).all()
    assert tensor.to_jax().dtype == array.dtype


def test_integers_that_jax_would_wrap_are_refused() -> None:
    pytest.importorskip("jax", reason="JAX is an optional package")
    assert TensorData(data=[2**31 - 1], dtype="int64", shape=[1]).to_jax().tolist() == [2**31 - 1]
    with pytest.raises(ValueError, match="outside int32"):
        TensorData(data=[2**31], dtype="int64", shape=[1]).to_jax()
