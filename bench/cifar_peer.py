"""The recipe `cifar10` in PyTorch: its network, augmentation, optimiser and batch, to compare the time of a step.

`python bench/cifar_peer.py FOLDER [--steps 20] [--precision f32|bf16] [--make]` reads CIFAR-10's binary files (`data_batch_1.bin` to
`data_batch_5.bin`, `test_batch.bin`) and prints JSON. With `--make` it first writes such files with coloured noise, for the times alone. Pictures are
augmented as whole batches of tensors, which is faster than one picture after the other.
"""

import argparse
import copy
import json
import pathlib
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch", type=int, default=512)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
parser.add_argument("--make", action="store_true")


def make(folder):
    """Six files of 10,000 pictures of noise, each class around a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(0)
    colours = torch.randint(60, 196, (10, 3, 1), generator=random)
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        labels = torch.randint(0, 10, (10_000,), generator=random)
        noise = torch.randint(-60, 60, (10_000, 3, 1024), generator=random)
        pixels = (colours[labels] + noise).to(torch.uint8).view(10_000, 3072)
        (folder / name).write_bytes(torch.cat([labels.to(torch.uint8)[:, None], pixels], 1).numpy().tobytes())


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.short = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.short(x))


def network(width):
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    stages = [Block(max(width, width << i >> 1), width << i, 1 if i == 0 else 2) for i in range(4)]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width << 3, 10))


def augmented(images):
    """Random crop of 32 after 4 reflected pixels on each side, flip, and an erased square of a quarter of the side."""
    count = len(images)
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    rows = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    columns = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    flipped = torch.rand(count) < 0.5
    columns[flipped] = columns[flipped].flip(1)
    images = padded[torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None],
                    rows[:, None, :, None], columns[:, None, None, :]]
    at = torch.randint(0, 25, (2, count, 1))
    inside = [(torch.arange(32) >= a) & (torch.arange(32) < a + 8) for a in at]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def main():
    args = parser.parse_args()
    if args.make:
        make(args.data)
    torch.manual_seed(42)
    torch.set_num_threads(2)
    raw = b"".join((args.data / f"data_batch_{i}.bin").read_bytes() for i in range(1, 6))
    raw = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, 3073)
    labels, images = raw[:, 0].long(), raw[:, 1:].view(-1, 3, 32, 32).float() / 255.0
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images = (images - mean) / std
    model = network(args.width).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    times, losses = [], []
    order = torch.randperm(len(images)).split(args.batch)
    for step in range(args.steps):
        began = time.time()
        rows = order[step % len(order)]
        batch = augmented(images[rows]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            loss = F.cross_entropy(model(batch), labels[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for a, b in zip(average.parameters(), model.parameters()):
                a.lerp_(b, 0.01)
        times.append(time.time() - began)
        losses.append(loss.item())
    step = statistics.median(times[2:])
    print(json.dumps({"precision": args.precision, "seconds_per_step": round(step, 3),
                      "images_per_second": round(args.batch / step, 1), "last_loss": round(losses[-1], 4)}))


main()
