"""Runs Jishi and its peers in turn on this machine and prints medians and ratios.

    python bench/compare.py --jishi target/release/jishi [--runs 5] [--keras-python PY] [--torch-python PY] [--csv BIG.csv]

Every pair runs A B A B …, so that a machine whose speed drifts slows both. Peers whose Python is not given are left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
AMES = HERE.parent / "crates" / "jishi-data" / "data"


def whole_process(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, peak memory in MB, and standard output."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output


def in_turn(name: str, ours, peer, runs: int) -> None:
    """`ours` and `peer` make a command for a fresh folder; a warm-up of each is not counted."""
    figures = {"jishi": [], "peer": []}
    for run in range(runs + 1):
        for who, make in (("jishi", ours), ("peer", peer)):
            with tempfile.TemporaryDirectory() as folder:
                seconds, megabytes, output = whole_process(make(folder))
            if run > 0:
                figures[who].append((seconds, megabytes, output))
    median = lambda who, i: statistics.median(f[i] for f in figures[who])
    spread = lambda who: [round(min(f[0] for f in figures[who]), 3), round(max(f[0] for f in figures[who]), 3)]
    print(
        json.dumps(
            {
                "comparison": name,
                "jishi": {"seconds": round(median("jishi", 0), 3), "spread": spread("jishi"), "mb": round(median("jishi", 1))},
                "peer": {"seconds": round(median("peer", 0), 3), "spread": spread("peer"), "mb": round(median("peer", 1))},
                "times_faster": round(median("peer", 0) / median("jishi", 0), 1),
                "times_less_memory": round(median("peer", 1) / median("jishi", 1), 1),
                "last_output": {who: figures[who][-1][2].strip()[-600:] for who in figures},
            }
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jishi", default="target/release/jishi")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keras-python")
    parser.add_argument("--torch-python")
    parser.add_argument("--ames", default=str(AMES / "ames.csv"))
    parser.add_argument("--csv")
    parser.add_argument("--csv-target", default="y")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if args.keras_python:
        in_turn(
            "house-prices-linear",
            lambda folder: [args.jishi, "train", "house-prices-linear", "--json", "--out", folder],
            lambda folder: [args.keras_python, str(HERE / "house_prices_keras.py"), args.ames, "--out", folder],
            args.runs,
        )
    if args.torch_python:
        in_turn(
            "mlp",
            lambda _: [args.jishi, "bench", "mlp", "--json"],
            lambda _: [args.torch_python, str(HERE / "mlp_torch.py")],
            args.runs,
        )
    if args.torch_python and args.csv:
        in_turn(
            "csv",
            lambda _: [args.jishi, "bench", "csv", "--json", "--csv", args.csv, "--target", args.csv_target],
            lambda _: [args.torch_python, str(HERE / "csv_peer.py"), args.csv, "--target", args.csv_target],
            args.runs,
        )


if __name__ == "__main__":
    main()
