"""What do checkpoints cost? The towers of the training-step benchmark, without, at the default, and every 10 steps.

Epochs of 102,400 rows at batch 1,024, two cores, ways in alternation; weights are checked equal first. Of an epoch at
the default nothing is saved, since it is shorter than five minutes: what it costs is the question asked after each
step. The time of one save is therefore measured by itself, beside its bytes, and set against the five minutes.

ROWS=20480 and ROUNDS=1 measure less.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._click_records import write_clicks
from benchmarks._click_towers import MODEL
from benchmarks._clicks import columns_of, make_clicks, specs
from benchmarks._report import report

ROWS = int(os.environ.get("ROWS", "102400"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BATCH, SEED = 1024, 1
WAYS: dict[str, dict[str, Any] | None] = {"none": None, "default": {}, "every 10 steps": {"steps": 10}}


def main() -> None:
    """Alternate, check, print."""
    from pipelines.config import CheckpointOptions, ModelOptions, TrainingOptions
    from pipelines.models.dropoutnet import build_dropoutnet
    from pipelines.training.checkpoints import Checkpoints
    from pipelines.training.facts import facts_of
    from pipelines.training.fit import fit
    from pipelines.training.input import open_input

    saves: list[tuple[float, int]] = []

    class Timed(Checkpoints):
        """Notes the seconds and bytes of each save."""

        def save(self, *what: Any) -> bool:
            started = time.perf_counter()
            saved = super().save(*what)
            newest = max(Path(self.folder).iterdir())
            saves.append((time.perf_counter() - started, newest.stat().st_size))
            return saved

    clicks, options = make_clicks(), TrainingOptions(batch_size=BATCH, epochs=3)
    with tempfile.TemporaryDirectory() as folder:
        records = write_clicks(clicks, folder, {"train": slice(0, ROWS)})
        facts = facts_of(columns_of(clicks, slice(0, ROWS)), options)
        train = open_input(records, "train", BATCH, seed=SEED, shuffle=True)
        speeds: dict[str, list[float]] = {way: [] for way in WAYS}
        weights: list[list[Any]] = []
        for _ in range(ROUNDS):
            for place, (way, chosen) in enumerate(WAYS.items()):
                model = build_dropoutnet(specs(), ModelOptions(**MODEL), SEED)
                kept = None
                if chosen is not None:
                    kept = Timed(f"{folder}/{len(weights)}-{place}", "key", CheckpointOptions(**chosen), print)
                history = fit(model, train, None, options, SEED, facts=facts, checkpoints=kept)
                # The first epoch compiles.
                speeds[way].append(max(epoch.examples_per_s for epoch in history.epochs[1:]))
                weights.append(model.get_weights())
    for other in weights[1:]:
        if not all(np.array_equal(a, b) for a, b in zip(weights[0], other, strict=True)):
            raise SystemExit("checkpoints must change no weight, they do")
    medians = {way: statistics.median(some) for way, some in speeds.items()}
    seconds, size = statistics.median(s for s, _ in saves), saves[-1][1]
    rows = [[way, round(speed), speed / medians["none"]] for way, speed in medians.items()]
    figures: dict[str, float] = {
        f"{way.replace(' ', '_')}_examples_per_s": round(speed) for way, speed in medians.items()
    }
    figures |= {"save_ms": round(seconds * 1e3, 1), "save_mb": round(size / 1e6, 1)}
    figures["share_of_five_minutes"] = round(seconds / 300, 6)
    print(f"one save: {seconds * 1e3:.1f} ms, {size / 1e6:.1f} MB; of five minutes {seconds / 300:.4%}")
    report(
        "checkpoints",
        ["checkpoints", "examples/s", "of none"],
        rows,
        ratios={"none": round(medians["default"] / medians["none"], 3)},
        figures=figures,
    )
