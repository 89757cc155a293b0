"""Compares `jishi serve` with FastAPI + PyTorch on the weights of a run of the recipe `breast-cancer`, one row a request.

`python bench/serve.py JISHI RUN` starts both servers, asks each for the same row, compares the answers, and then lets `wrk` ask them in
turn, several times, from a process of its own. Prints JSON: requests a second and latencies of every turn, and the ratio of medians.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

SECONDS, TURNS, CONNECTIONS = 5, 3, [1, 16]


def ask(url, body):
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["predictions"][0]


def load(url, script, connections):
    threads = min(connections, 2)
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{SECONDS}s", "--latency", "-s", script, url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    latency = {p: float(v) * units[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "p50_ms": latency["50"],
        "p99_ms": latency["99"],
        "failed": int(failed[1]) if failed else 0,
    }


def main():
    jishi, run = sys.argv[1], pathlib.Path(sys.argv[2])
    row = json.loads((run / "model/model.json").read_text())["golden"]["inputs"][0]
    body = json.dumps({"inputs": [row]})
    peer = pathlib.Path(__file__).with_name("serve_peer.py")
    servers = [
        subprocess.Popen([jishi, "serve", f"m={run}", "--listen", "127.0.0.1:8201"], stderr=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, str(peer), str(run), "8202"]),
    ]
    urls = ["http://127.0.0.1:8201/v1/models/m/predict", "http://127.0.0.1:8202/predict"]
    try:
        time.sleep(8)
        ours, theirs = (ask(url, body.encode()) for url in urls)
        assert ours["prediction"] == theirs["prediction"], (ours, theirs)
        assert abs(ours["probability_benign"] - theirs["probability_benign"]) < 1e-5, (ours, theirs)
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['content-type'] = 'application/json'\n")
            script.flush()
            report = {}
            for connections in CONNECTIONS:
                turns = [[load(url, script.name, connections) for url in urls] for _ in range(TURNS)]
                jishi_turns, peer_turns = zip(*turns)
                median = [statistics.median(t["requests_per_second"] for t in side) for side in (jishi_turns, peer_turns)]
                report[connections] = {
                    "jishi": jishi_turns,
                    "fastapi": peer_turns,
                    "ratio": median[0] / median[1],
                }
        print(json.dumps(report, indent=1))
    finally:
        for server in servers:
            server.terminate()


main()
