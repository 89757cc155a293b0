"""Holds `jishi bench` against PyTorch on this machine: ratios of medians, as a Markdown table.

    python bench/kernels.py --torch-python PY [--jishi target/release/jishi] [--rounds 3] [WORKLOAD]...

Workloads: gpt-s, gpt-m, resnet18, mlp, decode, gemm; all where none is named. Jishi and each mode of the peer run in turn,
A B A B …, every run a process of its own, so that a machine whose speed drifts slows both. PyTorch counts with its best
mode of eager, fused AdamW, torch.compile and (each again) tuned malloc; the first round tries all, later ones those that
were within a quarter of the best. A mode that fails is left out and said (torch.compile needs a C++ compiler).

Both must do the same work: in f32 the losses of the first 20 steps agree within 1e-4, or within the spread of PyTorch's
own modes where that is larger; in bf16 Jishi is no farther from PyTorch's f32 than PyTorch's bf16 is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# Modes of the peer. `last` keeps images channels last, which convolutions in bf16 want.
TRAINING = {
    "f32": ["f32", "f32-fused", "f32-fused-compile"],
    "bf16": ["bf16", "bf16-fused", "bf16-fused-compile"],
}
RESNET = {p: modes + [f"{p}-fused-last", f"{p}-fused-last-compile"] for p, modes in TRAINING.items()}
MODES = {
    "gpt-s": TRAINING,
    "gpt-m": TRAINING,
    "resnet18": RESNET,
    "mlp": {"f32": TRAINING["f32"]},
    # Whatever the weights, the peer is its f32.
    "decode": {"f32": ["f32", "f32-compile"]},
    "gemm": {"f32": ["f32"], "bf16": ["bf16"]},
}

# How many times as fast as the peer: what must be reached, and what is aimed at.
SPEED = {
    ("gpt-s", "f32"): (1.5, 2.5),
    ("gpt-m", "f32"): (1.1, 1.5),
    ("gpt-m", "bf16"): (1.3, 2.5),
    ("resnet18", "f32"): (1.0, 1.5),
    ("resnet18", "bf16"): (1.0, 1.5),
    ("mlp", "f32"): (3, 5),
    ("decode", "f32"): (1.5, 2),
    ("decode", "bf16"): (3, 4),
    ("decode", "int8"): (5, 8),
}
# Peak memory as a share of the peer's, of every training workload.
MEMORY = (0.6, 0.4)
TRAINED = ("gpt-s", "gpt-m", "resnet18", "mlp")

# glibc's malloc keeps what is freed and uses huge pages.
TUNED = {
    "MALLOC_TOP_PAD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Failed(Exception):
    """A run that ended without figures."""


def figures_of(command: list[str], environment: dict[str, str]) -> dict:
    """The JSON document that a command prints last."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        errors = done.stderr.strip().splitlines()
        raise Failed(errors[-1][:200] if errors else f"exit status {done.returncode}")
    return json.loads(lines[-1])


class Comparison:
    """One workload: its runs of both sides."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.name = name
        self.args = args
        self.ours: dict[str, list[dict]] = {}
        self.peer: dict[tuple[str, str], list[dict]] = {}
        self.notes: list[str] = []
        self.threads = 2
        self.candidates = [
            (precision, label)
            for precision, modes in MODES[name].items()
            for mode in modes
            for label in ([mode] if name == "gemm" else [mode, f"{mode}, tuned malloc"])
        ]

    def run(self) -> None:
        for round_ in range(self.args.rounds):
            self.run_ours()
            for candidate in list(self.candidates):
                self.run_peer(candidate)
            if round_ == 0:
                self.drop_slow_modes()

    def run_ours(self) -> None:
        report = figures_of([self.args.jishi, "bench", self.name, "--json"], dict(os.environ))
        self.threads = report.get("machine", {}).get("threads", self.threads)
        for entry in report["workloads"]:
            self.ours.setdefault(entry.get("weights") or entry.get("precision", "f32"), []).append(entry)

    def run_peer(self, candidate: tuple[str, str]) -> None:
        mode, _, tuned = candidate[1].partition(", ")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        environment |= TUNED if tuned else {}
        command = [self.args.torch_python, str(HERE / "torch_peer.py"), self.name, "--mode", mode]
        try:
            entry = figures_of([*command, "--threads", str(self.threads)], environment)
        except Failed as failure:
            self.notes.append(f"{self.name}: PyTorch {candidate[1]} left out: {failure}")
            self.candidates.remove(candidate)
            # What fails does so with any malloc.
            also = (candidate[0], f"{mode}, tuned malloc")
            if also in self.candidates:
                self.candidates.remove(also)
            return
        self.peer.setdefault(candidate, []).append(entry)

    def drop_slow_modes(self) -> None:
        if self.name == "gemm":
            return
        for precision in MODES[self.name]:
            times = {c: self.peer[c][0]["milliseconds"] for c in self.candidates if c[0] == precision}
            if times:
                limit = 1.25 * min(times.values())
                self.candidates = [c for c in self.candidates if times.get(c, 0) <= limit]

    def best(self, precision: str) -> tuple[str, list[dict]] | None:
        """The peer's fastest mode, of those that ran in every round."""
        modes = {c[1]: self.peer[c] for c in self.candidates if c[0] == precision}
        if not modes:
            return None
        label = min(modes, key=lambda mode: middle(modes[mode], "milliseconds"))
        return label, modes[label]

    def losses(self, precision: str) -> str:
        """Whether both sides did the same work."""

        def of(wanted: str) -> list[list[float]]:
            runs = [r for c, all_ in self.peer.items() if c[0] == wanted for r in all_]
            return [r["losses"] for r in runs if r.get("losses")]

        ours, exact, rounded = self.ours[precision][0].get("losses"), of("f32"), of("bf16")
        if not ours or not exact:
            return "–"
        found = farthest(ours, exact[0])
        if precision == "f32":
            allowed = max([1e-4] + [farthest(other, exact[0]) for other in exact])
        elif rounded:
            allowed = max(farthest(other, exact[0]) for other in rounded)
        else:
            return "no bf16 peer"
        steps = min(len(ours), len(exact[0]))
        word = "agree" if found <= allowed else "**differ**"
        return f"{word}: {found:.1e} ≤ {allowed:.1e}, {steps} steps" if found <= allowed else (
            f"{word}: {found:.1e} > {allowed:.1e}, {steps} steps"
        )

    def rows(self) -> list[list[str]]:
        if self.name == "gemm":
            return self.product_rows()
        rows = []
        for precision, runs in self.ours.items():
            best = self.best("f32" if self.name == "decode" else precision)
            ours = speed(runs)
            if best is None:
                rows.append([self.name, precision, ours, "no peer", "–", "–", "–", "–", "–"])
                continue
            label, peer = best
            ratio = middle(peer, "milliseconds") / middle(runs, "milliseconds")
            floor, aim = SPEED.get((self.name, precision), (None, None))
            memory = "–"
            if self.name in TRAINED:
                share = middle(runs, "peak_memory") / middle(peer, "peak_memory")
                verdict = judged(share <= MEMORY[0], share <= MEMORY[1])
                memory = f"{middle(runs, 'peak_memory') / 1e6:.0f} MB, {share:.2f} of the peer's {verdict}"
            rows.append(
                [
                    self.name,
                    precision,
                    ours,
                    f"{speed(peer)} ({label})",
                    f"**{ratio:.2f}**" + ("" if floor is None else f" {judged(ratio >= floor, ratio >= aim)}"),
                    "–" if floor is None else f"{floor}",
                    "–" if aim is None else f"{aim}",
                    self.losses(precision),
                    memory,
                ]
            )
        return rows

    def product_rows(self) -> list[list[str]]:
        rows = []
        for precision, runs in self.ours.items():
            peers = self.peer.get((precision, precision), [])
            for i, product in enumerate(runs[0]["products"]):
                shape = product["shape"]
                ours = statistics.median(r["products"][i]["gflops"] for r in runs)
                theirs = [p["gflops"] for r in peers for p in r["products"] if p["shape"] == shape]
                name = "gemm " + " × ".join(map(str, shape))
                if theirs:
                    peer = statistics.median(theirs)
                    figures = [f"{peer:.0f} GFLOP/s", f"**{ours / peer:.2f}**"]
                else:
                    figures = ["–", "–"]
                rows.append([name, precision, f"{ours:.0f} GFLOP/s", *figures, "–", "–", "–", "–"])
        return rows


def middle(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def farthest(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b))


def judged(floor: bool, aim: bool) -> str:
    return "✓✓" if aim else "✓" if floor else "✗"


def speed(runs: list[dict]) -> str:
    """The workload's own figure, and the spread of its step over the rounds."""
    units = {
        "tokens_per_second": "tokens/s",
        "images_per_second": "images/s",
        "steps_per_second": "steps/s",
    }
    key = next((k for k in units if k in runs[0]), None)
    times = [run["milliseconds"] for run in runs]
    text = f"{middle(runs, key):,.0f} {units[key]}, " if key else ""
    digits = 1 if min(times) >= 10 else 3
    return f"{text}{min(times):.{digits}f}–{max(times):.{digits}f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(MODES))
    parser.add_argument("--jishi", default="target/release/jishi")
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", help="write all runs to this file, as JSON")
    args = parser.parse_args()
    unknown = set(args.workloads) - MODES.keys()
    if unknown:
        parser.error(f"no workload is called {', '.join(sorted(unknown))}; workloads: {', '.join(MODES)}")
    header = ["workload", "precision", "Jishi", "PyTorch's best", "times as fast", "floor", "aim", "losses", "peak memory"]
    print("| " + " | ".join(header) + " |")
    print("|---|---|---:|---:|---:|---:|---:|---|---|", flush=True)
    notes, saved = [], {}
    for name in args.workloads or MODES:
        comparison = Comparison(name, args)
        try:
            comparison.run()
        except Failed as failure:
            notes.append(f"{name}: Jishi did not run: {failure}")
            continue
        for row in comparison.rows():
            print("| " + " | ".join(row) + " |", flush=True)
        notes += comparison.notes
        saved[name] = {
            "jishi": comparison.ours,
            "peer": {label: runs for (_, label), runs in comparison.peer.items()},
        }
        if args.save:
            Path(args.save).write_text(json.dumps(saved, indent=1) + "\n")
    print("\n✓ reaches the floor, ✓✓ the aim, ✗ neither. Milliseconds: least and most of the rounds' medians.")
    for note in notes:
        print(f"\n{note}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
