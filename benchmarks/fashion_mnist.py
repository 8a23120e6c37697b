"""How well does each family classify Fashion-MNIST, and in how many minutes of processor time?

The official files (THAW_TEST_DATA), written as records by `thaw write_image_records` with conf/fashion_mnist.yaml, a
tenth of the training images kept for validation. Recipes are those of conf/: the light network of
conf/fashion_mnist.yaml, and conf/classifiers/. They were chosen on validation. Each is trained with SEEDS seeds (5);
the epoch is chosen on validation, k and distance of nearest neighbours too. The test images are looked at once, by each
model as it is in the end. MODELS=softmax,light trains some, ROWS and EPOCHS make a small one.
"""

from benchmarks._images import HEADER, SEEDS, asked, nearest, over_seeds, recipe, row, splits_of, train
from benchmarks._report import report

MODELS = {
    "nearest": "nearest",
    "softmax": "softmax",
    "svm": "svm",
    "two_layer": "two_layer",
    "light": None,
    "longer": "longer",
}
"""Name -> file of conf/classifiers; None: conf/fashion_mnist.yaml as it is."""


def main() -> None:
    """Train, measure, print."""
    rows, figures = [], {}
    with splits_of("fashion_mnist", "fashion-mnist") as images:
        for name in asked(list(MODELS)):
            if name == "nearest":
                runs = [nearest(images, print)]
            else:
                runs = [train(recipe("fashion_mnist", MODELS[name]), images, seed) for seed in SEEDS]
            rows.append(row(name, runs))
            print("  ".join(map(str, rows[-1])), flush=True)
            figures[f"{name}_test"] = round(over_seeds([run.test for run in runs])[0], 4)
            figures[f"{name}_cpu_minutes"] = round(max(run.minutes for run in runs), 2)
    report("fashion_mnist", HEADER, rows, figures=figures)
