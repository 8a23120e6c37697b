"""How well do the families classify CIFAR-10, and how much processor time do they take to come to an accuracy?

The JPEGs (THAW_TEST_DATA; encoded anew, so that accuracies do not compare with published ones), written as records by
`thaw write_image_records` with conf/cifar10.yaml, a tenth of the training images kept for validation. Recipes are those
of conf/: conf/cifar10.yaml as it is (plain), and conf/classifiers/ laid over it; ShuffleNetV2 and MobileNetV2 have half
the channels. SEEDS seeds (5); the epoch is chosen on validation, test is looked at once. The last columns have
the minutes of processor time, of all threads, until validation accuracy first reached each level, the mean over the
seeds that reached it. MODELS=softmax,plain trains some, ROWS and EPOCHS make a small one.
"""

from collections.abc import Sequence

from benchmarks._images import HEADER, SEEDS, Trained, asked, nearest, over_seeds, recipe, row, splits_of, train
from benchmarks._report import report

MODELS = {
    "nearest": "nearest",
    "softmax": "softmax",
    "plain": None,
    "shufflenet_v2": "shufflenet_v2",
    "mobilenet_v2": "mobilenet_v2",
}
"""Name -> file of conf/classifiers; None: conf/cifar10.yaml as it is."""
LEVELS = (0.4, 0.5, 0.6, 0.7, 0.8)


def reached(runs: Sequence[Trained], level: float) -> str:
    """Minutes to an accuracy, and by how many of the runs."""
    first = [next((at for at, accuracy in run.curve if accuracy >= level), None) for run in runs]
    there = [minutes for minutes in first if minutes is not None]
    if not there:
        return "–"
    return f"{sum(there) / len(there):.2f}" + (f" ({len(there)} of {len(runs)})" if len(there) < len(runs) else "")


def main() -> None:
    """Train, measure, print."""
    rows, figures = [], {}
    with splits_of("cifar10", "cifar10-jpg") as images:
        for name in asked(list(MODELS)):
            if name == "nearest":
                runs = [nearest(images, print)]
            else:
                runs = [train(recipe("cifar10", MODELS[name]), images, seed) for seed in SEEDS]
            rows.append([*row(name, runs), *(reached(runs, level) for level in LEVELS)])
            print("  ".join(map(str, rows[-1])), flush=True)
            figures[f"{name}_test"] = round(over_seeds([run.test for run in runs])[0], 4)
            figures[f"{name}_cpu_minutes"] = round(max(run.minutes for run in runs), 2)
    report("cifar10", [*HEADER, *(f"to {level}" for level in LEVELS)], rows, figures=figures)
