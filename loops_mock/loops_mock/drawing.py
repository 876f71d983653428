"""From logits to a token: temperature, top_k, top_p, and one number from the token's key."""

from __future__ import annotations

import numpy as np

from loops_core.protocols import SampleRequest
from loops_mock.exact import Floats, draw_one, exp


def choose_token(logits: Floats, odds: Floats, request: SampleRequest, key: str) -> int:
    """Return a token for one row of logits.

    First the temperature divides, then the `top_k` most likely tokens are kept, then of those the
    fewest whose probabilities, renormalised among them, sum to `top_p`. Of equally likely tokens
    the lower ids are kept, and the lowest is chosen at temperature 0. The token is found by
    inverting the cumulated probabilities at a number that is a function of `key`.

    Args:
        logits: [vocab].
        odds: exp(logits - the largest), [vocab]: what probabilities at temperature 1 are
            proportional to.
        request: whose settings count.
        key: of the token.
    """
    if request.temperature == 0.0:
        return int(logits.argmax())
    weights = _make_weights(logits, odds, request)
    cumulated: Floats = np.add.accumulate(weights)
    at = int(cumulated.searchsorted(draw_one(key) * float(cumulated[-1]), side="right"))
    # Rounding may lift the mark to the very end, behind which there is no token.
    return at if at < len(weights) else int(np.flatnonzero(weights)[-1])


def _make_weights(logits: Floats, odds: Floats, request: SampleRequest) -> Floats:
    """Return what each token's chance is proportional to; 0 for tokens that are cut away."""
    weights = odds
    if request.temperature != 1.0:
        with np.errstate(over="ignore"):  # far below the top at a small temperature: -inf, weight 0
            weights = exp((logits - float(logits.max())) / request.temperature)
    top_k = len(weights) if request.top_k is None else request.top_k
    if top_k >= len(weights) and request.top_p == 1.0:
        return weights
    kept = np.argsort(-weights, kind="stable")[:top_k]
    if request.top_p < 1.0:
        cumulated: Floats = np.add.accumulate(weights[kept])
        goal = request.top_p * float(cumulated[-1])
        kept = kept[: int(cumulated.searchsorted(goal, side="left")) + 1]
    cut = np.zeros_like(weights)
    cut[kept] = weights[kept]
    return cut
