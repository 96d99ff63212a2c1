"""A server under load on loopback, with bad requests among the good ones: answers, latency, memory.

    python -m benchmarks.serving [WEIGHTS] [--seconds 20] [--clients 8] [--size 240x320] [--bad 0.25]

Clients ask one after another, each as soon as it has its answer. Every bad request must have the status that is due to
it, every good one the answer that it would have alone; dawdlers hold connections with half a request all the while.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.options import above_zero, positive

BAD: dict[str, tuple[dict[str, str], int]] = {
    "no image": ({}, 400),
    "a cut image": ({}, 400),
    "too large": ({"Content-Length": str(1 << 40)}, 413),
    "another host": ({"Host": "evil.example"}, 421),
    "another site": ({"Origin": "https://evil.example"}, 403),
}
"""Requests that are refused: headers, and the status that is due."""


@dataclass
class Seen:
    """What the clients saw: seconds of good answers, and what was not as it should be."""

    seconds: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)


def picture(size: tuple[int, int], seed: int) -> bytes:
    """A photograph of sorts, as a JPEG."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(out, format="JPEG")
    return out.getvalue()


def ask(port: int, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The status and body of an answer; what the server closes early is read all the same."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.putrequest("POST", "/predict", skip_host="Host" in (headers or {}))
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def client(port: int, bodies: list[tuple[bytes, object]], until: float, bad: float, seed: int, seen: Seen) -> None:
    """Ask until the time is over."""
    numbers = random.Random(seed)
    while time.monotonic() < until:
        body, expected = numbers.choice(bodies)
        if numbers.random() < bad:
            name = numbers.choice(list(BAD))
            headers, due = BAD[name]
            sent = {"no image": b"<html>", "a cut image": body[: len(body) // 2]}.get(name, body)
            status, _ = ask(port, sent, headers)
            seen.refused[name] += 1
            if status != due:
                seen.wrong[f"{name}: {status} for {due}"] += 1
            continue
        began = time.monotonic()
        status, answer = ask(port, body)
        if status != 200 or json.loads(answer)["outputs"] != expected:
            seen.wrong[f"a good one: {status}"] += 1
        seen.seconds.append(time.monotonic() - began)


def memory(process: int) -> int:
    """The largest resident memory of a process so far, in bytes; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int((re.search(r"VmHWM:\s+(\d+)", text) or [0, 0])[1]) << 10


def main() -> int:
    """Measure, and print."""
    options = ArgumentParser(description=__doc__)
    options.add_argument("weights", nargs="?", default="sample")
    options.add_argument("--seconds", type=above_zero, default=20)
    options.add_argument("--clients", type=positive, default=8)
    options.add_argument("--size", default="240x320")
    options.add_argument("--bad", type=float, default=0.25)
    options.add_argument("--dawdlers", type=int, default=20)
    given = options.parse_args()
    h, w = map(int, given.size.split("x"))
    argv = [sys.executable, "-m", "fcn_port", "serve", given.weights, "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        bodies = [(body, json.loads(ask(port, body)[1])["outputs"]) for body in (picture((h, w), i) for i in range(4))]
        alone = []
        for body, _ in bodies * 3:
            began = time.monotonic()
            ask(port, body)
            alone.append(time.monotonic() - began)
        before, seen = memory(server.pid), Seen()
        dawdling = [socket.create_connection(("127.0.0.1", port)) for _ in range(given.dawdlers)]
        for each in dawdling:
            each.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        threads = [
            threading.Thread(target=client, args=(port, bodies, began + given.seconds, given.bad, seed, seen))
            for seed in range(given.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        after = memory(server.pid)
        server.send_signal(signal.SIGTERM)
        status = server.wait(90)
    tell(seen, took, alone, text)
    print(f"memory at most {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after; ends with status {status}")
    return 1 if seen.wrong or status else 0


def tell(seen: Seen, took: float, alone: list[float], metrics: str) -> None:
    """Print what was seen."""
    at = {each: float(np.percentile(seen.seconds, each)) for each in (50, 95, 99)}
    found = {name: float((re.search(rf"(?m)^fcn_port_{name} (\S+)$", metrics) or [0, 0])[1])
             for name in ("images_total", "batch_images_count")}  # fmt: skip
    mean = found["images_total"] / max(1, found["batch_images_count"])
    print(f"one at a time: median {1000 * float(np.median(alone)):.0f} ms")
    print(f"{len(seen.seconds)} good answers in {took:.1f} s, {len(seen.seconds) / took:.1f} each second; "
          f"median {1000 * at[50]:.0f} ms, 95 % {1000 * at[95]:.0f} ms, 99 % {1000 * at[99]:.0f} ms; "
          f"{mean:.1f} images in a batch")  # fmt: skip
    print(f"{sum(seen.refused.values())} bad requests: " + ", ".join(f"{n} {k}" for k, n in seen.refused.items()))
    print("wrong: " + (", ".join(f"{n} x {k}" for k, n in seen.wrong.items()) or "none"))


if __name__ == "__main__":
    sys.exit(main())
