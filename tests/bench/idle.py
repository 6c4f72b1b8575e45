"""What the running service costs between the clips of a still camera: 720p at 8 pictures a second over RTSP.

usage: python -m tests.bench.idle [--window 30]

A film of a still yard with a sensor's grain plays in real time from GStreamer's RTSP server. The real daemon, with the
demo bundle, looks at it; then a process that only opens and decodes it. Processor time is read from the kernel, once the
first clip has begun and the model has taken its first pairs. Given in per cent of one core; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

from edge.capture.source import open_source
from edge.share import demo_bundle
from tests.broker import Mosquitto
from tests.integration.cameras import RtspCamera
from tests.service import EDGE, Service

WIDTH, HEIGHT, FPS = 1280, 720, 8
GRAIN = 2.0  # levels, of the sensor
SETTLE_S = 8.0  # from the first clip's beginning until the window
CLIP_S = 60.0


def still(path: Path, seconds: float) -> Path:
    """Encode a still scene with grain."""
    rng = np.random.default_rng(11)
    ground = rng.integers(30, 220, (HEIGHT // 40, WIDTH // 40, 3)).repeat(40, 0).repeat(40, 1)
    grains = rng.normal(0, GRAIN, (8, HEIGHT, WIDTH, 3))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "crf": "26", "bf": "0", "g": "16"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(round(seconds * FPS)):
            noisy = ground + np.roll(grains[number % 8], 17 * number, axis=0)
            frame = av.VideoFrame.from_ndarray(np.clip(noisy, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def spent_s(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Return the processor seconds that each process has taken so far."""
    found = {}
    for name, process in processes.items():
        times = process.cpu_times()
        found[name] = times.user + times.system
    return found


def cost(processes: dict[str, psutil.Process], window_s: float) -> dict[str, float]:
    """Return the share of a core that each process takes within a window, per cent."""
    before, began = spent_s(processes), time.monotonic()
    time.sleep(window_s)
    after, took = spent_s(processes), time.monotonic() - began
    return {name: 100 * (after[name] - before[name]) / took for name in processes}


def decode(url: str) -> None:
    """Only decode."""
    with open_source(url, transport="tcp", timeout_s=6.0) as source:
        for _ in source.frames():
            pass


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__)
    parser.add_argument("--window", type=float, default=30.0, help="seconds that are measured, up to 45")
    parser.add_argument("--gate", choices=("auto", "off"), default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        film = still(home / "still.mp4", CLIP_S + 30)
        (home / "bundle").symlink_to(demo_bundle())
        (home / "broker").mkdir()
        with Mosquitto(home / "broker") as broker, RtspCamera(film) as camera:
            more = f'[gate]\nmode = "{args.gate}"\n'
            sources: dict[str, dict[str, object]] = {"cam": {"source": camera.url}}
            with Service(home, broker, sources, seconds=CLIP_S, more=more, command=EDGE) as service:
                service.wait_for("shown to the model")
                time.sleep(SETTLE_S)
                capture = psutil.Process(service.pids("capture cam")[-1])
                processes = {
                    "supervisor": psutil.Process(capture.ppid()),
                    "capture": capture,
                    "inference": psutil.Process(service.pids("inference")[-1]),
                }
                found = cost(processes, args.window)
        with RtspCamera(film) as camera:
            child = multiprocessing.get_context("spawn").Process(
                target=decode, args=(camera.url,), daemon=True
            )
            child.start()
            time.sleep(SETTLE_S)
            found |= cost({"decoder alone": psutil.Process(child.pid)}, args.window)
            child.kill()
            child.join()
    beyond = found["supervisor"] + found["capture"] + found["inference"] - found["decoder alone"]
    for name, share in found.items():
        sys.stdout.write(f"{name:>14} {share:6.2f} % of a core\n")
    sys.stdout.write(f"{'beyond':>14} {beyond:6.2f} %\n")
    result = {"gate": args.gate, "window_s": args.window, **{k: round(v, 3) for k, v in found.items()}}
    sys.stdout.write(json.dumps(result | {"beyond_decoder": round(beyond, 3)}) + "\n")


if __name__ == "__main__":
    main()
