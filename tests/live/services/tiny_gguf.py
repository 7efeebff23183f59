"""Writes a tiny language model with random weights as GGUF: `tiny_gguf.py OUT`.

Always the same bytes. It speaks nonsense in byte tokens within milliseconds, which is what protocol tests want: with a
`format` its answers are valid JSON full of control characters and foreign scripts, and it often runs into `length`.
Layout: GGUF version 3 (ggml's docs/gguf.md), written by hand so that nothing needs to be installed.
"""

import array
import random
import struct
import sys

BLOCKS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, CONTEXT = 2, 64, 128, 4, 2, 8192
KV_WIDTH = WIDTH // HEADS * KV_HEADS
TOKENS = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
UNKNOWN, CONTROL, BYTE = 2, 3, 6  # token types of llama's vocabulary
ALIGNMENT = 32

# GGUF's value types
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, item):
    if kind == STRING:
        return string(item)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], item)


def entry(key, kind, item):
    if isinstance(item, list):
        head = struct.pack("<IIQ", ARRAY, kind, len(item))
        return string(key) + head + b"".join(value(kind, one) for one in item)
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def metadata():
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "tiny-random"),
        entry("general.file_type", U32, 0),
        entry("llama.block_count", U32, BLOCKS),
        entry("llama.context_length", U32, CONTEXT),
        entry("llama.embedding_length", U32, WIDTH),
        entry("llama.feed_forward_length", U32, FEED_FORWARD),
        entry("llama.attention.head_count", U32, HEADS),
        entry("llama.attention.head_count_kv", U32, KV_HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("llama.rope.dimension_count", U32, WIDTH // HEADS),
        entry("llama.vocab_size", U32, len(TOKENS)),
        entry("tokenizer.ggml.model", STRING, "llama"),
        entry("tokenizer.ggml.tokens", STRING, TOKENS),
        entry("tokenizer.ggml.scores", F32, [0.0] * len(TOKENS)),
        entry("tokenizer.ggml.token_type", I32, types),
        entry("tokenizer.ggml.unknown_token_id", U32, 0),
        entry("tokenizer.ggml.bos_token_id", U32, 1),
        entry("tokenizer.ggml.eos_token_id", U32, 2),
        entry("tokenizer.ggml.add_bos_token", BOOL, True),
    ]


def shapes():
    """Name and shape (columns first) of every tensor; norms have one dimension."""
    yield "token_embd.weight", (WIDTH, len(TOKENS))
    for block in range(BLOCKS):
        name = f"blk.{block}."
        yield name + "attn_norm.weight", (WIDTH,)
        yield name + "attn_q.weight", (WIDTH, WIDTH)
        yield name + "attn_k.weight", (WIDTH, KV_WIDTH)
        yield name + "attn_v.weight", (WIDTH, KV_WIDTH)
        yield name + "attn_output.weight", (WIDTH, WIDTH)
        yield name + "ffn_norm.weight", (WIDTH,)
        yield name + "ffn_gate.weight", (WIDTH, FEED_FORWARD)
        yield name + "ffn_up.weight", (WIDTH, FEED_FORWARD)
        yield name + "ffn_down.weight", (FEED_FORWARD, WIDTH)
    yield "output_norm.weight", (WIDTH,)
    yield "output.weight", (WIDTH, len(TOKENS))


def padding(length):
    return b"\0" * (-length % ALIGNMENT)


def main(out):
    rng = random.Random(20261123)
    infos, data = [], bytearray()
    for name, shape in shapes():
        infos.append(
            string(name)
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", 0, len(data))  # type 0: F32; offset into the data
        )
        if len(shape) == 1:
            weights = array.array("f", [1.0] * shape[0])
        else:
            weights = array.array("f", (rng.gauss(0, 0.5) for _ in range(shape[0] * shape[1])))
        if sys.byteorder == "big":
            weights.byteswap()
        data += weights.tobytes()
        data += padding(len(data))
    pairs = metadata()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    with open(out, "wb") as file:
        file.write(head + padding(len(head)) + data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tiny_gguf.py OUT")
    main(sys.argv[1])
