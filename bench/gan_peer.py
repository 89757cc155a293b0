"""DCGAN on MNIST in PyTorch: the peer of the recipe `gan-mnist`, with its architecture, settings and steps.

`python bench/gan_peer.py FOLDER-OF-MNIST OUT [--width 32] [--latent 64] [--epochs 10] [--rate 5e-4] [--ema 0.995]` trains on
57,000 images, writes 10,000 pictures into OUT and prints JSON. `jishi evaluate gan-mnist --samples OUT` measures them.
"""

import argparse
import copy
import json
import pathlib
import struct
import time
import zlib

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--latent", type=int, default=64)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--rate", type=float, default=5e-4)
parser.add_argument("--ema", type=float, default=0.995)
parser.add_argument("--samples", type=int, default=10_000)
parser.add_argument("--steps", type=int)
BATCH = 64


def start(module):
    """Radford et al. 2016, §4; norms begin as the identity."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def generator(latent, width):
    def up(inputs, outputs):
        return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
    layers = [nn.ConvTranspose2d(latent, 2 * width, 7, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()]
    layers += up(2 * width, width) + [nn.BatchNorm2d(width), nn.ReLU()] + up(width, 1) + [nn.Tanh()]
    return nn.Sequential(*layers)


def critic(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 7), nn.Flatten(0),
    )


def png(pixels):
    height, width = pixels.shape
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in pixels)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    args = parser.parse_args()
    torch.manual_seed(42)
    torch.set_num_threads(2)
    raw = (args.data / "train-images-idx3-ubyte").read_bytes()[16:]
    images = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, 1, 28, 28).float() / 127.5 - 1.0
    images = images[torch.randperm(len(images))[:57_000]]
    g, d = generator(args.latent, args.width).apply(start), critic(args.width).apply(start)
    average = copy.deepcopy(g)
    optimizers = [torch.optim.Adam(m.parameters(), args.rate, (0.5, 0.999)) for m in (d, g)]
    step, began = 0, time.time()
    for _ in range(args.epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            real, noise = images[rows], torch.randn(len(rows), args.latent, 1, 1)
            made = g(noise)
            loss = F.softplus(-d(real)).mean() + F.softplus(d(made.detach())).mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            told = F.softplus(-d(made)).mean()
            optimizers[1].zero_grad()
            told.backward()
            optimizers[1].step()
            with torch.no_grad():
                decay = min(args.ema, (1 + step) / (10 + step))
                for a, b in zip(average.parameters(), g.parameters()):
                    a.lerp_(b, 1 - decay)
                for a, b in zip(average.buffers(), g.buffers()):
                    a.copy_(b)
            step += 1
            if step == args.steps:
                break
        if step == args.steps:
            break
    seconds = time.time() - began
    average.eval()
    args.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for first in range(0, args.samples, 500):
            made = average(torch.randn(min(500, args.samples - first), args.latent, 1, 1))
            made = ((made[:, 0] + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
            for i, pixels in enumerate(made):
                (args.out / f"{first + i:06}.png").write_bytes(png(pixels))
    print(json.dumps({"steps": step, "seconds": round(seconds, 1), "steps_per_second": round(step / seconds, 1),
                      "critic_loss": round(loss.item(), 4), "generator_loss": round(told.item(), 4)}))


main()
