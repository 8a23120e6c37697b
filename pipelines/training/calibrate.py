"""Scores to click probabilities: two numbers fitted on the validation rows, once the towers are trained. [numpy]

Losses that rank leave scores that are no log odds. An affine map mends that without touching the order, hence neither
retrieval nor what was measured of it; biases of users or items learned beside the towers would change both.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.retrieval.scorer import Calibration

Floats = npt.NDArray[np.float64]
_STEPS = 50


def calibrate(model: Any, validation: Any) -> Calibration | None:
    """Platt's map for the validation rows' scores; None where their labels are all equal or contradict the scores."""
    scores, labels, weights = [], [], []
    for inputs, extras in validation.epoch(0):
        scores.append(np.asarray(model(inputs)["score"], "float64"))
        labels.append(np.asarray(extras["label"], "float64"))
        weights.append(np.asarray(extras["weight"], "float64"))
    return fit_platt(np.concatenate(scores), np.concatenate(labels), np.concatenate(weights))


def fit_platt(scores: Floats, labels: Floats, weights: Floats) -> Calibration | None:
    """The most likely slope and intercept of log odds = slope·score + intercept, each (rows,).

    By Newton's method on Platt's targets, which keep a few rows from certainty (Probabilistic outputs for support
    vector machines, 1999). None where labels are all equal, or where a higher score would mean less.
    """
    positive, negative = weights[labels > 0.5].sum(), weights[labels <= 0.5].sum()
    if not (positive > 0 and negative > 0):
        return None
    target = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # Centred and scaled, so that two columns are far from parallel whatever the scores' place.
    mean, size = np.average(scores, weights=weights), scores.std() or 1.0
    design = np.stack([(scores - mean) / size, np.ones_like(scores)], axis=1)
    found = np.array([0.0, np.log(positive / negative)])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        gradient = design.T @ (weights * (chance - target))
        curvature = (design * (weights * chance * (1 - chance))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # A Newton step from afar may overshoot.
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        found -= step
        if np.abs(step).max() < 1e-10:
            break
    slope = float(found[0] / size)
    return Calibration(slope=slope, intercept=float(found[1] - slope * mean)) if slope > 0 else None
