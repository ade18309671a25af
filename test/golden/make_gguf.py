"""Writes tiny random GGUF files, each with golden logits and golden greedy text.

    pip install torch==2.13.0 transformers==5.18.0 safetensors tokenizers gguf==0.19.0 accelerate
    python make_gguf.py                      # all files
    python make_gguf.py llama-q4_0           # only these

Every variant becomes gguf/<name>.gguf and gguf/<name>.golden.json. Keys, tensor names, the order of q and k rows, the rope
divisors and the types of the tensors are those of llama.cpp's converter (norms and biases stay float32). Goldens are what
transformers computes in float32 from the dequantised weights, so they do not depend on how another engine rounds.
"""
import os
import shutil
import sys
import tempfile
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import TokenType
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from make_models import (
    CLEAR_EFFECT,
    HERE,
    changed_logits,
    find_seed,
    golden_of,
    logits_of,
    model_of,
    other_dialect,
    published,
    randomise,
    rope_patches,
    write_json,
)

FILE_TYPES = {
    Type.F32: gguf.LlamaFileType.ALL_F32,
    Type.F16: gguf.LlamaFileType.MOSTLY_F16,
    Type.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    Type.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Type.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
    Type.Q4_1: gguf.LlamaFileType.MOSTLY_Q4_1,
    Type.Q4_K: gguf.LlamaFileType.MOSTLY_Q4_K_M,
}
WIDE = 32  # a block of the quantised types; every K here is a multiple of it
SUPER = 256  # a block of the K types
# Where the halves of a block lie that scale it, for types that the gguf package cannot write (MXFP4: an exponent in byte 0).
HALVES = {
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
    Type.MXFP4: [],
}
# Of the file that mixes them all, by the end of a tensor's name: the first that fits.
MIXED = {
    "0.attn_k.weight": Type.MXFP4,
    "0.attn_v.weight": Type.Q6_K,
    "0.attn_output.weight": Type.Q5_1,
    "0.ffn_up.weight": Type.Q5_K,
    "0.ffn_down.weight": Type.Q6_K,
    "1.attn_q.weight": Type.Q3_K,
    "1.attn_k.weight": Type.Q5_0,
    "1.attn_v.weight": Type.IQ4_XS,
    "1.attn_output.weight": Type.IQ4_NL,
    "1.ffn_gate.weight": Type.Q2_K,
    "1.ffn_up.weight": Type.Q3_K,
    "1.ffn_down.weight": Type.IQ4_XS,
    "output.weight": Type.Q6_K,
}


# ---- what exists ----------------------------------------------------------------------------------------------------


def llama_config(vocab, **overrides):
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    return published("llama", 500000.0, scaling, head_dim=16, vocab_size=vocab.size, **overrides)


def qwen2_config(vocab, **overrides):
    return published("qwen2", 1000000.0, use_sliding_window=False, vocab_size=vocab.size, **overrides)


def qwen3_config(vocab, **overrides):
    """heads * head_dim = 96 is not the hidden size 64."""
    return published("qwen3", 1000000.0, num_attention_heads=6, head_dim=16, vocab_size=vocab.size, **overrides)


def variants():
    """name -> config, vocabulary, type of the matrices, type of an untied head."""
    llama, qwen = LlamaVocab(), QwenVocab()
    tied, wide = dict(tie_word_embeddings=True), dict(intermediate_size=3 * WIDE)
    return {
        "llama-f32": (llama_config(llama, **tied), llama, Type.F32),
        "llama-f16": (llama_config(llama, **tied), llama, Type.F16),
        "llama-q8_0": (llama_config(llama, **tied, **wide), llama, Type.Q8_0),
        "llama-q4_0": (llama_config(llama, **wide), llama, Type.Q4_0, Type.Q8_0),
        "llama-kquants": (llama_config(llama, hidden_size=SUPER, intermediate_size=SUPER), llama, Type.Q4_K),
        "qwen2-f32": (qwen2_config(qwen, **tied), qwen, Type.F32),
        "qwen2-bf16": (qwen2_config(qwen, **tied), qwen, Type.BF16),
        "qwen2-q4_1": (qwen2_config(qwen, **tied, **wide), qwen, Type.Q4_1),
        "qwen3-f32": (qwen3_config(qwen, **tied), qwen, Type.F32),
        "qwen3-q8_0": (qwen3_config(qwen, **wide), qwen, Type.Q8_0),
        "qwen3-q4_0": (qwen3_config(qwen, **tied, **wide), qwen, Type.Q4_0),
    }


# ---- vocabularies ---------------------------------------------------------------------------------------------------


def byte_characters():
    """The 256 characters that GPT-2's byte-level BPE writes bytes with, in the order of its vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


MERGES = "Ġ t,h e,Ġt he,i n,e r,l l,he ll,hell o,Ġ w,1 2,Ġ Ġ,Ċ Ċ".split(",")
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SAMPLES = [
    "hello the winter",
    "The  quick brown fox,\n\njumps over 12 345 dogs!",
    "it's   naïve: 你好 🦅\t{x: 1}",
    " trailing space ",
]


class Vocab:
    """256 byte tokens, a few merges, the special tokens of a family, and unused rows at the end."""

    def __init__(self):
        plain = byte_characters() + [m.replace(" ", "") for m in MERGES]
        unused = [f"[PAD{len(plain) + len(self.special) + i}]" for i in range(self.padding)]
        self.tokens = plain + list(self.special) + unused
        self.types = [TokenType.NORMAL] * len(plain) + list(self.special.values()) + [TokenType.UNUSED] * len(unused)
        self.size = len(self.tokens)
        self.forbidden = {i for i, t in enumerate(self.types) if t in (TokenType.CONTROL, TokenType.UNUSED)}

    def id(self, token):
        return self.tokens.index(token)

    def write(self, writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(self.id(self.bos))
        writer.add_eos_token_id(self.id(self.eos))
        if self.pad:
            writer.add_pad_token_id(self.id(self.pad))
        writer.add_add_bos_token(self.add_bos)
        writer.add_chat_template(self.template)

    def encoded_samples(self):
        """Token ids of a few texts, without a beginning-of-text token."""
        ids = {token: i for i, token in enumerate(self.tokens)}
        bpe = tokenizer_models.BPE(vocab=ids, merges=[tuple(m.split(" ")) for m in MERGES])
        tokenizer = Tokenizer(bpe)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(self.pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        encoded = [{"text": text, "ids": tokenizer.encode(text).ids} for text in SAMPLES]
        assert all(tokenizer.decode(sample["ids"]) == sample["text"] for sample in encoded)
        return encoded


class LlamaVocab(Vocab):
    pre = "llama-bpe"
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + WORDS + r"|\p{N}{1,3}" + REST
    special = dict.fromkeys(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        TokenType.CONTROL,
    )
    padding = 0
    bos, eos, pad, add_bos = "<|begin_of_text|>", "<|eot_id|>", None, True
    template = (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )


class QwenVocab(Vocab):
    pre = "qwen2"
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + WORDS + r"|\p{N}" + REST
    special = {
        **dict.fromkeys(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], TokenType.CONTROL),
        **dict.fromkeys(["<think>", "</think>"], TokenType.USER_DEFINED),
    }
    padding = 2
    bos, eos, pad, add_bos = "<|endoftext|>", "<|im_end|>", "<|endoftext|>", False
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


# ---- tensors --------------------------------------------------------------------------------------------------------


def interleave_rows(weight, heads):
    """From rotating rows i and i + D/2 of a head to rotating rows 2i and 2i + 1."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def separate_rows(weight, heads):
    """The inverse of interleave_rows."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def interleaved_heads(name, config):
    """The number of heads of a tensor whose rows the converter reorders, or None."""
    if config["model_type"] != "llama":
        return None
    if ".q_proj." in name:
        return config["num_attention_heads"]
    return config["num_key_value_heads"] if ".k_proj." in name else None


def gguf_name(name, config):
    names = gguf.get_tensor_name_map(architecture(config), config["num_hidden_layers"])
    return names.get_name(name, try_suffixes=(".weight", ".bias"))


def architecture(config):
    return {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}[
        config["model_type"]
    ]


def model_names(model, config):
    """The tensors of a checkpoint by their Hugging Face names; a tied head is not among them."""
    return [n for n in model.state_dict() if not (config["tie_word_embeddings"] and n == "lm_head.weight")]


def rope_divisors(config):
    """By how much llama3 scaling divides each frequency: not the short waves, the long ones fully, in between smoothly."""
    rope = config["rope_scaling"]
    wave_lengths = 2 * np.pi / inverse_frequencies(config | {"rope_scaling": None})
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (rope["original_max_position_embeddings"] / wave_lengths - low) / (high - low)
    smooth = smooth.clip(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def inverse_frequencies(config):
    loaded = model_of(config).config
    rope = loaded.rope_parameters
    if rope["rope_type"] == "default":
        return rope["rope_theta"] ** -(np.arange(0, loaded.head_dim, 2) / loaded.head_dim)
    return ROPE_INIT_FUNCTIONS[rope["rope_type"]](loaded, "cpu")[0].double().numpy()


def quantised(values, as_type):
    """Blocks of a type. Where the gguf package only reads it: random ones, with the spread that the values have."""
    try:
        return gguf.quants.quantize(values, as_type)
    except NotImplementedError:
        pass
    block, size = gguf.GGML_QUANT_SIZES[as_type]
    random = np.random.default_rng(zlib.crc32(values.tobytes()))
    data = random.integers(0, 256, (values.size // block, size), dtype=np.uint8)
    spread = 1.0
    for _ in range(3):  # halves round, so the second and third time are nearer
        for at in HALVES[as_type]:
            data[:, at : at + 2] = np.full((len(data), 1), spread * 0.01, np.float16).view(np.uint8)
        if not HALVES[as_type]:
            data[:, 0] = 127 + round(np.log2(spread * 0.3))
        found = gguf.quants.dequantize(data, as_type).std()
        spread *= values.std() / found
    return data.reshape(values.shape[0], -1)


def packed_tensors(model, config, kind, head_kind):
    """GGUF name -> (bytes as stored, type)."""
    state, packed = model.state_dict(), {}
    for name in model_names(model, config):
        values, heads = state[name].numpy(), interleaved_heads(name, config)
        if heads:
            values = interleave_rows(values, heads)
        as_type = Type.F32 if values.ndim == 1 else head_kind if name == "lm_head.weight" else kind
        stored = gguf_name(name, config)
        if kind == Type.Q4_K and values.ndim > 1:
            as_type = next((t for end, t in MIXED.items() if stored.endswith(end)), kind)
        packed[stored] = quantised(np.ascontiguousarray(values), as_type), as_type
    return packed


def unpack_into(model, config, packed):
    """Fills a model with the dequantised values of GGUF tensors."""
    state = model.state_dict()
    for name in model_names(model, config):
        values, heads = gguf.quants.dequantize(*packed[gguf_name(name, config)]), interleaved_heads(name, config)
        if heads:
            values = separate_rows(values, heads)
        state[name].copy_(torch.from_numpy(np.array(values)).reshape(state[name].shape))
    model.tie_weights()


# ---- files ----------------------------------------------------------------------------------------------------------


def write_parameters(writer, config, kind):
    """The keys llama.cpp's converter writes; only for arch llama it adds vocab_size and rope.dimension_count."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    writer.add_file_type(FILE_TYPES[kind])
    if config["model_type"] == "llama":
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(config["head_dim"])


def write_file(path, name, config, vocab, kind, packed):
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture(config)])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"golden {name}")
    writer.add_size_label("tiny")
    write_parameters(writer, config, kind)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocab.write(writer)
    if config["model_type"] == "llama":
        writer.add_tensor("rope_freqs.weight", rope_divisors(config))
    for tensor, (data, as_type) in packed.items():
        writer.add_tensor(tensor, data, raw_dtype=as_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_file(path):
    return {t.name: (np.array(t.data), t.tensor_type) for t in gguf.GGUFReader(path).tensors}


# ---- checks ---------------------------------------------------------------------------------------------------------


def check_reload(path, model, config, prompts):
    """What lies on disk, dequantised, gives the same logits, bit for bit."""
    again = model_of(config)
    unpack_into(again, config, read_file(path))
    for ids in prompts:
        assert (logits_of(again, ids) - logits_of(model, ids)).abs().max() == 0, f"{path}: reloading changed the logits"


def check_divisors(path, config):
    """Dividing the plain frequencies by the stored divisors gives what transformers rotates by."""
    divisors, _ = read_file(path)["rope_freqs.weight"]
    plain, scaled = inverse_frequencies(config | {"rope_scaling": None}), inverse_frequencies(config)
    assert np.allclose(plain / divisors, scaled, rtol=1e-6, atol=0) and divisors.min() == 1 and divisors.max() == 8
    assert ((divisors > 1.01) & (divisors < 7.99)).any(), "no frequency lies in the smooth range"


def check_other_reader(path, model, config, prompts):
    """transformers' own GGUF reader agrees, but for what it takes no notice of.

    It skips rope_freqs, so llama3 scaling is left out of the comparison; for qwen3 it skips key_length, so it gets our config.
    """
    expected = model_of(config | {"rope_scaling": None})
    expected.load_state_dict(model.state_dict())
    given = {"config": expected.config} if config["model_type"] == "qwen3" else {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        other = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=os.path.basename(path), attn_implementation="eager", dtype=torch.float32, **given
        ).eval()
    for ids in prompts:
        difference = (logits_of(other, ids) - logits_of(expected, ids)).abs().max().item()
        assert difference < 1e-4, f"{path}: another reader differs by {difference}"


def check_settings(name, model, config, prompts):
    """Each number that rope depends on, and the epsilon, does change the logits."""
    plain = other_dialect(config)
    patches = [*rope_patches(config), {"rms_norm_eps": 2 * config["rms_norm_eps"]}]
    effects = [changed_logits(model, plain | patch, prompts) for patch in patches]
    assert min(effects) > CLEAR_EFFECT, f"{name}: a setting has no effect: {effects}"


# ---- all of it ------------------------------------------------------------------------------------------------------


def make(name, config, vocab, kind, head_kind=None):
    config |= {"bos_token_id": vocab.id(vocab.bos), "eos_token_id": vocab.id(vocab.eos)}
    head_kind = head_kind or kind
    model = model_of(config)

    def prepare(generator):
        randomise(model, generator)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        unpack_into(model, config, packed_tensors(model, config, kind, head_kind))
        if kind == Type.F32:
            assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())

    seed, prompts, found = find_seed(model, vocab.size, vocab.forbidden, prepare)
    path = os.path.join(HERE, "gguf", f"{name}.gguf")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    randomise(model, torch.Generator().manual_seed(seed))
    packed = packed_tensors(model, config, kind, head_kind)
    unpack_into(model, config, packed)
    write_file(path, name, config, vocab, kind, packed)
    check_reload(path, model, config, prompts)
    check_other_reader(path, model, config, prompts)
    check_settings(name, model, config, prompts)
    if config["model_type"] == "llama":
        check_divisors(path, config)
    golden = golden_of(
        model, prompts, found, family=name, generator="test/golden/make_gguf.py", seed=seed, storage=kind.name
    )
    golden |= {"gguf": gguf_version(), "texts": vocab.encoded_samples()}
    write_json(path.replace(".gguf", ".golden.json"), golden)
    print(
        f"{name:11} seed {seed:4}  {os.path.getsize(path) / 1000:6.1f} kB  minMargin {golden['minMargin']:.4f}"
        f"  logit std {golden['logitStd']:.2f}",
        flush=True,
    )


def gguf_version():
    from importlib.metadata import version

    return version("gguf")


def main(names):
    table = variants()
    for name in names or table:
        make(name, *table[name])


if __name__ == "__main__":
    main(sys.argv[1:])
