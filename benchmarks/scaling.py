"""What a second process on a second core gives: examples/s of 1 process on one core and of 2 on two.

The rows, model and losses of `train_step`, from batches in memory, cut to each process's part as training cuts them.
Both are of one global batch, and the losses of every step are first checked to be the same but for rounding. Each
process is held to a core of its own. Rounds alternate: while one way is timed, the other's processes sleep.

BACKENDS=tensorflow BATCHES=4096 ROUNDS=1 STEPS=10 measure less. `processes_2` is the speed-up on the default backend at
the larger batch; a ratio above 1 says that two are faster than one, and 2 would be perfect.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._click_records import write_clicks
from benchmarks._clicks import TRAIN_ROWS, columns_of, make_clicks, specs
from benchmarks._report import report
from pipelines.storage import MANIFEST, Dataset
from pipelines.training.rendezvous import free_port
from schemas.manifest import Manifest

BACKENDS = [name for name in os.environ.get("BACKENDS", "tensorflow,jax").split(",") if name]
BATCHES = [int(size) for size in os.environ.get("BATCHES", "4096,8192").split(",")]
ROUNDS = int(os.environ.get("ROUNDS", "5"))
STEPS = int(os.environ.get("STEPS", "30"))
CHECKED = 5
"""Steps whose losses are compared."""
TOLERANCE = 2e-4
"""Relative, of losses after a few steps: sums in another order."""
MODEL = {"content_units": (256, 128), "preference_units": (256, 128), "tower_units": (128, 64)}


def worker(folder: str, batch: int, processes: int, index: int, port: int, cores: list[int]) -> None:
    """One process. Prints the losses of the first steps; then for every line that it reads, the seconds of STEPS."""
    os.sched_setaffinity(0, cores)
    from pipelines.training.distribution import open_devices
    from pipelines.training.rendezvous import Place, gather, join, listen

    meeting = None
    if processes > 1:
        place = Place("127.0.0.1", port, processes, index, 300)
        meeting = join(place, {}) if index else gather(place, listen(place), {})
    devices = open_devices(meeting)

    from pipelines.config import LossOptions, ModelOptions, TrainingOptions
    from pipelines.models.dropoutnet import build_dropoutnet
    from pipelines.training.computing import make_deterministic
    from pipelines.training.facts import facts_of
    from pipelines.training.input import open_input
    from pipelines.training.objective import Objective
    from pipelines.training.step import make_steps

    make_deterministic(7)
    options = TrainingOptions(batch_size=batch, losses=LossOptions(num_negatives=20))
    facts = facts_of(columns_of(make_clicks(), slice(0, TRAIN_ROWS)), options)
    share: dict[str, Any] = {"process_index": index, "num_processes": processes}
    rows = open_input(
        records_of(folder), "train", batch, seed=7, shuffle=True, drop_remainder=True, memory_bytes=0, **share
    )
    held = list(islice(rows.epoch(0), 8))
    objective = Objective(build_dropoutnet(specs(), ModelOptions(**MODEL), 7), options.losses, seed=7, facts=facts)
    steps = make_steps(objective, options, devices=devices)
    say([float(steps.train(*held[number])) for number in range(CHECKED)])
    for _ in sys.stdin:
        started, worked = time.monotonic(), time.process_time()
        for number in range(STEPS):
            loss = steps.train(*held[number % len(held)])
        float(loss)
        say([time.monotonic() - started, time.process_time() - worked])
    if meeting is not None:
        meeting.end()
    os._exit(0)


def records_of(folder: str) -> Dataset:
    """What `main` has written."""
    return Dataset(folder, Manifest.from_json(Path(folder, MANIFEST).read_text()))


def say(values: list[float]) -> None:
    """A line to whoever started this process."""
    print(json.dumps(values), flush=True)


class Way:
    """The processes of one way to train."""

    def __init__(self, folder: str, backend: str, batch: int, processes: int) -> None:
        cores, port = sorted(os.sched_getaffinity(0)), free_port("127.0.0.1")
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.processes = []
        for index in range(processes):
            call = f"worker({folder!r}, {batch}, {processes}, {index}, {port}, [{cores[index]}])"
            code = f"from benchmarks import scaling; scaling.{call}"
            with Path(folder, f"{backend}-{batch}-{processes}-{index}.log").open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", code],
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                    )
                )
        self.log = Path(folder, f"{backend}-{batch}-{processes}-0.log")

    def answers(self) -> list[list[float]]:
        """What each process says next."""
        found = []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(self.log.read_text()[-3000:])
            found.append(json.loads(line))
        return found

    def round(self) -> tuple[float, float]:
        """Seconds, and processor seconds of all."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = self.answers()
        return max(one[0] for one in found), sum(one[1] for one in found)

    def end(self) -> None:
        """All end, also where one hangs."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Both ways side by side, for each backend and batch size; then the table."""
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("scaling needs two cores")
    table: list[list[object]] = []
    ratios: dict[str, float] = {}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        records = write_clicks(make_clicks(), folder, {"train": slice(0, TRAIN_ROWS)})
        Path(folder, MANIFEST).write_text(records.manifest.to_json())
        for backend in BACKENDS:
            for batch in BATCHES:
                ways = {number: Way(folder, backend, batch, number) for number in (1, 2)}
                losses = {number: way.answers()[0] for number, way in ways.items()}
                if not np.allclose(losses[1], losses[2], rtol=TOLERANCE):
                    raise SystemExit(f"losses must be equal, got {losses}")
                measured = [{number: way.round() for number, way in ways.items()} for _ in range(ROUNDS + 1)][1:]
                for way in ways.values():
                    way.end()
                rows = STEPS * batch
                rate = {number: statistics.median(rows / one[number][0] for one in measured) for number in ways}
                busy = {number: statistics.median(one[number][1] for one in measured) / rows * 1e6 for number in ways}
                # Of each round, so that what else the machine does weighs on both.
                ratio = statistics.median(one[1][0] / one[2][0] for one in measured)
                for number in ways:
                    table.append([backend, batch, number, f"{rate[number]:,.0f}", rate[number] / rate[1], busy[number]])
                ratios[f"processes_2_{backend}_{batch}"] = round(ratio, 2)
                figures[f"examples_per_s_{backend}_{batch}_2"] = round(rate[2])
                figures[f"cpu_ratio_{backend}_{batch}"] = round(2 * busy[1] / busy[2], 2)
    first = f"processes_2_{BACKENDS[0]}_{max(BATCHES)}"
    report(
        "scaling",
        ["backend", "global batch", "processes", "examples/s", "of one", "CPU us/example"],
        table,
        ratios={"processes_2": ratios[first], **ratios},
        figures=figures,
    )
