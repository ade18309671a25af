"""Writes blocks.json: random blocks of every quantised GGUF format that eyrie packs, and what the gguf package says they mean.

    pip install gguf==0.19.0 numpy
    python make_blocks.py

Base64 of the bytes of a few blocks and of their float32 values, by format. Scales are plausible halves; everything else is random.
"""
import base64
import json
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

HERE = os.path.dirname(os.path.abspath(__file__))
# Where halves lie (d, and a minimum), or the byte of an exponent.
HALVES = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q2_K: [80, 82], Type.Q3_K: [108],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [],
}


def text(array):
    return base64.b64encode(array.tobytes()).decode()


def main():
    random = np.random.default_rng(20261127)
    out = {}
    for kind, halves in HALVES.items():
        block, size = GGML_QUANT_SIZES[kind]
        count = 512 // block
        data = random.integers(0, 256, (count, size), dtype=np.uint8)
        for at in halves:
            data[:, at : at + 2] = random.normal(0, 0.02, (count, 1)).astype(np.float16).view(np.uint8)
        if kind == Type.MXFP4:
            data[:, 0] = random.integers(110, 130, count)
        values = dequantize(data, kind).astype(np.float32)
        out[kind.name.lower()] = {"bytes": text(data), "values": text(values)}
    with open(os.path.join(HERE, "blocks.json"), "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")


main()
