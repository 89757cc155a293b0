"""PyTorch's speed on the workload of `jishi bench mlp`: an 8-64-64-1 MLP, batch 32, Adam, MSE.

Prints one JSON line: the median steps a second of eager and of fused Adam, over five repetitions each.
"""

import json
import statistics
import sys
import time

import torch
from torch import nn


def steps_per_second(fused: bool, steps: int = 3000, repetitions: int = 5) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    inputs = torch.rand(1024, 8) - 0.5
    targets = inputs.sum(1, keepdim=True)
    batches = [(inputs[i : i + 32], targets[i : i + 32]) for i in range(0, 1024, 32)]

    def step(i: int) -> None:
        x, y = batches[i % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    for i in range(500):
        step(i)
    speeds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        for i in range(steps):
            step(i)
        speeds.append(steps / (time.perf_counter() - start))
    return statistics.median(speeds)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    figures = {"eager": steps_per_second(False), "fused": steps_per_second(True)}
    print(json.dumps({"torch": torch.__version__, "steps_per_second": figures}))
