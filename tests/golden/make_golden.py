"""Make golden arrays for one model with PyTorch and transformers: float32, CPU, eager attention.

    python tests/golden/make_golden.py FAMILY OUT_DIR        llama3, llama_bias or qwen3
    python tests/golden/make_golden.py MODEL_DIR OUT_DIR     a real model: arrays only

ORIGIN.md beside this script says what every array means. PyTorch and transformers are imported
inside the functions: the test run imports this file and has no need of them.
"""

# pyright: basic
# (torch and transformers describe few of their types)
from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

RANK, ALPHA, STEPS, CLIP = 8, 16.0, 3, 1.0
ADAM = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-12, "weight_decay": 0.01}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STORED = ("q_proj", "v_proj", "down_proj")
FAMILIES = ("llama3", "llama_bias", "qwen3")
LENGTHS = (37, 12, 64)
SIDES = ("lora_A", "lora_B")
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
Arrays = dict[str, np.ndarray]


def generator(*names: str) -> np.random.Generator:
    """Return the generator that belongs to these names."""
    return np.random.default_rng([0, *(zlib.crc32(name.encode()) for name in names)])


def make_rows(vocab_size: int) -> list[Arrays]:
    """Return tokens, targets and weights of every row."""
    draw, rows = generator("data"), []
    for length in LENGTHS:
        text = draw.integers(3, vocab_size, length + 1)
        targets = text[1:].copy()
        targets[: length // 3] = -100
        weights = np.round(draw.uniform(-0.5, 1.5, length), 3).astype(np.float32)
        rows.append({"tokens": text[:-1], "targets": targets, "weights": weights})
    return rows


def make_model(name: str) -> Any:
    """Return a tiny random model of a family, or the model in a directory."""
    import torch
    import transformers

    options = {"attn_implementation": "eager"}
    if name == "llama3":
        config = transformers.LlamaConfig(
            **SIZES, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE
        )
    elif name == "llama_bias":
        rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
        biases: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
        config = transformers.LlamaConfig(
            **SIZES, **biases, tie_word_embeddings=True, rope_parameters=rope
        )
    elif name == "qwen3":
        config = transformers.Qwen3Config(**SIZES, head_dim=24, tie_word_embeddings=True)
    else:
        load = transformers.AutoModelForCausalLM.from_pretrained
        return load(name, dtype=torch.float32, **options).eval()
    model = transformers.AutoModelForCausalLM.from_config(config, **options).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = generator(parameter_name, "base").standard_normal(tuple(parameter.shape))
            values = torch.tensor(noise, dtype=torch.float32)
            if parameter.ndim == 1:
                parameter.copy_(("norm" in parameter_name) + 0.1 * values)
            else:
                wide = "embed" in parameter_name
                parameter.copy_(values * (0.5 if wide else parameter.shape[-1] ** -0.5))
    return model


def add_adapter(model: Any) -> dict[str, dict[str, Any]]:
    """Put the adapter beside every linear layer of the blocks; return its factors by module."""
    import torch

    factors: dict[str, dict[str, Any]] = {}
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] not in LINEARS:
            continue
        a = generator(name, "lora_A").standard_normal((RANK, module.in_features))
        b = generator(name, "lora_B").standard_normal((module.out_features, RANK)) * 0.02
        pair = {"lora_A": a / np.sqrt(module.in_features), "lora_B": b}
        own = {k: torch.tensor(v, dtype=torch.float32, requires_grad=True) for k, v in pair.items()}
        factors[name] = own

        def add(_module: Any, inputs: Any, output: Any, own: dict[str, Any] = own) -> Any:
            return output + ALPHA / RANK * (inputs[0] @ own["lora_A"].T @ own["lora_B"].T)

        module.register_forward_hook(add)
    return dict(sorted(factors.items()))


def target_logprobs(model: Any, row: Arrays) -> Any:
    """Return the log-probability of each target of a row; that of token 0 where it is -100."""
    import torch

    logits = model(input_ids=torch.tensor(row["tokens"])[None]).logits[0]
    targets = torch.tensor(row["targets"]).clamp(min=0)
    return torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]


def loss_sum(logprobs: Any, row: Arrays, *, weighted: bool) -> Any:
    """Return the weighted sum of -logprob over the active positions."""
    import torch

    active = torch.tensor(row["targets"] != -100)
    weights = torch.tensor(row["weights"]) if weighted else torch.ones_like(logprobs)
    return torch.where(active, -logprobs * weights, 0.0).sum()


def norms(arrays: dict[str, dict[str, Any]]) -> np.ndarray:
    """Return the norm of both sides of every module."""
    return np.array([[float(pair[side].norm()) for side in SIDES] for pair in arrays.values()])


def train(model: Any, rows: list[Arrays], factors: dict[str, dict[str, Any]]) -> Arrays:
    """Return the arrays of three steps."""
    import torch

    found: Arrays = {}
    last = model.config.num_hidden_layers - 1
    stored = [
        name
        for name in factors
        if name.split(".")[2] in ("0", str(last)) and name.rsplit(".", 1)[-1] in STORED
    ]
    flat = [pair[side] for pair in factors.values() for side in SIDES]
    start = {n: {s: x.detach().clone() for s, x in pair.items()} for n, pair in factors.items()}
    active = sum(int((row["targets"] != -100).sum()) for row in rows)
    optimizer = torch.optim.AdamW(flat, **ADAM)
    losses, grad_norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        losses.append(0.0)
        for i, row in enumerate(rows):
            logprobs = target_logprobs(model, row)
            loss = loss_sum(logprobs, row, weighted=i == 1)
            loss.backward()
            losses[-1] += float(loss.detach())
            if step == 0:
                found[f"row{i}_lora_logprobs"] = logprobs.detach().numpy()
        if step == 0:
            gradients = {n: {s: x.grad for s, x in pair.items()} for n, pair in factors.items()}
            found["grad_sum_norms"] = norms(gradients)
            for n in stored:
                for s in SIDES:
                    found[f"grad_sum/{n}/{s}"] = gradients[n][s].numpy().copy()
        for x in flat:
            x.grad /= active
        grad_norms.append(float(torch.nn.utils.clip_grad_norm_(flat, CLIP)))
        optimizer.step()
    after = {n: {s: x.detach() for s, x in pair.items()} for n, pair in factors.items()}
    moved = {n: {s: after[n][s] - start[n][s] for s in SIDES} for n in after}
    found |= {f"after/{n}/{s}": after[n][s].numpy() for n in stored for s in SIDES}
    return found | {
        "update_norms": norms(moved),
        "loss_sums": np.array(losses),
        "grad_norms": np.array(grad_norms),
        "active": np.array(active),
        "module_names": np.array(list(factors)),
    }


def main(name: str, out: Path) -> None:
    """Write `golden.npz` and `golden.json`, and the model itself if it is a tiny one."""
    import torch
    import transformers

    out.mkdir(parents=True, exist_ok=True)
    model = make_model(name)
    is_tiny = name in FAMILIES
    if is_tiny:
        model.save_pretrained(out)
    model.requires_grad_(requires_grad=False)
    rows = make_rows(model.config.vocab_size)
    arrays = {f"row{i}_{key}": array for i, row in enumerate(rows) for key, array in row.items()}
    for i, row in enumerate(rows):
        arrays[f"row{i}_base_logprobs"] = target_logprobs(model, row).numpy()
    arrays |= train(model, rows, add_adapter(model))
    with torch.no_grad():
        for i, row in enumerate(rows):
            arrays[f"row{i}_after_logprobs"] = target_logprobs(model, row).numpy()
    np.savez_compressed(out / "golden.npz", **arrays)  # type: ignore[arg-type]
    meta = {"seed": 0, "family": name if is_tiny else None, "rank": RANK, "alpha": ALPHA}
    meta |= {"adam": ADAM, "clip": CLIP, "steps": STEPS}
    meta |= {"torch": torch.__version__, "transformers": transformers.__version__}
    (out / "golden.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
