"""How long, and in how much memory, does the main job run? Demo, MovieLens and globo, each from nothing.

Real data is found through THAW_TEST_DATA; a source whose folder is absent is left out, and says so. Each is run twice
into folders of its own, and the two runs' record digests and metrics are compared.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks._report import report

SOURCES = {"demo": None, "movielens": "ml-latest-small", "globo": "globo-clicks"}
LIMITS = {"demo": (240, 6.0), "movielens": (300, None), "globo": (1800, 12.0)}
"""Seconds and GiB that the run should stay under, on two cores."""
REPEATS = {"demo": 2, "movielens": 2, "globo": 1}


def measure(config: str, data: str | None, out: str) -> tuple[float, float]:
    """Seconds and peak GiB (resident, all processes of the run together) of one `thaw run`."""
    thaw = Path(sys.executable).with_name("thaw")
    command = [str(thaw), "run", "--config", config, "--out", out, *(["--data", data] if data else [])]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        # Reading the memory of a Java process holds it up: seldom enough not to be felt.
        while not stop.wait(2):
            peak[0] = max(peak[0], _resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    stop.set()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")
    return time.monotonic() - started, peak[0] / 2**30


def _resident(pid: int) -> int:
    """Proportional memory of a process and its children: pages that workers share count once."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> None:
    """Run, compare, print."""
    asked = os.environ.get("SOURCES", ",".join(SOURCES)).split(",")
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    for name in asked:
        folder = SOURCES[name]
        data = str(Path(os.environ.get("THAW_TEST_DATA", "/nowhere")) / folder) if folder else None
        if data and not Path(data).is_dir():
            print(f"{name}: left out, THAW_TEST_DATA has no folder {folder}", file=sys.stderr)
            continue
        runs = []
        for _ in range(REPEATS[name]):
            with tempfile.TemporaryDirectory() as out:
                seconds, gib = measure(f"conf/{name}.yaml", data, f"{out}/run")
                summary = json.loads(Path(f"{out}/run/summary.json").read_text())
                runs.append(
                    (seconds, gib, summary["records"]["digest"], json.dumps(summary["metrics"], sort_keys=True))
                )
        same = len({run[2:] for run in runs}) == 1
        seconds, gib = max(run[0] for run in runs), max(run[1] for run in runs)
        limit_s, limit_gib = LIMITS[name]
        rows.append(
            [name, seconds, f"{limit_s} s", gib, f"{limit_gib or '-'} GiB", same if len(runs) > 1 else "one run"]
        )
        figures |= {f"{name}_s": round(seconds, 1), f"{name}_gib": round(gib, 2)}
        if len(runs) > 1:
            figures[f"{name}_same"] = int(same)
    report("main_job", ["run", "seconds", "limit", "GiB", "limit", "same digests and metrics"], rows, figures=figures)
