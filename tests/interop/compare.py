"""Opens folders that `jamc export` wrote in transformers, and compares its logits with jamc's.

    python compare.py JAMC FOLDER...

JAMC is the built program. Every folder must hold a causal language model. Fails when a parameter is missing or
left over, or when a logit is off by more than 1e-4 (float32 weights). Where there is a tokenizer, its marks must have
the ids that the configuration gives them, and the model must go on with a text of it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def compare(jamc, folder):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], f"{folder}: {kind} {report[kind]}"
    length = min(24, model.config.max_position_embeddings)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (3, length), generator=generator)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    with tempfile.TemporaryDirectory() as scratch:
        tokens, out = Path(scratch, "tokens.safetensors"), Path(scratch, "logits.safetensors")
        save_file({"input_ids": ids}, tokens)
        command = [jamc, "forward", folder, "--tokens", tokens, "-o", out, "--device", "cpu"]
        subprocess.run([str(part) for part in command], check=True)
        found = load_file(out)["logits"]
    off = (found - expected).abs().max().item()
    print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters, logits within {off:.1e}")
    assert off <= 1e-4, folder
    if Path(folder, "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for mark in ("bos", "eos", "pad"):
            told, known = (getattr(it, f"{mark}_token_id") for it in (model.config, tokenizer))
            assert told == known or known in (told if isinstance(told, list) else []), f"{folder}: {mark} {told} {known}"
        text = tokenizer("a red house", return_tensors="pt")
        model.generate(**text, max_new_tokens=1, do_sample=False)
        print(f"{folder}: {len(tokenizer)} tokens, a text of {text.input_ids.shape[1]} is gone on with")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[2:]:
        compare(sys.argv[1], name)
