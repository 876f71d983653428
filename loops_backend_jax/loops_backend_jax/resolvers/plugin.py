"""The hook implementations: names of base models, and the resolvers that answer to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loops_core.hooks import hookimpl


@hookimpl(trylast=True)
def loops_resolve_model(base_model: str) -> Path | None:
    """Return the directory of a built-in name, a local directory or a model of the hub.

    Comes after the resolvers of other plugins. A built-in name wins over a directory of that name,
    which is still reached as `./name`.
    """
    from loops_backend_jax.resolvers import builtin, cache, hub, local, smollm2

    cache_root = cache.make_cache_root()
    return (
        builtin.resolve_builtin(base_model, cache_root)
        or smollm2.resolve_smollm2(base_model, cache_root)
        or local.resolve_local(base_model)
        or hub.resolve_hub(base_model)
    )


@hookimpl
def loops_model_names() -> Sequence[str]:
    """Return the names that stand for one model each."""
    from loops_backend_jax.resolvers import builtin, smollm2

    return (builtin.NAME, smollm2.NAME)
