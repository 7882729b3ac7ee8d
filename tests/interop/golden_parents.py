"""Cases of tests/golden/parents that transformers computes: small models of every variant that JAM imports.

    python golden_parents.py OUT_FOLDER

writes a folder for each case below. The walking test (`cargo test --release --test golden`) finds them by their
`case.json`. Weights are not the library's own beginnings (0.02 and zeros hide faults): matrices N(0, 1/fan_in),
tables N(0, 0.3), gains 1 + 0.2 N, biases 0.1 N.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

LLAMA = dict(
    vocab_size=120,
    hidden_size=32,
    intermediate_size=72,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=96,
    rms_norm_eps=1e-5,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
)
OPT = dict(
    vocab_size=110,
    hidden_size=30,
    ffn_dim=64,
    num_hidden_layers=2,
    num_attention_heads=6,
    max_position_embeddings=48,
    word_embed_proj_dim=30,
)
PICTURES = {"<image>": 3, **{f"IMGIMG{letter}Z": 8 + i for i, letter in enumerate("ABCDEFGH")}, "IMGIMGBAZ": 20}


def llama(**change):
    return LlamaForCausalLM(LlamaConfig(**{**LLAMA, **change}))


def opt(**change):
    return OPTForCausalLM(OPTConfig(**{**OPT, **change}))


def chameleon(**change):
    settings = {**LLAMA, "vocabulary_map": PICTURES, "attn_implementation": "eager", **change}
    vq = dict(embed_dim=8, num_embeddings=8, latent_channels=8, resolution=8, base_channels=32)
    vq.update(channel_multiplier=[1], num_res_blocks=1, attn_resolutions=[])
    return ChameleonForConditionalGeneration(ChameleonConfig(vq_config=vq, **settings))


def rope(kind, **settings):
    return {"rope_scaling": {"rope_type": kind, **settings}}


CASES = {
    "llama_linear": (lambda: llama(**rope("linear", factor=3.0)), "rotary positions interpolated, factor 3"),
    "llama_dynamic": (
        lambda: llama(**rope("dynamic", factor=4.0)),
        "rotary positions that stretch beyond the context only",
    ),
    "llama_llama3": (
        lambda: llama(
            **rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=24,
            ),
            rope_theta=500.0,
            head_dim=16,
        ),
        "rotary positions scaled as in LLaMA 3.1; heads wider than the width divided among them",
    ),
    "llama_yarn": (
        lambda: llama(
            **rope("yarn", factor=4.0, original_max_position_embeddings=24, beta_fast=4.0, beta_slow=1.0),
            head_dim=16,
            rope_theta=100.0,
        ),
        "rotary positions scaled by YaRN, its own factor on queries and keys",
    ),
    "llama_yarn_told": (
        lambda: llama(
            **rope(
                "yarn",
                factor=2.0,
                original_max_position_embeddings=48,
                attention_factor=0.75,
                truncate=False,
            ),
            head_dim=16,
            rope_theta=100.0,
        ),
        "rotary positions scaled by YaRN, the factor told, the ramp's ends between pairs",
    ),
    "llama_one_kv_head": (
        lambda: llama(num_key_value_heads=1, head_dim=6, tie_word_embeddings=True),
        "one key/value head, heads of 6, tied head",
    ),
    "llama_biases": (
        lambda: llama(attention_bias=True, mlp_bias=True, num_attention_heads=2, num_key_value_heads=2),
        "biases everywhere, as LLaMA's configuration allows",
    ),
    "opt_odd_heads": (
        lambda: opt(),
        "heads of 5 features",
    ),
    "opt_untied": (
        lambda: opt(tie_word_embeddings=False, activation_function="gelu", num_attention_heads=2),
        "a head of its own; GELU",
    ),
    "chameleon_swin": (
        lambda: chameleon(swin_norm=True),
        "swin norm, grouped key/value heads, masked image logits in two runs",
    ),
    "chameleon_linear": (
        lambda: chameleon(rope_scaling={"type": "linear", "factor": 2.0}, num_key_value_heads=4),
        "rotary positions interpolated, named in the old way",
    ),
}
ADAMW = dict(lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, steps=3)


def fill(model, generator):
    """Weights that hide nothing."""
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            if "vqmodel" in name:
                weight.copy_(0.1 * noise)
            elif "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif "embed" in name:
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(noise * weight.shape[1] ** -0.5)


def greedy(model, ids, steps):
    """The likeliest continuation, and the smallest margin by which it is."""
    margin = float("inf")
    for _ in range(steps):
        logits = model(input_ids=ids).logits[:, -1].detach()
        best = logits.topk(2, dim=-1).values
        margin = min(margin, (best[:, 0] - best[:, 1]).min().item())
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids, margin


def parameters(model):
    """Text weights under the names of the file."""
    names = {id(weight): name for name, weight in model.named_parameters() if "vqmodel" not in name}
    return {name: weight for name, weight in model.named_parameters() if names.get(id(weight)) == name}


def write(folder, name, build, what, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build()
    model.set_attn_implementation("eager")
    model.eval()
    fill(model, generator)
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    vocab = model.config.vocab_size
    # Ids above every sign and picture.
    draw = lambda *shape: torch.randint(24, vocab, shape, generator=generator)
    inputs, expected, tables = {}, {}, {}

    ids = draw(2, 17)
    out = model(input_ids=ids, labels=ids)
    inputs["plain.input_ids"] = inputs["plain.labels"] = ids
    expected["plain.logits"], expected["plain.loss"] = out.logits, out.loss.reshape(1)
    model.zero_grad()
    out.loss.backward()
    weights = parameters(model)
    table = {}
    for weight_name, weight in weights.items():
        grad = weight.grad.double()
        table[weight_name] = [grad.norm().item(), grad.sum().item(), grad.abs().max().item()]
        if "layers.1" in weight_name or "layers" not in weight_name:
            expected[f"plain.grad.{weight_name}"] = weight.grad.clone()
    tables["plain.grad_table"] = table

    expected["single.logits"] = model(input_ids=ids[:1, :1]).logits
    inputs["single.input_ids"] = ids[:1, :1]
    ids = draw(2, 13)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    inputs["rightpad.input_ids"], inputs["rightpad.attention_mask"] = ids, mask
    inputs["rightpad.labels"] = labels
    expected["rightpad.logits"], expected["rightpad.loss"] = out.logits, out.loss.reshape(1)

    # Prompts are drawn until every choice is clear.
    margin = 0.0
    while margin < 2e-3:
        ids = draw(2, 9)
        continued, margin = greedy(model, ids, 20)
    inputs["gen.input_ids"], expected["gen.output_ids"] = ids, continued

    ids = inputs["plain.input_ids"]
    optimizer = torch.optim.AdamW(
        weights.values(),
        lr=ADAMW["lr"],
        betas=ADAMW["betas"],
        eps=ADAMW["eps"],
        weight_decay=ADAMW["weight_decay"],
    )
    losses = []
    for _ in range(ADAMW["steps"]):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    expected["plain.adamw.losses"] = torch.tensor(losses)
    expected["plain.adamw.logits_after"] = model(input_ids=ids).logits
    for weight_name, weight in weights.items():
        if "layers.0" in weight_name and weight.dim() > 1:
            expected[f"plain.adamw.param.{weight_name}"] = weight
    tensors = lambda table: {k: v.detach().clone().contiguous() for k, v in table.items()}
    save_file(tensors(inputs), folder / "inputs.safetensors")
    save_file(tensors(expected), folder / "expected.safetensors")
    count = sum(weight.numel() for weight in model.parameters())
    case = dict(
        kind="parent",
        what=f"{type(model).__name__} of Hugging Face transformers, random weights, eager attention, float32: {what}",
        seed=seed,
        versions=dict(torch=torch.__version__, transformers=transformers.__version__),
        parameters=count,
        adamw=ADAMW,
        tolerance={
            "logits": 1e-4,
            "loss": 1e-5,
            "grad": "rel 1e-3 or abs 1e-5",
            "adamw.param": 2e-4,
            "adamw.logits_after": 2e-3,
            "ids": "exact",
        },
        meta=tables,
    )
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed, (name, (build, what)) in enumerate(CASES.items(), 700):
        write(Path(sys.argv[1]), name, build, what, seed)
        print(name)
