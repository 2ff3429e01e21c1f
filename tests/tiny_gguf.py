"""A llama of random numbers, written on the spot: a real model file with no weights of anybody.

Its tokens are the 256 bytes, so it reads and writes any text, and what it says freely is noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LAYERS, WIDTH, HEADS, HIDDEN, CONTEXT = 2, 64, 4, 128, 2048

SPECIAL = (("<unk>", 2), ("<s>", 3), ("</s>", 3))
"""Tokens beside the bytes, with their types: unknown and control."""

BYTE = 6
"""Type of a token that stands for one byte."""

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def write(path: Path, *, seed: int = 0) -> Path:
    """Write the model to `path` in less than a second: about 0.5 MB, the same bytes for the same seed."""
    from gguf import GGUFWriter

    rng = np.random.default_rng(seed)
    tokens = [*SPECIAL, *((f"<0x{byte:02X}>", BYTE) for byte in range(256))]
    writer = GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    for name, shape in _shapes(len(tokens)).items():
        values = np.ones(shape) if name.endswith("norm.weight") else rng.normal(size=shape) * 0.2
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of a llama, [outputs, inputs]."""
    square, widen, narrow = (WIDTH, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN)
    block = {
        "attn_norm": (WIDTH,),
        "attn_q": square,
        "attn_k": square,
        "attn_v": square,
        "attn_output": square,
    }
    block |= {"ffn_norm": (WIDTH,), "ffn_gate": widen, "ffn_up": widen, "ffn_down": narrow}
    shapes = {f"blk.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in block.items()}
    ends = {"token_embd.weight": (vocabulary, WIDTH), "output.weight": (vocabulary, WIDTH)}
    return {**ends, "output_norm.weight": (WIDTH,), **shapes}
