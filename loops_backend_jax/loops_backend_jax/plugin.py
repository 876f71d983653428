"""The hook implementations of the JAX backend, and nothing else."""

from __future__ import annotations

from loops_core.hooks import hookimpl
from loops_core.protocols import Backend, BackendConfig


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend named `jax`.

    Raises:
        UsageError: an option that the backend does not know, or a value it cannot have.
    """
    if name != "jax":
        return None
    from loops_backend_jax.backend import JaxBackend
    from loops_backend_jax.config import make_settings

    return JaxBackend(make_settings(config.options), config.losses)
