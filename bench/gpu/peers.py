#!/usr/bin/env python3
"""What PyTorch reaches on this GPU for the cases of bench/gpu.mjs, in the same run. Prints one JSON object.

    python3 bench/gpu/peers.py [--seconds N] [--skip-compile]
"""
import argparse
import json
import statistics
import sys
import threading
import time
import traceback

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=150)
parser.add_argument("--compile-seconds", type=float, default=90)
parser.add_argument("--skip-compile", action="store_true")
arguments = parser.parse_args()
STARTED = time.monotonic()
results, skipped = [], []
info = {}


def finish(code=0):
    print(json.dumps({"bench": "peers", **info, "results": results, "skipped": skipped}, indent=1), flush=True)
    sys.stdout.flush()
    import os

    os._exit(code)  # a compilation in the background must not hold the process


try:
    import torch
except ImportError as error:
    skipped.append({"what": "everything", "reason": str(error)})
    finish()
if not torch.cuda.is_available():
    skipped.append({"what": "everything", "reason": "PyTorch sees no GPU"})
    finish()

info.update(device=torch.cuda.get_device_name(0), torch=torch.__version__, cuda=torch.version.cuda)
torch.manual_seed(1)
device = torch.device("cuda:0")


def left():
    return arguments.seconds - (time.monotonic() - STARTED)


def graph_us(calls, milliseconds=20, rounds=9):
    """µs of one call: all of them captured in one CUDA graph, as bench/gpu.mjs does."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()

    def launch(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            graph.replay()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    launch(1)
    times = max(1, min(2000, int(2 * milliseconds / max(1e-3, launch(2)))))
    launch(times)
    return statistics.median(1e3 * launch(times) / (times * len(calls)) for _ in range(rounds))


def case(what, make, **more):
    if left() < 5:
        skipped.append({"what": what, "reason": "no time was left"})
        return
    try:
        us = make()
        results.append({"what": what, "us": us, **{k: v(us) for k, v in more.items()}})
    except Exception as error:  # noqa: BLE001: the other cases go on
        skipped.append({"what": what, "reason": f"{type(error).__name__}: {error}"[:400]})
    torch.cuda.empty_cache()


def matmul():
    n = 8192
    x = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    w = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    out = torch.empty(n, n, device=device, dtype=torch.bfloat16)
    return graph_us([lambda: torch.matmul(x, w.t(), out=out)] * 4, 60)


def sdpa(backend=None):
    batch, length, heads, kv_heads, dims = 32, 4096, 32, 8, 128
    q = torch.randn(batch, heads, 1, dims, device=device, dtype=torch.bfloat16)
    k = torch.randn(batch, kv_heads, length, dims, device=device, dtype=torch.bfloat16)
    v = torch.randn_like(k)

    def call():
        torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    if backend is None:
        return graph_us([call] * 8)
    with torch.nn.attention.sdpa_kernel(backend):
        return graph_us([call] * 8)


def flashinfer_decode(tensor_cores):
    """The same with pages of 16 tokens in a random order; its kernels are built on first use."""
    import flashinfer

    info["flashinfer"] = flashinfer.__version__
    batch, length, heads, kv_heads, dims, page = 32, 4096, 32, 8, 128, 16
    pages = batch * length // page
    q = torch.randn(batch, heads, dims, device=device, dtype=torch.bfloat16)
    k = torch.randn(pages, page, kv_heads, dims, device=device, dtype=torch.bfloat16)
    cache = (k, torch.randn_like(k))
    workspace = torch.empty(256 << 20, dtype=torch.uint8, device=device)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=tensor_cores)
    wrapper.plan(
        torch.arange(batch + 1, dtype=torch.int32, device=device) * (length // page),
        torch.randperm(pages, device=device).to(torch.int32),
        torch.full((batch,), page, dtype=torch.int32, device=device),
        heads,
        kv_heads,
        dims,
        page,
        q_data_type=torch.bfloat16,
        kv_data_type=torch.bfloat16,
    )
    out = torch.empty_like(q)
    return graph_us([lambda: wrapper.run(q, cache, out=out)] * 8)


def sampling(rows):
    vocabulary, k, p = 128256, 40, 0.95
    copies = [torch.randn(rows, vocabulary, device=device) * 3 for _ in range(max(2, min(64, 200_000_000 // (4 * rows * vocabulary))))]

    def make(logits):
        def call():
            values, ids = torch.topk(logits / 0.8, k)
            probabilities = torch.softmax(values, -1)
            beyond = probabilities.cumsum(-1) - probabilities > p
            probabilities = probabilities.masked_fill(beyond, 0)
            # multinomial without its host checks
            noise = torch.empty_like(probabilities).exponential_()
            ids.gather(1, (probabilities / noise).argmax(-1, keepdim=True))

        return call

    return graph_us([make(x) for x in copies])


case("bf16 matmul 8192³ (cuBLAS)", matmul, tflops=lambda us: 2 * 8192**3 / us / 1e6)
kv_bytes = 4 * 32 * 4096 * 8 * 128
case("SDPA, contiguous cache, decode 32 x 4096, 32/8 heads of 128", sdpa, gbps=lambda us: kv_bytes / us / 1e3)
for tensor_cores in (False, True):
    case(
        f"FlashInfer, paged decode 32 x 4096, 32/8 heads of 128{', tensor cores' if tensor_cores else ''}",
        lambda: flashinfer_decode(tensor_cores),
        gbps=lambda us: kv_bytes / us / 1e3,
    )
for rows in (1, 64):
    case(f"topk 40 + softmax + top-p + draw, V=128256, {rows} rows", lambda: sampling(rows))


def model_case():
    import torch._dynamo  # noqa: F401
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.cache_utils import StaticCache

    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        rope_theta=500000.0,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)

    def new_cache():
        try:
            return StaticCache(config=config, max_cache_len=1024)
        except TypeError:
            return StaticCache(config=config, max_batch_size=1, max_cache_len=1024, device=device, dtype=torch.bfloat16)

    def decode(step, count, what):
        """ms per token: greedy, each token from the one before, the host does not wait in between."""
        cache = new_cache()
        ids = torch.randint(3, 1000, (1, 480), device=device)
        with torch.no_grad():
            out = model(ids, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            samples = []
            for i in range(count):
                torch.cuda.synchronize()
                start = time.perf_counter()
                if what != "eager":
                    torch.compiler.cudagraph_mark_step_begin()
                logits = step(token.clone(), cache)
                token = logits[:, -1:].argmax(-1)
                torch.cuda.synchronize()
                samples.append((time.perf_counter() - start) * 1e6)
                if left() < 4:
                    break
        settled = samples[min(len(samples) // 2, 24):]
        results.append({"what": f"transformers 1B bf16, {what}, decoded token at context 512", "us": statistics.median(settled),
                        "minUs": min(settled)})

    def step(token, cache):
        return model(token, past_key_values=cache, use_cache=True).logits

    decode(step, 64, "eager")
    if arguments.skip_compile:
        return
    limit = min(arguments.compile_seconds, left())
    if limit < 20:
        skipped.append({"what": "transformers 1B bf16, torch.compile", "reason": "no time was left"})
        return
    done = threading.Event()

    def watch():
        if not done.wait(limit):
            skipped.append({"what": "transformers 1B bf16, torch.compile", "reason": f"not compiled after {limit:.0f} s"})
            finish()

    threading.Thread(target=watch, daemon=True).start()
    decode(torch.compile(step, mode="reduce-overhead", fullgraph=False), 64, "torch.compile(reduce-overhead)")
    done.set()


try:
    if left() > 15:
        model_case()
    else:
        skipped.append({"what": "transformers 1B", "reason": "no time was left"})
except Exception as error:  # noqa: BLE001
    traceback.print_exc()
    skipped.append({"what": "transformers 1B", "reason": f"{type(error).__name__}: {error}"[:400]})
finish()
