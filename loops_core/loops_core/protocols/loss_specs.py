"""The losses of the protocol: names, inputs, settings and sources, which all backends share.

In formulas: lp the logprob of a target under the trained weights, q the same under the weights that
sampled, A the advantage, w the weight, r = exp(lp - q), and sg stops the gradient. A loss is a sum
over active positions, or over pairs.
"""

from __future__ import annotations

from typing import Final

from loops_core.protocols.losses import LossInput, LossSetting, LossSpec

SKIP_NORMALIZATION: Final = "skip_token_normalization"
"""The setting that leaves gradients as plain sums at the optimizer step."""

_WEIGHTS: Final = LossInput(name="weights", required=False)
_RL_INPUTS: Final = (
    LossInput(name="logprobs", shape="positions"),
    LossInput(name="advantages", shape="positions_or_scalar"),
)
_CLIP: Final = (
    LossSetting(name="clip_low_threshold", default=0.8, minimum=0.0, at_most="clip_high_threshold"),
    LossSetting(name="clip_high_threshold", default=1.2, minimum=0.0),
)


def _rl_loss(name: str, source: str, *settings: LossSetting) -> LossSpec:
    """Return a loss on sampled tokens, which counts positions whose advantage is not 0."""
    return LossSpec(
        name=name,
        source=source,
        inputs=_RL_INPUTS,
        settings=settings,
        active_input="advantages",
        hides_inactive=True,
    )


CROSS_ENTROPY: Final = LossSpec(
    name="cross_entropy",
    source="Deep Learning (Goodfellow, Bengio, Courville, 2016), section 5.5",
    inputs=(_WEIGHTS,),
    settings=(LossSetting(name=SKIP_NORMALIZATION, default=False),),
    multiple_targets=True,
    active_input="weights",
)
"""-w lp, for one target a position or K of them; w may be negative, fractional or zero."""

IMPORTANCE_SAMPLING: Final = _rl_loss(
    "importance_sampling", "Off-Policy Actor-Critic, arXiv:1205.4839"
)
"""-r A."""

PPO: Final = _rl_loss(
    "ppo", "Proximal Policy Optimization Algorithms, arXiv:1707.06347, equation 7", *_CLIP
)
"""-min(r A, clip(r, low, high) A); the thresholds bound the ratio itself."""

CISPO: Final = _rl_loss("cispo", "MiniMax-M1, arXiv:2506.13585, section 3.1", *_CLIP)
"""-sg(clip(r, low, high)) lp A; the thresholds bound the ratio itself."""

DRO: Final = _rl_loss(
    "dro",
    "Offline Regularised Reinforcement Learning for LLM Alignment, arXiv:2405.19107",
    LossSetting(name="beta", default=0.05, minimum=0.0),
)
"""-(lp A - beta (lp - q)^2 / 2)."""

DPPO: Final = _rl_loss(
    "dppo",
    "Rethinking the Trust Region in LLM Reinforcement Learning, arXiv:2602.04879: the "
    "binary total-variation mask, with a penalty on the squared log-ratio",
    LossSetting(name="dppo_mask_high", default=0.2, minimum=0.0),
    LossSetting(name="dppo_mask_low", default=0.2, minimum=0.0),
    LossSetting(name="adv_tau", default=1.0, minimum=0.0),
    LossSetting(name="kl_tau", default=1e-3, minimum=0.0),
)
"""-keep adv_tau A r + kl_tau (lp - q)^2, where d = exp(lp) - exp(q) and keep is false for A > 0
with d > dppo_mask_high and for A < 0 with d < -dppo_mask_low."""

DPO: Final = LossSpec(
    name="dpo",
    source="Direct Preference Optimization, arXiv:2305.18290, equation 7; the conservative "
    "form with label smoothing: arXiv:2403.00409",
    inputs=(_WEIGHTS, LossInput(name="ref_logprobs", shape="positions")),
    settings=(
        LossSetting(name="beta", default=0.1, minimum=0.0),
        LossSetting(name="label_smoothing", default=0.0, minimum=0.0, maximum=0.5),
    ),
    active_input="weights",
    rows_per_term=2,
)
"""-(1 - e) log sigmoid(beta D) - e log sigmoid(-beta D), e the label smoothing: D is the sum of
w (lp - ref_logprobs) over the chosen row minus the same over the rejected row, which follows it."""

PROTOCOL_LOSSES: Final = (CROSS_ENTROPY, IMPORTANCE_SAMPLING, PPO, CISPO, DRO, DPO, DPPO)
"""The specifications of all losses of the protocol."""
