"""How near does training come to the matrix products it needs? 400,000 rows, 20 mined negatives, two cores.

The limit is the forward and backward products of the layers' real shapes, done alone at the backend's own rate for
each shape, in the same process. Beside it: our loop from TFRecords on disk, which are streamed, shuffled and parsed in
every epoch; our loop from batches that lie in memory; and Keras's `fit`, which has the same model, loss and input, and
moves every row of every table by its Adam. Rounds alternate. Records are first checked to be the arrays that they were
made of, and as in training no known positive is taken for a negative.

Then the AUC: trained on 380,000 of the rows, the epoch chosen on the other 20,000, and the 40,000 held-out rows scored
once a seed, beside the true probabilities. OPTIONS were chosen on such validation rows alone.

BACKENDS=jax BATCHES=4096 ROUNDS=1 measure less; ROWS=20480 makes the rounds in memory shorter, and EPOCH=102400
those from records, whole epochs otherwise: a short one pays for filling a shuffle window of 65,536 rows. SEEDS=0
leaves the AUC out, BACKENDS= the speed; KERAS_BACKEND says where the AUC is trained.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from benchmarks._click_records import write_clicks
from benchmarks._click_towers import MODEL, products
from benchmarks._clicks import ROWS, TRAIN_ROWS, columns_of, make_clicks, specs
from benchmarks._report import report

BACKENDS = [name for name in os.environ.get("BACKENDS", "tensorflow,jax").split(",") if name]
BATCHES = [int(size) for size in os.environ.get("BATCHES", "1024,4096").split(",")]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
MEMORY_ROWS = int(os.environ.get("ROWS", "102400"))
EPOCH_ROWS = int(os.environ.get("EPOCH", str(TRAIN_ROWS)))
SEEDS = int(os.environ.get("SEEDS", "3"))
VALIDATION_ROWS = 20_000
OPTIONS: dict[str, Any] = {
    "model": {"preference_dropout": 0.1},
    "training": {"epochs": 3, "learning_rate_schedule": "cosine", "losses": {"softmax": 0.2}},
}
"""What the AUC is trained with, beside the defaults: little is missing in this data, and ranking by clicks of the same
rows is what the pointwise loss teaches."""


def worker(folder: str, batch: int) -> None:
    """Measure one backend at one batch size; prints examples/s of each way, a list over rounds, as JSON."""
    import keras
    import tensorflow as tf

    from pipelines.config import LossOptions, ModelOptions, TrainingOptions
    from pipelines.models.dropoutnet import build_dropoutnet
    from pipelines.training.computing import make_deterministic
    from pipelines.training.facts import facts_of
    from pipelines.training.input import open_input
    from pipelines.training.objective import Objective
    from pipelines.training.step import make_steps

    clicks = make_clicks()
    records = write_clicks(clicks, folder, {"train": slice(0, TRAIN_ROWS)})
    make_deterministic(7)
    options = TrainingOptions(batch_size=batch, losses=LossOptions(num_negatives=20))
    expected = columns_of(clicks, slice(0, TRAIN_ROWS))
    facts = facts_of(expected, options)

    def objective() -> Objective:
        return Objective(build_dropoutnet(specs(), ModelOptions(**MODEL), 7), options.losses, seed=7, facts=facts)

    streamed = open_input(records, "train", batch, seed=7, shuffle=True, drop_remainder=True, memory_bytes=0)
    held = list(islice(streamed.epoch(0), MEMORY_ROWS // batch))
    for inputs, extras in held[:2]:
        rows = np.asarray(extras["event_time"]) - 1_700_000_000_000_000
        for name, values in {**inputs, **extras}.items():
            if name != "event_time" and not np.array_equal(np.asarray(values), expected[name][rows]):
                raise SystemExit(f"records must give back their arrays, {name} does not")
    steps = make_steps(objective(), options)
    peer = objective()
    peer.compile(optimizer=keras.optimizers.Adam(0.001), jit_compile=keras.backend.backend() == "jax")
    multiply = products(batch)

    def loop(batches: Any) -> int:
        done, loss = 0, None
        for inputs, extras in batches:
            loss = steps.train(inputs, extras)
            done += batch
        float(loss)
        return done

    def many() -> int:
        for _ in range(20):
            multiply()
        return 20 * batch

    def keras_fit(number: int) -> int:
        peer.fit(streamed.epoch(number).take(EPOCH_ROWS // batch), epochs=1, verbose=0, shuffle=False)
        return EPOCH_ROWS // batch * batch

    ways: dict[str, Callable[[int], int]] = {
        "limit": lambda _: many(),
        "memory": lambda _: loop(held),
        "records": lambda number: loop(streamed.epoch(number).take(EPOCH_ROWS // batch)),
        "keras": keras_fit,
    }
    loop(held[:3])
    multiply()
    peer.fit(
        tf.data.Dataset.from_generator(lambda: iter(held[:3]), output_signature=streamed.epoch(0).element_spec),
        verbose=0,
    )
    rates: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, way in ways.items():
            started, worked = time.monotonic(), time.process_time()
            done = way(number)
            rates[name].append(done / (time.monotonic() - started))
            busy[name].append((time.process_time() - worked) / done * 1e6)
    print(json.dumps({"rates": rates, "busy": busy}))


def auc(folder: str, seed: int) -> None:
    """Train once and score the held-out rows once; prints the AUC, the validation rows' and the true one's, as JSON."""
    from sklearn.metrics import roc_auc_score

    from pipelines.config import ModelOptions, TrainingOptions
    from pipelines.models.dropoutnet import build_dropoutnet
    from pipelines.training.facts import facts_of
    from pipelines.training.fit import fit
    from pipelines.training.input import open_input

    clicks, first = make_clicks(), TRAIN_ROWS - VALIDATION_ROWS
    records = write_clicks(clicks, folder, {"train": slice(0, first), "validation": slice(first, TRAIN_ROWS)})
    options = TrainingOptions(**OPTIONS["training"])
    model = build_dropoutnet(specs(), ModelOptions(**MODEL, **OPTIONS["model"]), seed)
    train = open_input(records, "train", options.batch_size, seed=seed, shuffle=True)
    validation = open_input(records, "validation", 4096, seed=seed, shuffle=False)
    history = fit(model, train, validation, options, seed, facts=facts_of(columns_of(clicks, slice(0, first)), options))
    held_out = slice(TRAIN_ROWS, ROWS)
    inputs = columns_of(clicks, held_out)
    score = model.predict({spec.name: inputs[spec.name] for spec in specs()}, batch_size=4096, verbose=0)["score"]
    found = {
        "auc": roc_auc_score(clicks["label"][held_out], score),
        "validation": history.best.metrics["validation_auc"],
        "epoch": history.best_epoch,
        "true": roc_auc_score(clicks["label"][held_out], clicks["probability"][held_out]),
    }
    print(json.dumps(found))


def alone(call: str, backend: str) -> Any:
    """What a function of this module prints last, called in a process of its own with a folder for records."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        code = f"from benchmarks import train_step; train_step.{call.format(folder=repr(folder))}"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """One process a backend and batch size, one a seed; then the table."""
    names = {
        "limit": "matrix products alone (limit)",
        "records": "Thaw, TFRecords",
        "memory": "Thaw, in memory",
        "keras": "Keras fit, Adam",
    }
    table, ratios, figures = [], {}, {}
    for backend in BACKENDS:
        for batch in BATCHES:
            found = alone(f"worker({{folder}}, {batch})", backend)
            rate = {name: statistics.median(found["rates"][name]) for name in names}
            busy = {name: statistics.median(found["busy"][name]) for name in names}
            for name, title in names.items():
                table.append([backend, batch, title, f"{rate[name]:,.0f}", rate[name] / rate["limit"], busy[name]])
            key = f"{backend}_{batch}"
            ratios[f"matmul_limit_{key}"] = round(rate["records"] / rate["limit"], 2)
            ratios[f"in_memory_{key}"] = round(rate["records"] / rate["memory"], 2)
            ratios[f"keras_fit_{key}"] = round(rate["records"] / rate["keras"], 2)
            figures[f"examples_per_s_{key}"] = round(rate["records"])
            figures[f"matmul_limit_cpu_{key}"] = round(busy["limit"] / busy["records"], 2)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    scored = [alone(f"auc({{folder}}, {seed})", backend) for seed in range(1, SEEDS + 1)]
    for seed, one in enumerate(scored, 1):
        print("  ".join([f"AUC, seed {seed}:", *(f"{name} {value:.4g}" for name, value in one.items())]))
    if scored:
        values = [one["auc"] for one in scored]
        figures |= {"auc": round(statistics.mean(values), 4), "auc_true": round(scored[0]["true"], 4)}
        figures |= {f"auc_seed_{seed}": round(value, 4) for seed, value in enumerate(values, 1)}
    report(
        "train_step",
        ["backend", "batch", "way", "examples/s", "of the limit", "CPU us/example"],
        table,
        ratios=ratios,
        figures=figures,
    )
