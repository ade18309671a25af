"""Writes tiny random checkpoints in the Hugging Face layout, each with golden logits and golden greedy text.

    pip install torch==2.13.0 transformers==5.18.0 safetensors     (the CPU build of torch is enough)
    python make_models.py                 # all variants
    python make_models.py llama31 yarn    # only these

Every variant becomes models/<name>/: config.json, model.safetensors (or two shards and an index) and golden.json.
Goldens are computed in float32 with eager attention from the weights as stored, so a bf16 file has fp32 goldens of its
rounded weights. The seed is the first one whose greedy text has clear winners; running this again writes the same files.
"""
import copy
import json
import math
import os
import re
import shutil
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)
torch.set_grad_enabled(False)
warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT_LENGTHS = (23, 41)
GREEDY_TOKENS = 24
CLEAR_MARGIN = 0.02  # smallest lead of a greedy token over the second best, in logits
CLEAR_EFFECT = 0.02  # smallest change of a logit, in logit standard deviations, that says "this setting matters"
VOCAB = 107  # odd, so a padded head or embedding shows
WINDOW = 8
STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "ministral": "MinistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


# ---- what exists ----------------------------------------------------------------------------------------------------


def base_config(model_type, **overrides):
    """The keys that all variants share. An epsilon of 0.02 is large enough for a wrong one to show."""
    return {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "rms_norm_eps": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "use_cache": True,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
    } | overrides


def published(model_type, theta, scaling=None, storage="float32", **overrides):
    """A config as most repositories carry it: rope_theta, rope_scaling, torch_dtype."""
    rope = {"rope_scaling": scaling} | ({} if theta is None else {"rope_theta": theta})
    return base_config(model_type, **rope, torch_dtype=storage, transformers_version="4.46.0", **overrides)


def saved_by_v5(model_type, rope_parameters, storage="float32", **overrides):
    """A config as transformers 5 saves it: rope_parameters, dtype."""
    return base_config(
        model_type,
        rope_parameters=rope_parameters,
        dtype=storage,
        transformers_version=transformers.__version__,
        **overrides,
    )


def variants():
    """name -> config, number of shards, and settings whose change must move the logits (a patch of the config)."""
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    no_scaling = {"rope_scaling": None}
    return {
        # Llama 2: one KV head per head, no rope_theta in the file, float16 storage.
        "llama2": dict(
            config=published("llama", None, storage="float16", num_key_value_heads=4, pretraining_tp=1),
        ),
        "tinyllama": dict(config=published("llama", 10000.0, attention_bias=False), shards=2),
        "llama3": dict(
            config=published("llama", 500000.0, storage="bfloat16", tie_word_embeddings=True, attention_bias=False),
        ),
        # Several end-of-text ids; wave lengths lie below, within and above the smooth range of the scaling.
        "llama31": dict(
            config=published(
                "llama",
                500000.0,
                {"factor": 8.0, **llama3, "original_max_position_embeddings": 64, "rope_type": "llama3"},
                eos_token_id=[2, 3, 4],
                attention_bias=False,
                mlp_bias=False,
            ),
            matters=[no_scaling],
        ),
        "llama32": dict(
            config=saved_by_v5(
                "llama",
                {
                    "rope_type": "llama3",
                    "rope_theta": 500000.0,
                    "factor": 32.0,
                    **llama3,
                    "original_max_position_embeddings": 48,
                },
                tie_word_embeddings=True,
                head_dim=16,
                pad_token_id=None,
            ),
            matters=[{"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}],
        ),
        "linear-rope": dict(
            config=published("llama", 10000.0, {"type": "linear", "factor": 4.0}, tie_word_embeddings=True),
            matters=[no_scaling],
        ),
        # YaRN as model cards tell users to add it: no betas and no attention factor in the file.
        "yarn": dict(
            config=published(
                "qwen2",
                10000.0,
                {"factor": 4.0, "original_max_position_embeddings": 64, "type": "yarn"},
                num_attention_heads=2,  # head size 32, for a longer ramp
                num_key_value_heads=1,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                use_sliding_window=False,
                sliding_window=256,
                max_window_layers=2,
            ),
            matters=[no_scaling],
        ),
        # YaRN with everything spelled out.
        "yarn-llama": dict(
            config=saved_by_v5(
                "llama",
                {
                    "rope_type": "yarn",
                    "rope_theta": 1000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                    "beta_fast": 4.0,  # the ramp runs from frequency 1 to 5 of 8
                    "beta_slow": 0.2,
                    "attention_factor": 1.3,
                },
                tie_word_embeddings=True,
                head_dim=16,
            ),
            matters=[{"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}],
        ),
        # heads * head_dim = 128 is not the hidden size 64.
        "mistral": dict(
            config=published(
                "mistral", 10000.0, storage="bfloat16", sliding_window=WINDOW, head_dim=32, tie_word_embeddings=False
            ),
            matters=[{"sliding_window": None}, {"sliding_window": WINDOW + 1}, {"sliding_window": WINDOW - 1}],
        ),
        # Only the first of two layers slides.
        "ministral": dict(
            config=saved_by_v5(
                "ministral",
                {"rope_type": "default", "rope_theta": 100000.0},
                storage="bfloat16",
                sliding_window=WINDOW,
                layer_types=["sliding_attention", "full_attention"],
                head_dim=16,
                tie_word_embeddings=True,
            ),
            matters=[
                {"layer_types": ["sliding_attention"] * 2},
                {"layer_types": ["full_attention"] * 2},
                {"sliding_window": WINDOW + 1},
            ],
        ),
        "qwen2": dict(
            config=published(
                "qwen2",
                1000000.0,
                tie_word_embeddings=True,
                use_sliding_window=False,
                sliding_window=512,
                max_window_layers=2,
            ),
        ),
        # The window is in the file and switched off.
        "qwen25-untied": dict(
            config=saved_by_v5(
                "qwen2",
                {"rope_type": "default", "rope_theta": 1000000.0},
                use_sliding_window=False,
                sliding_window=WINDOW,
                max_window_layers=0,
                layer_types=["full_attention", "full_attention"],
            ),
            matters=[
                {"use_sliding_window": True, "layer_types": ["sliding_attention"] * 2},
            ],
        ),
        # heads * head_dim = 96 is not the hidden size 64.
        "qwen3": dict(
            config=published(
                "qwen3",
                1000000.0,
                num_attention_heads=6,
                head_dim=16,
                tie_word_embeddings=True,
                attention_bias=False,
                use_sliding_window=False,
                sliding_window=None,
                max_window_layers=2,
            ),
        ),
        "smollm2": dict(
            config=published(
                "llama",
                100000.0,
                storage="bfloat16",
                hidden_size=96,
                num_attention_heads=3,
                num_key_value_heads=1,
                tie_word_embeddings=True,
                rope_interleaved=False,
            ),
        ),
        # Layer 1 has no rope; the interval beside it would say otherwise.
        "smollm3": dict(
            config=published(
                "smollm3",
                5000000.0,
                storage="bfloat16",
                num_hidden_layers=3,
                pad_token_id=0,
                no_rope_layers=[1, 0, 1],
                no_rope_layer_interval=4,
                layer_types=["full_attention"] * 3,
                tie_word_embeddings=True,
                attention_bias=False,
                mlp_bias=False,
                use_sliding_window=False,
                sliding_window=None,
            ),
            matters=[{"no_rope_layers": [1, 1, 1]}, {"no_rope_layers": [1, 1, 0]}],
        ),
    }


# ---- models ---------------------------------------------------------------------------------------------------------


def model_of(config):
    """A model built from a config given as a dict, by way of a config.json, as any reader would meet it."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(os.path.join(folder, "config.json"), config)
        loaded = AutoConfig.from_pretrained(folder)
    return AutoModelForCausalLM.from_config(loaded, attn_implementation="eager", dtype=torch.float32).eval()


def randomise(model, generator, storage=torch.float32):
    """Gives every parameter values that no default has, rounded to the storage type.

    The gains make attention scores and both branches of a block about as large as the residual stream.
    """
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1 + 0.3 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            value = 0.25 * noise  # small, or a tied head echoes its input
        elif parameter.dim() == 1:
            value = 0.3 * noise
        else:
            value = 1.5 * noise / math.sqrt(parameter.shape[1])
        parameter.copy_(value.to(storage).float())
        assert parameter.std() > 0, name
    model.tie_weights()


def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, ids, forbidden, enough):
    """The greedy continuation and the smallest lead in it; None when a lead is not `enough` or a token is forbidden."""
    text, margins = list(ids), []
    for _ in range(GREEDY_TOKENS):
        best = logits_of(model, text)[-1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        if margins[-1] < enough or best.indices[0].item() in forbidden:
            return None
        text.append(best.indices[0].item())
    return text[len(ids) :], min(margins)


def prompts_for(generator, vocab, forbidden):
    allowed = torch.tensor([i for i in range(vocab) if i not in forbidden])
    return [allowed[torch.randint(len(allowed), (n,), generator=generator)].tolist() for n in PROMPT_LENGTHS]


def end_ids(config):
    end = config["eos_token_id"]
    return set(end if isinstance(end, list) else [end]) | {0, config["bos_token_id"]}


def fair_witness(model, prompts, texts):
    """Whether the text is more than an echo or a loop, and whether earlier tokens reach the last logits."""
    rows = [(logits_of(model, ids), torch.tensor(ids)) for ids in prompts]
    echo = sum((logits.argmax(-1) == ids).sum().item() for logits, ids in rows) / sum(map(len, prompts))
    longest = max(prompts, key=len)
    other = [*longest[:-6], longest[0] if longest[0] != longest[-6] else longest[1], *longest[-5:]]
    moved = (logits_of(model, other)[-1] - logits_of(model, longest)[-1]).abs().max() / rows[-1][0].std()
    return echo < 0.3 and moved > 0.05 and all(len(set(text)) >= 8 for text in texts)


def find_seed(model, vocab, forbidden, prepare, enough=CLEAR_MARGIN):
    """The first seed that is a good witness: (seed, prompts, greedy results). `prepare` fills the model from a generator."""
    for seed in range(2000):
        generator = torch.Generator().manual_seed(seed)
        prepare(generator)
        prompts = prompts_for(generator, vocab, forbidden)
        found = []
        for ids in prompts:
            found.append(greedy(model, ids, forbidden, enough))
            if found[-1] is None:
                break
        if found[-1] is not None and fair_witness(model, prompts, [text for text, _ in found]):
            return seed, prompts, found
    raise RuntimeError("no seed gives clear greedy tokens")


# ---- goldens --------------------------------------------------------------------------------------------------------


def rounded(values):
    return [float(f"{v:.7g}") for v in values]


def golden_of(model, prompts, found, **about):
    """The content of golden.json."""
    entries = []
    for ids, (text, margin) in zip(prompts, found):
        logits = logits_of(model, ids)
        assert logits.isfinite().all()
        positions = [0, len(ids) // 2, len(ids) - 3, len(ids) - 2, len(ids) - 1]
        entries.append(
            {
                "promptIds": ids,
                "logits": [{"position": p, "values": rounded(logits[p].tolist())} for p in positions],
                "greedyIds": text,
                "minMargin": round(margin, 6),
            }
        )
    return {
        **about,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vocabSize": logits.shape[-1],
        "logitStd": round(logits.std().item(), 4),
        "minMargin": min(entry["minMargin"] for entry in entries),
        "prompts": entries,
    }


def write_json(path, value):
    """Indented, but with each array of numbers on one line."""
    text = json.dumps(value, indent=2)
    text = re.sub(r"\[\s+([-+\d.,e\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    with open(path, "w") as file:
        file.write(text + "\n")


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def stored_tensors(model, config):
    """The tensors a published checkpoint holds: no head when it is tied."""
    storage = STORAGE[config.get("torch_dtype") or config["dtype"]]
    tensors = {k: v.to(storage).contiguous().clone() for k, v in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del tensors["lm_head.weight"]
    return tensors


def write_tensors(folder, tensors, shards):
    if shards == 1:
        return save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    names, weight_map = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[len(names) * i // shards : len(names) * (i + 1) // shards]
        save_file({n: tensors[n] for n in part}, os.path.join(folder, file), metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(os.path.join(folder, "model.safetensors.index.json"), index)


# ---- checks ---------------------------------------------------------------------------------------------------------


def check_reload(folder, model, prompts):
    """What lies on disk gives the same logits, bit for bit."""
    again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    for ids in prompts:
        assert (logits_of(again, ids) - logits_of(model, ids)).abs().max() == 0, f"{folder}: reloading changed the logits"


def other_dialect(config):
    """The same model, said in the other of the two config dialects."""
    config = copy.deepcopy(config)
    if "rope_parameters" in config:
        rope = config.pop("rope_parameters")
        theta = rope.pop("rope_theta")
        return config | {"rope_theta": theta, "rope_scaling": None if rope == {"rope_type": "default"} else rope}
    scaling = config.pop("rope_scaling") or {}
    kind = scaling.pop("type", None) or scaling.pop("rope_type", "default")
    return config | {"rope_parameters": {"rope_type": kind, "rope_theta": config.pop("rope_theta", 10000.0), **scaling}}


def changed_logits(model, config, prompts):
    """The largest change of a logit, in standard deviations, when the same weights run under another config."""
    other = model_of(config)
    other.load_state_dict(model.state_dict())
    pairs = [(logits_of(other, ids), logits_of(model, ids)) for ids in prompts]
    return max(((a - b).abs().max() / b.std()).item() for a, b in pairs)


def rope_patches(config):
    """One patch per number that rope depends on, with that number doubled."""
    rope = config.get("rope_parameters") or other_dialect(config)["rope_parameters"]
    return [{"rope_parameters": rope | {key: 2 * rope[key]}} for key in rope if key != "rope_type"]


def check_settings(name, model, config, prompts, matters):
    """Both dialects mean the same, and each setting a variant is about does change the logits."""
    assert changed_logits(model, other_dialect(config), prompts) == 0, f"{name}: the dialects differ"
    plain = config if "rope_parameters" in config else other_dialect(config)
    effects = {str(patch): changed_logits(model, config | patch, prompts) for patch in matters}
    for patch in [*rope_patches(config), {"rms_norm_eps": 2 * config["rms_norm_eps"]}]:
        effects[str(patch)] = changed_logits(model, plain | patch, prompts)
    silent = {patch: effect for patch, effect in effects.items() if effect < CLEAR_EFFECT}
    assert not silent, f"{name}: settings without effect: {silent}"
    return min(effects.values())


# ---- all of it ------------------------------------------------------------------------------------------------------


def make(name, config, shards=1, matters=()):
    folder = os.path.join(HERE, "models", name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    storage = config.get("torch_dtype") or config["dtype"]
    model, forbidden = model_of(config), end_ids(config)
    prepare = lambda generator: randomise(model, generator, STORAGE[storage])
    seed, prompts, found = find_seed(model, config["vocab_size"], forbidden, prepare)
    write_json(os.path.join(folder, "config.json"), config)
    write_tensors(folder, stored_tensors(model, config), shards)
    check_reload(folder, model, prompts)
    effect = check_settings(name, model, config, prompts, list(matters))
    golden = golden_of(
        model, prompts, found, family=name, generator="test/golden/make_models.py", seed=seed, storage=storage
    )
    write_json(os.path.join(folder, "golden.json"), golden)
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    print(
        f"{name:14} {storage:9} seed {seed:4}  {size / 1000:6.1f} kB  minMargin {golden['minMargin']:.4f}"
        f"  logit std {golden['logitStd']:.2f}  least effect {effect:.3f}",
        flush=True,
    )


def main(names):
    table = variants()
    for name in names or table:
        make(name, **table[name])


if __name__ == "__main__":
    main(sys.argv[1:])
