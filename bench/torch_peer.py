"""PyTorch's speed on the workloads of `jishi bench`.

    python bench/torch_peer.py WORKLOAD [--mode MODE] [--threads N]

Workloads: gpt-s, gpt-m, resnet18, mlp (training steps), decode (tokens of gpt-m, one by one), gemm (matrix products).
A mode is words joined by "-": `f32` or `bf16` (autocast), and any of `fused` (fused AdamW), `compile` (torch.compile),
`last` (channels last, resnet18) and `pure` (bf16 weights, decode).

Weights and data come from `uniform`, an integer hash, so that another program can start from the same numbers and must
print the same first losses. Prints one JSON line.
"""

import argparse
import json
import math
import resource
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


BASE_MEMORY = peak_memory()


# Numbers that any language can make


def uniform(n: int, seed: int) -> np.ndarray:
    """`n` numbers in [0, 1): a hash of the index and the seed, modulo 2³²."""
    low = np.uint64((1 << 32) - 1)
    h = np.arange(n, dtype=np.uint64) * np.uint64(2654435761)
    h = (h + np.uint64(seed) * np.uint64(40503) * np.uint64(65537) + np.uint64(12345)) & low
    h ^= h >> np.uint64(15)
    h = (h * np.uint64(2246822519)) & low
    h ^= h >> np.uint64(13)
    return h.astype(np.float64) / 2**32


def fill(parameter: torch.Tensor, seed: int, bound: float) -> None:
    """Uniform values in ±`bound`."""
    values = ((uniform(parameter.numel(), seed) - 0.5) * 2 * bound).astype(np.float32)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values).view_as(parameter))


# GPT: pre-norm, exact GELU, learned positions, untied output layer

SIZES = {
    "gpt-s": dict(layers=4, width=128, heads=4, context=128, batch=16, vocabulary=1024),
    "gpt-m": dict(layers=6, width=384, heads=6, context=256, batch=8, vocabulary=4096),
}


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)

    def attend(self, x, cache, position):
        batch, length, width = x.shape

        def split(t):
            return t.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = (split(t) for t in self.qkv(x).split(width, 2))
        causal = True
        if cache is not None:
            end = position + length
            cache[0][:, :, position:end] = k
            cache[1][:, :, position:end] = v
            k, v = cache[0][:, :, :end], cache[1][:, :, :end]
            causal = length > 1
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x, cache=None, position=0):
        x = x + self.attend(self.ln1(x), cache, position)
        return x + self.out(F.gelu(self.fc(self.ln2(x))))


class Gpt(nn.Module):
    def __init__(self, size: dict):
        super().__init__()
        width = size["width"]
        self.wte = nn.Embedding(size["vocabulary"], width)
        self.wpe = nn.Embedding(size["context"], width)
        self.blocks = nn.ModuleList(Block(width, size["heads"]) for _ in range(size["layers"]))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, size["vocabulary"], bias=False)
        layers = [layer for b in self.blocks for layer in (b.qkv, b.proj, b.fc, b.out)]
        for layer in layers:
            nn.init.zeros_(layer.bias)
        for seed, layer in enumerate([self.wte, self.wpe, *layers, self.head], 1):
            fill(layer.weight, seed, 0.02 * math.sqrt(3))

    def forward(self, tokens, caches=None, position=0):
        x = self.wte(tokens) + self.wpe.weight[position : position + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], position)
        return self.head(self.norm(x))


# ResNet-18 for images of 32 × 32 (He et al. 2016): a 3 × 3 stem, no pooling before the blocks


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        skip = x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))
        return F.relu(y + skip)


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.blocks = nn.ModuleList()
        width = 64
        for outputs, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
            self.blocks += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
            width = outputs
        self.fc = nn.Linear(512, 10)
        convolutions = [self.conv]
        for b in self.blocks:
            convolutions += [b.conv1, b.conv2] + ([b.shortcut] if b.shortcut is not None else [])
        for seed, conv in enumerate(convolutions, 1):
            fill(conv.weight, seed, math.sqrt(3) * math.sqrt(2 / conv.weight[0].numel()))
        fill(self.fc.weight, len(convolutions) + 1, 0.04)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


# Measuring


def times_of(step, warm_up: int, measured: int) -> tuple[list[float], list[float]]:
    """Seconds of each step after the warm-up, and what every step returned."""
    results = [step() for _ in range(warm_up)]
    seconds = []
    for _ in range(measured):
        start = time.perf_counter()
        results.append(step())
        seconds.append(time.perf_counter() - start)
    return seconds, results


def autocast(mode: set[str]):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in mode)


def compiled(model, mode: set[str], **options):
    return torch.compile(model, **options) if "compile" in mode else model


def trained(model, inputs, targets, optimizer, mode: set[str], warm_up: int, measured: int) -> dict:
    """Training steps with a cross-entropy, always on the same batch."""
    forward = compiled(model, mode)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with autocast(mode):
            loss = F.cross_entropy(forward(inputs).flatten(0, -2).float(), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    seconds, losses = times_of(step, warm_up, measured)
    return {
        "milliseconds": statistics.median(seconds) * 1e3,
        "spread": [min(seconds) * 1e3, max(seconds) * 1e3],
        "losses": losses[:20],
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def gpt(name: str, mode: set[str]) -> dict:
    size = SIZES[name]
    batch, context = size["batch"], size["context"]
    model = Gpt(size)
    tokens = np.floor(uniform(batch * (context + 1), 999) * size["vocabulary"]).astype(np.int64)
    tokens = torch.from_numpy(tokens.reshape(batch, context + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused="fused" in mode
    )
    figures = trained(model, inputs, targets, optimizer, mode, 5, 30 if name == "gpt-s" else 15)
    figures["tokens_per_second"] = batch * context / figures["milliseconds"] * 1e3
    return figures


def resnet18(_: str, mode: set[str]) -> dict:
    model = ResNet18()
    images = ((uniform(32 * 3 * 32 * 32, 777) - 0.5) * 2).astype(np.float32)
    images = torch.from_numpy(images).view(32, 3, 32, 32)
    if "last" in mode:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused="fused" in mode)
    figures = trained(model, images, torch.arange(32) % 10, optimizer, mode, 3, 17)
    figures["images_per_second"] = 32 / figures["milliseconds"] * 1e3
    return figures


def mlp(_: str, mode: set[str]) -> dict:
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    for seed, layer in enumerate((m for m in model if isinstance(m, nn.Linear)), 1):
        fill(layer.weight, seed, 0.2)
        nn.init.zeros_(layer.bias)
    inputs = torch.from_numpy((uniform(256, 5) - 0.5).astype(np.float32)).view(32, 8)
    targets = inputs.sum(1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused="fused" in mode)
    forward = compiled(model, mode)

    def steps(n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad(set_to_none=True)
            F.mse_loss(forward(inputs), targets).backward()
            optimizer.step()

    steps(500)
    seconds, _ = times_of(lambda: steps(3000), 0, 5)
    return {
        "milliseconds": statistics.median(seconds) / 3,
        "spread": [min(seconds) / 3, max(seconds) / 3],
        "steps_per_second": 3000 / statistics.median(seconds),
    }


def decode(_: str, mode: set[str]) -> dict:
    """The likeliest token each time, with a key–value cache, after a prompt of 16 tokens."""
    size = SIZES["gpt-m"]
    context, heads, depth = size["context"], size["heads"], size["width"] // size["heads"]
    model = Gpt(size).eval()
    if "pure" in mode:
        model = model.to(torch.bfloat16)
    dtype = torch.bfloat16 if mode & {"bf16", "pure"} else torch.float32
    forward = compiled(model, mode, dynamic=True)

    def generate() -> list[int]:
        def empty():
            return torch.zeros(1, heads, context, depth, dtype=dtype)

        caches = [(empty(), empty()) for _ in range(size["layers"])]
        tokens, position, found = torch.arange(16).view(1, 16), 0, []
        for _ in range(context - 16):
            logits = forward(tokens, caches, position)
            position += tokens.shape[1]
            tokens = logits[:, -1].argmax(-1, keepdim=True)
            found.append(tokens.item())
        return found

    with torch.inference_mode(), autocast(mode - {"bf16"} if "pure" in mode else mode):
        seconds, found = times_of(generate, 1, 5)
    middle = statistics.median(seconds)
    return {
        "milliseconds": middle / (context - 16) * 1e3,
        "spread": [s / (context - 16) * 1e3 for s in (min(seconds), max(seconds))],
        "tokens_per_second": (context - 16) / middle,
        "first_tokens": found[-1][:6],
    }


def gemm(_: str, mode: set[str]) -> dict:
    dtype = torch.bfloat16 if "bf16" in mode else torch.float32
    products = []
    for m, k, n in [
        (2048, 2048, 2048),
        (2048, 384, 1536),
        (384, 2048, 1536),
        (2048, 1536, 384),
        (1, 384, 1536),
        (1, 384, 4096),
    ]:
        a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        work = 2 * m * k * n
        times = int(min(max(2e10 / work, 3), 2000))

        def run():
            for _ in range(times):
                a @ b

        seconds, _ = times_of(run, 1, 7)
        middle = statistics.median(seconds) / times
        products.append({"shape": [m, k, n], "gflops": work / middle / 1e9, "microseconds": middle * 1e6})
    return {"products": products}


WORKLOADS = {"gpt-s": gpt, "gpt-m": gpt, "resnet18": resnet18, "mlp": mlp, "decode": decode, "gemm": gemm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--mode", default="f32")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mode = set(args.mode.split("-"))
    unknown = mode - {"f32", "bf16", "fused", "compile", "last", "pure"}
    if unknown:
        parser.error(f"unknown in the mode: {', '.join(sorted(unknown))}")
    figures = WORKLOADS[args.workload](args.workload, mode)
    print(
        json.dumps(
            {
                "name": args.workload,
                "mode": args.mode,
                "precision": "bf16" if mode & {"bf16", "pure"} else "f32",
                **figures,
                "peak_memory": peak_memory(),
                "base_memory": BASE_MEMORY,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
