"""Character-level GPT on tiny Shakespeare in PyTorch: the peer of the recipe `shakespeare-char`.

The setting is the one that nanoGPT's README gives for a CPU: 4 blocks, 4 heads, 128 values, context 64, batch 12,
2,000 steps, AdamW (0.9, 0.99) with weight decay 0.1 on matrices, 100 steps of warm-up to 1e-3, cosine to 1e-4, gradient
clipped at 1, a tenth of the text for validation. `python bench/shakespeare_peer.py PATH [--compile]` prints JSON.
"""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS = 4, 4, 128, 64, 12, 2000
RATE, LAST_RATE, WARMUP = 1e-3, 1e-4, 100


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (p.view(b, t, HEADS, c // HEADS).transpose(1, 2) for p in self.qkv(self.norm_1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * LAYERS) if residual else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, x, y):
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        logits = F.linear(self.norm(self.blocks(h)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def rate(step):
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / (STEPS - WARMUP)
    return LAST_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - LAST_RATE)


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(c) for c in text])
    cut = int(0.9 * len(ids))
    train, held = ids[:cut], ids[cut:]
    torch.manual_seed(1337)
    torch.set_num_threads(2)
    model = Gpt(len(letters))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    run = torch.compile(model) if "--compile" in sys.argv else model
    windows = torch.arange(CONTEXT)

    @torch.no_grad()
    def validation():
        starts = torch.arange(0, len(held) - CONTEXT - 1, CONTEXT)
        losses = [
            model(held[s[:, None] + windows], held[s[:, None] + windows + 1]).item() * len(s)
            for s in starts.split(256)
        ]
        return sum(losses) / len(starts)

    started, curve = time.perf_counter(), {}
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        at = torch.randint(len(train) - CONTEXT - 1, (BATCH,))[:, None] + windows
        loss = run(train[at], train[at + 1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 500 == 0:
            curve[step + 1] = validation()
    seconds = time.perf_counter() - started
    print(json.dumps({"validation_loss": curve, "seconds": seconds, "torch": torch.__version__}))


main()
