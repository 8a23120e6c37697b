"""How many images a second does training a classifier take, beside the same network in plain Keras `fit`?

Fashion-MNIST's training images where THAW_TEST_DATA has them, else noise of that shape; batches of 128; a linear
classifier, and ShuffleNetV2 0.5 with the small stem. Ours: an epoch of `thaw train_classifier`, shuffled, with its sums
and checks, from memory and from records on disk. The peers: `fit` on the same arrays in memory, shuffled, as Keras
compiles it by itself (`fit`), and without XLA (`fit_plain`). Each is a process of its own, because ours asks TensorFlow
for deterministic operations; they take turns, an epoch each, of which the first does not count. A first step of each
is compared: equal weights, equal images, equal loss. Ratios are of medians, against the faster peer; who takes more
than SLOW times as long as another in the turn that counts first has no more turns: nobody need wait for it.

FAMILIES=linear, REPEATS=3 and IMAGES=1280 (of shufflenet_v2) measure less.
"""

import gzip
import io
import os
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import report
from pipelines.config import ClassifierOptions
from pipelines.records.wire import encode
from pipelines.storage import Dataset, describe_shard, write_file
from schemas.images import image_columns
from schemas.manifest import Manifest, TableEntry

REPEATS = int(os.environ.get("REPEATS", "5"))
IMAGES = {"linear": 60_000, "shufflenet_v2": int(os.environ.get("IMAGES", "3840"))}
FAMILIES = os.environ.get("FAMILIES", ",".join(IMAGES)).split(",")
SLOW = 3
CONTESTANTS = ("memory", "disk", "fit", "fit_plain")
SHARDS = 4


def options(family: str) -> ClassifierOptions:
    """What both sides train."""
    return ClassifierOptions(family=family, width=0.5, stem="small")  # type: ignore[arg-type]


def data(rows: int) -> tuple[Any, Any]:
    """Images (rows, 28, 28, 1) and labels."""
    folder = Path(os.environ.get("THAW_TEST_DATA", "/nowhere")) / "fashion-mnist"
    if not folder.is_dir():
        random = np.random.default_rng(7)
        return random.integers(0, 256, (rows, 28, 28, 1), np.uint8), random.integers(0, 10, rows)
    pixels, labels = (
        np.frombuffer(gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes())[skip:], np.uint8)
        for name, skip in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return pixels.reshape(-1, 28, 28, 1)[:rows], labels[:rows].astype(np.int64)


def records(folder: str, pixels: Any, labels: Any) -> Dataset:
    """The same as records on disk."""
    columns, shards = image_columns(28, 28, 1, 10), []
    for number, rows in enumerate(np.array_split(np.arange(len(labels)), SHARDS)):
        image = np.empty(len(rows), object)
        image[:] = [pixels[row].tobytes() for row in rows]
        ids = np.array([f"{row:032x}" for row in rows], "S32")
        raw, _ = encode({"example_id": ids, "label": labels[rows], "image": image}, columns)
        write_file(folder, f"train-{number}", raw.tobytes())
        shards.append(describe_shard(folder, f"train-{number}", len(rows)))
    tables = {"train": TableEntry(format="tfrecord", columns=columns, shards=tuple(shards))}
    return Dataset(folder, Manifest(dataset="image_records", tables=tables, seed=1))


def contestant(kind: str, family: str, folder: str, line: Any) -> None:
    """Answers every message with the seconds and the processor's seconds of an epoch, and at first with a loss."""
    import keras

    from pipelines.models.classifier import build_classifier
    from pipelines.training.class_step import make_step
    from pipelines.training.computing import make_deterministic
    from pipelines.training.images import LabelledImages, StreamedImages, mean_image
    from pipelines.training.network import CENTRED, Clock, train_epoch
    from pipelines.training.progress import Progress
    from pipelines.training.run import Run

    chosen, (pixels, labels) = options(family), data(IMAGES[family])
    held = LabelledImages(tuple(f"{row:032x}" for row in range(len(labels))), pixels, labels)
    if not kind.startswith("fit"):
        make_deterministic(1)
    mean = mean_image(held) if family in CENTRED else None
    model = build_classifier(chosen, held.inputs, 10, seed=1, mean=mean)
    optimizer = keras.optimizers.Adam(chosen.schedule.learning_rate)
    size = chosen.batch_size
    if kind.startswith("fit"):
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile="auto" if kind == "fit" else False,
        )
        line.send(float(model.train_on_batch(pixels[:size], labels[:size])[0]))
        model.fit(pixels[: 2 * size], labels[: 2 * size], batch_size=size, epochs=1, verbose=0)

        def epoch(number: int) -> None:
            model.fit(pixels, labels, batch_size=size, epochs=1, verbose=0)
    else:
        step = make_step(model, chosen, optimizer, chosen.schedule.learning_rate, None)
        line.send(float(np.asarray(step.train(pixels[:size], labels[:size], 0.0))[0]))
        np.asarray(step.train(pixels[size : 2 * size], labels[size : 2 * size], 0.0))
        rows = held if kind == "memory" else StreamedImages(records(folder, pixels, labels), "train", held.inputs)
        batches, quiet = rows.batches(size, 1), io.StringIO()

        def epoch(number: int) -> None:
            run = Run(number)
            train_epoch(step, run, batches, Clock(chosen, run, 1 << 40), Progress(1, quiet))

    for number in iter(line.recv, None):
        started, processor = time.monotonic(), time.process_time()
        epoch(number)
        line.send((time.monotonic() - started, time.process_time() - processor))


def race(family: str, folder: str) -> dict[str, tuple[float, float]]:
    """Contestant -> images a second, and a second of the processor's."""
    spawn, lines = get_context("spawn"), {}
    for kind in CONTESTANTS:
        lines[kind], there = spawn.Pipe()
        spawn.Process(target=contestant, args=(kind, family, folder, there), daemon=True).start()
    losses = {kind: line.recv() for kind, line in lines.items()}
    first = losses[CONTESTANTS[0]]
    assert all(abs(loss - first) < 1e-4 * abs(first) for loss in losses.values()), losses
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in CONTESTANTS}
    for number in range(1, REPEATS + 2):
        # A first turn may still compile.
        fastest = min((some[1][0] for some in taken.values() if len(some) > 1), default=0.0)
        for kind, line in lines.items():
            if number <= 2 or taken[kind][1][0] < SLOW * fastest:
                line.send(number)
                taken[kind].append(line.recv())
                print(family, number, kind, *(f"{s:.2f}" for s in taken[kind][-1]), file=sys.stderr, flush=True)
    for line in lines.values():
        line.send(None)
    return {
        kind: tuple(IMAGES[family] / statistics.median(seconds) for seconds in zip(*found[1:], strict=True))
        for kind, found in taken.items()
    }


def main() -> None:
    """Race, print."""
    table: list[list[object]] = []
    ratios: dict[str, float] = {}
    figures: dict[str, float] = {}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            speeds = race(family, folder)
        fit = max(speeds["fit"][0], speeds["fit_plain"][0])
        ratios[f"{family}_fit"] = round(speeds["memory"][0] / fit, 3)
        ratios[f"{family}_memory"] = round(speeds["disk"][0] / speeds["memory"][0], 3)
        figures |= {f"{family}_{kind}_images_per_s": round(speed[0]) for kind, speed in speeds.items()}
        table += [[family, kind, wall, processor, wall / fit] for kind, (wall, processor) in speeds.items()]
    header = ["network", "what", "images/s", "images/s of the processor", "of the faster fit"]
    report("images_per_s", header, table, ratios=ratios, figures=figures)


if __name__ == "__main__":
    main()
