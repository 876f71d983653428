"""The hook implementations of the JAX backend, and nothing else."""

from __future__ import annotations

from loops_core.hooks import hookimpl
from loops_core.protocols import Backend, BackendConfig


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend named `jax`; its compiled programs are kept in the cache directory.

    Raises:
        UsageError: an option that the backend does not know, or a value it cannot have.
    """
    if name != "jax":
        return None
    from loops_backend_jax.backend import JaxBackend
    from loops_backend_jax.compilation import keep_compiled_programs
    from loops_backend_jax.config import make_settings
    from loops_backend_jax.resolvers.cache import make_cache_root

    keep_compiled_programs(make_cache_root() / "compiled")
    return JaxBackend(make_settings(config.options), config.losses)
