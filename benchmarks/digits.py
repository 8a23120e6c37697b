"""How well do the simple families classify scikit-learn's digits, beside scikit-learn's own?

1,797 images of 8 × 8 pixels that come with scikit-learn, the first half to train on and the second to test, unshuffled,
as in its documentation. The recipe was fixed beforehand and is the same for all three networks; nothing is chosen, so
there is no validation. SEEDS seeds (5). 1-NN must be right on .9611 exactly, and agree with scikit-learn's row by row.
"""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]
from sklearn.svm import LinearSVC  # type: ignore[import-untyped]

from benchmarks._images import SEEDS, over_seeds, told
from benchmarks._report import report
from pipelines.config import ClassifierOptions
from pipelines.models.nearest import NearestNeighbours
from pipelines.training.images import LabelledImages
from pipelines.training.network import scores_of, train_network

RECIPE: dict[str, Any] = {"epochs": 60, "batch_size": 64, "schedule": {"name": "cosine", "learning_rate": 0.003}}
NETWORKS: dict[str, dict[str, Any]] = {
    "softmax": {"family": "linear"},
    "svm": {"family": "linear", "loss": {"name": "multiclass_svm"}},
    "two_layer": {"family": "two_layer", "hidden": 100},
}
PEERS = {
    "LogisticRegression": LogisticRegression(max_iter=5000),
    "LinearSVC": LinearSVC(random_state=0, max_iter=20000),
}


def main() -> None:
    """Train, compare, print."""
    digits = load_digits()
    # 0 to 16 as 0 to 240.
    images, labels = (digits.images * 15).astype(np.uint8)[..., None], digits.target.astype(np.int64)
    half = len(labels) // 2
    names = tuple(map(str, range(half)))
    flat = images.reshape(len(images), -1).astype(np.float64)

    mine = NearestNeighbours(images[:half], labels[:half], 10, k=1, distance="l2").predict(images[half:])
    its = KNeighborsClassifier(1, algorithm="brute").fit(flat[:half], labels[:half]).predict(flat[half:])
    assert np.array_equal(mine, its)
    nearest = float((mine == labels[half:]).mean())
    assert round(nearest, 4) == 0.9611, nearest
    rows: list[list[object]] = [["ours, 1-NN (the same as scikit-learn's)", f"{nearest:.4f}"]]
    figures = {"nearest": round(nearest, 4)}
    for name, more in NETWORKS.items():
        found = []
        for seed in SEEDS:
            rows_of_half = LabelledImages(names, images[:half], labels[:half])
            options = ClassifierOptions.model_validate(RECIPE | more)
            trained = train_network(options, rows_of_half, None, digits.target_names.astype(str), seed=seed)
            found.append(float((scores_of(trained.model, images[half:]).argmax(axis=1) == labels[half:]).mean()))
        rows.append([f"ours, {name}", told(found)])
        figures[name] = round(over_seeds(found)[0], 4)
    for name, model in PEERS.items():
        right = float(
            (model.fit(digits.data[:half], labels[:half]).predict(digits.data[half:]) == labels[half:]).mean()
        )
        rows.append([f"scikit-learn, {name}", f"{right:.4f}"])
        figures[name] = round(right, 4)
    report("digits", ["what", f"accuracy, 95 % interval over {len(SEEDS)} seeds"], rows, figures=figures)
