"""What does a training step of the towers reach on a GPU, of what that GPU can do?

The product's own step (`pipelines/training/step.py`) on synthetic arrays shaped like `train_step`'s rows, in float32,
TF32 and bfloat16 and at batch sizes from 1,024 to 65,536; on JAX and TensorFlow, whichever is installed. JAX's step is
one XLA program; TensorFlow's is a graph with its optimizer under XLA, and XLA=auto has XLA find more of it to compile.
Beside each: its batch copied from the host at every step or lying on the GPU already, whose difference is the input's
share; the layers' matrix products alone, in their real shapes; and two ceilings measured in the same process, a large
matrix product and a triad (`_device`). Operations and bytes are the fewest that the step needs, by the formulas of
`_click_towers`, so the shares are lower bounds; `XLA's count` is what XLA says of the step's operations, in parts of
the formula's. Every process first scores the same rows with the same weights, and must agree.

A machine needs a checkout, JAX with its GPU plugin (or TensorFlow), and `pip install keras pydantic pyyaml`:

    KERAS_BACKEND=jax python -m benchmarks gpu_train_step

DEVICE=cpu tries it without a GPU. BATCHES=1024,4096 PRECISIONS=bfloat16 ROUNDS=1 SECONDS=0.2 measure less.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from benchmarks._click_towers import MODEL, products, step_bytes, step_operations
from benchmarks._clicks import ENTITIES, specs
from benchmarks._device import PRECISIONS, Device, ceilings, open_device
from benchmarks._report import report

ON_CPU = os.environ.get("DEVICE") == "cpu"
BACKENDS = [name for name in ("jax", "tensorflow") if os.environ.get("KERAS_BACKEND", name) == name]
BATCHES = [int(size) for size in os.environ.get("BATCHES", "1024,4096,16384,65536").split(",")]
CHOSEN = os.environ.get("PRECISIONS", "float32,bfloat16" if ON_CPU else ",".join(PRECISIONS)).split(",")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "0.5"))
DIFFERENT = 4
"""Batches that take turns."""
SIDE = int(os.environ.get("SIDE", "512" if ON_CPU else "8192"))
MEGABYTES = int(os.environ.get("MEGABYTES", "64" if ON_CPU else "1024"))
TOLERANCE = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 5e-2}
"""Largest difference between two processes' scores, of their deviation."""


def batch_of(rows: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(inputs, extras) of random rows, a fifth of them positive."""
    draw = np.random.default_rng(seed)
    inputs = {
        spec.name: draw.integers(1, spec.table_size, (rows, 1))
        if spec.kind == "ids"
        else draw.normal(size=(rows, spec.length)).astype("f4")
        for spec in specs()
    }
    user, item = draw.integers(0, ENTITIES, (2, rows))
    label = (draw.random(rows) < 0.2).astype("f4")
    return inputs, {"label": label, "weight": np.ones(rows, "f4"), "user_key": user, "item_key": item}


def give_weights(model: Any) -> None:
    """The same weights on every backend, which draw differently."""
    draw = np.random.default_rng(5)
    for weight in model.weights:
        if len(weight.shape) > 1:
            inputs = weight.shape[0 if "kernel" in weight.path else 1]
            weight.assign(draw.normal(size=weight.shape) / np.sqrt(inputs))


def worker(precision: str) -> None:
    """Measure the backend at hand in one precision; prints the device, then a line a batch size, as JSON."""
    import keras

    from pipelines.config import LossOptions, ModelOptions, TrainingOptions
    from pipelines.models.dropoutnet import build_dropoutnet
    from pipelines.training.computing import make_deterministic
    from pipelines.training.computing import precision as in_precision
    from pipelines.training.facts import facts_of
    from pipelines.training.objective import Objective
    from pipelines.training.step import make_steps

    device = open_device(precision)
    make_deterministic(7)
    best = ceilings(device, precision, SIDE, MEGABYTES, ROUNDS)
    model = build_dropoutnet(specs(), ModelOptions(**MODEL), 7)
    give_weights(model)
    with in_precision(model, PRECISIONS[precision]):
        scores = np.asarray(model(batch_of(256, 0)[0], training=False)["score"], "f8")
        say({"device": f"{device.name}, Keras {keras.__version__}", "ceilings": best, "scores": scores.tolist()})
        for size in BATCHES:
            batches = [batch_of(size, seed) for seed in range(DIFFERENT)]
            options = TrainingOptions(batch_size=size, losses=LossOptions(num_negatives=20))
            facts = facts_of({name: np.concatenate([b[1][name] for b in batches]) for name in batches[0][1]}, options)
            steps = make_steps(Objective(model, options.losses, seed=7, facts=facts), options)
            say({"batch": size, **measured(device, steps, batches, precision)})


def measured(device: Device, steps: Any, batches: Any, precision: str) -> dict[str, Any]:
    """Seconds of a step with its batch on the device, of one with its batch on the host, and of its products."""
    resident = [device.put(batch) for batch in batches]
    size = len(batches[0][1]["label"])
    multiply = products(size, "bfloat16" if precision == "bfloat16" else "float32")

    def loop(given: Any) -> Callable[[int], None]:
        def run(times: int) -> None:
            before = None
            for place in range(times):
                loss = steps.train(*given[place % DIFFERENT])
                if before is not None:
                    float(before)  # as `fit` does: a loss is read when the next step is under way
                before = loss
            device.wait(before)

        return run

    def multiplied(times: int) -> None:
        for _ in range(times):
            said = multiply()
        device.wait(said)

    ways = {"resident": loop(resident), "host": loop(batches), "products": multiplied}
    times: dict[str, int] = {}
    for name, way in ways.items():
        way(2)
        started = time.perf_counter()
        way(2)
        times[name] = max(int(2 * SECONDS / (time.perf_counter() - started)), 1)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way(times[name])
            taken[name].append((time.perf_counter() - started) / times[name])
    if not np.isfinite(float(steps.train(*batches[0]))):
        raise SystemExit("the loss must stay finite")
    return {**{name: median(some) for name, some in taken.items()}, "counted": counted(steps, batches[0])}


def counted(steps: Any, batch: Any) -> float | None:
    """Operations of a step as XLA counts them before it compiles; None where the backend does not tell."""
    if not hasattr(steps, "_values"):
        return None
    steps.settle()
    cost = steps._train.lower(steps._values(), *batch).cost_analysis()
    return float(cost["flops"]) if cost else None


def say(line: dict[str, Any]) -> None:
    """One line to the process that gathers them."""
    print(json.dumps(line), flush=True)


def lines_of(backend: str, precision: str) -> list[dict[str, Any]]:
    """What a worker said, told as it comes. SystemExit with its last words where it said nothing."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = f"from benchmarks.gpu_train_step import worker; worker({precision!r})"
    command = [sys.executable, "-c", code]
    found: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile("w+") as said,  # a pipe that nobody reads would stop it, and GPUs' libraries say much
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as started,
    ):
        for line in started.stdout or ():
            if line.startswith("{"):
                found.append(json.loads(line))
                print(backend, precision, line[:100].strip(), file=sys.stderr, flush=True)
        started.wait()
        said.seek(0)
        last = (said.read().strip().splitlines() or ["it gave no reason"])[-1]
    if started.returncode:
        if not found:
            raise SystemExit(last)
        print(f"note: {backend} in {precision} ended early: {last}")
    return found


def main() -> None:
    """One process a backend and precision; then the table."""
    check_settings()
    gathered: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for backend in BACKENDS:
        for precision in CHOSEN:
            try:
                gathered[backend, precision] = lines_of(backend, precision)
            except SystemExit as lacking:
                if len(BACKENDS) == 1:
                    raise
                print(f"note: {backend} is left out: {lacking}")
                break
    if not gathered:
        raise SystemExit("no backend could compute here")
    show(gathered)


def check_settings() -> None:
    """SystemExit with what is wrong about the environment's settings."""
    unknown = [name for name in CHOSEN if name not in PRECISIONS]
    if unknown:
        raise SystemExit(f"PRECISIONS must be some of {', '.join(PRECISIONS)}, got {unknown[0]!r}; correct it")
    if min(BATCHES) < 2:
        raise SystemExit(f"BATCHES must be sizes of 2 or more, got {min(BATCHES)}; set BATCHES=1024,4096")
    if os.environ.get("DEVICE", "cpu") != "cpu":
        raise SystemExit(f"DEVICE must be cpu or absent, got {os.environ['DEVICE']!r}; leave it out to use the GPU")
    BACKENDS[:] = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not BACKENDS:
        raise SystemExit("JAX or TensorFlow must be installed, neither is; install jax[cuda12]")


def show(gathered: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Check that all agree, and print."""
    table: list[list[object]] = []
    ratios: dict[str, float] = {}
    figures: dict[str, float] = {}
    expected = np.array(next(iter(gathered.values()))[0]["scores"])
    for (backend, precision), (about, *rows) in gathered.items():
        apart = np.abs(np.array(about["scores"]) - expected).max() / expected.std()
        if not apart < TOLERANCE[precision]:
            raise SystemExit(f"{backend} in {precision} must score as the first did, it is {apart:.2g} deviations off")
        operations, moved = about["ceilings"]
        print(f"{backend}, {precision}: {about['device']}; {operations / 1e12:,.2f} TFLOP/s, {moved / 1e9:,.0f} GB/s")
        figures |= {f"tflops_{backend}_{precision}": round(operations / 1e12, 2)}
        figures |= {f"gb_per_s_{backend}_{precision}": round(moved / 1e9, 1)}
        for row in rows:
            size, seconds = row["batch"], row["resident"]
            reached = step_operations(size) / seconds
            bytes_moved = step_bytes(size, 2 if precision == "bfloat16" else 4) / seconds
            share = 1 - seconds / row["host"]
            table.append(
                [
                    backend,
                    precision,
                    f"{size:,}",
                    f"{size / seconds:,.0f}",
                    seconds * 1e3,
                    f"{max(share, 0):.0%}",
                    reached / 1e12,
                    f"{reached / operations:.1%}",
                    bytes_moved / 1e9,
                    f"{bytes_moved / moved:.1%}",
                    row["products"] / seconds,
                    row["counted"] / step_operations(size) if row["counted"] else "–",
                ]
            )
            key = f"{backend}_{precision}_{size}"
            ratios |= {f"matmul_ceiling_{key}": round(reached / operations, 4)}
            ratios |= {f"triad_ceiling_{key}": round(bytes_moved / moved, 4)}
            ratios |= {f"products_{key}": round(row["products"] / seconds, 3)}
            figures |= {f"examples_per_s_{key}": round(size / seconds), f"input_share_{key}": round(share, 3)}
    header = ["backend", "precision", "batch", "examples/s", "ms/step", "input"]
    header += ["TFLOP/s", "of ceiling", "GB/s", "of ceiling", "of products alone", "XLA's count"]
    report("gpu_train_step", header, table, ratios=ratios, figures=figures)
    if ON_CPU:
        print("note: DEVICE=cpu: this says that it runs, and nothing of a GPU", file=sys.stderr)


if __name__ == "__main__":
    main()
