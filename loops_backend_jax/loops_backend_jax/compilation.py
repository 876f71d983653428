"""Compiled programs kept on disk, so that a second process compiles nothing it has seen."""

from __future__ import annotations

from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

SHORTEST_KEPT_S = 0.1
"""Compilations shorter than this are not kept: reading them back takes as long."""


def keep_compiled_programs(directory: Path) -> None:
    """Have JAX keep compiled programs under `directory`, for the whole process.

    Where the process already has such a directory, by `JAX_COMPILATION_CACHE_DIR` or by
    `jax.config`, it stays. JAX keys programs by their text, its own version and the processor.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_KEPT_S)
        compilation_cache.set_cache_dir(str(directory))
        # Once it has compiled something without a directory, JAX looks for none until told to.
        compilation_cache.reset_cache()
