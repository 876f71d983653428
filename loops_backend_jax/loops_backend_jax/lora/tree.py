"""Trees of arrays: dicts of dicts, by which parameters and adapters are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import jax
from jaxtyping import Array, Float, PyTree

Path = tuple[str, ...]
"""Keys into a tree, from the top."""

if TYPE_CHECKING:
    ArrayTree: TypeAlias = dict[str, "ArrayTree | jax.Array"]
    """Arrays by name, in dicts in dicts."""
else:  # jaxtyping checks it in test runs
    ArrayTree = PyTree[Float[Array, "..."]]


def get_array(tree: ArrayTree, path: Path) -> jax.Array:
    """Return the array at `path`; KeyError without one."""
    found = get_branch(tree, path[:-1])[path[-1]]
    if isinstance(found, dict):
        raise KeyError("/".join(path))
    return found


def get_branch(tree: ArrayTree, path: Path) -> ArrayTree:
    """Return the tree below `path`; KeyError without one."""
    for key in path:
        found = tree[key]
        if not isinstance(found, dict):
            raise KeyError("/".join(path))
        tree = found
    return tree


def put_array(tree: ArrayTree, path: Path, array: jax.Array) -> None:
    """Put an array at `path`, making the dicts on the way."""
    for key in path[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            raise KeyError("/".join(path))
        tree = below
    tree[path[-1]] = array


def iter_arrays(tree: ArrayTree, path: Path = ()) -> Iterator[tuple[Path, jax.Array]]:
    """Yield path and array of every leaf, keys in sorted order."""
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            yield from iter_arrays(value, (*path, key))
        else:
            yield (*path, key), value


def copy_tree(tree: ArrayTree) -> ArrayTree:
    """Return a tree with dicts of its own and the same arrays."""
    return {k: copy_tree(v) if isinstance(v, dict) else v for k, v in tree.items()}
