"""Confidence intervals by resampling users: examples of one user are not independent, users are.

Percentile bootstrap (Efron 1979), 95 %. Drawing users with replacement is giving each user a whole weight, so a
resample is a weighted mean; the weights depend on the seed and the number of users alone. Models measured on the same
users are therefore resampled together, and their differences are paired.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.metrics import Bools, Floats, Ints, auc, auc_resampled

LEVEL = 0.95
FEWEST_USERS = 5
"""With fewer, resampling finds much the same users each time, and an interval would claim what is not known."""
_DIGITS = 6


@dataclass(frozen=True)
class Estimate:
    """A value, its interval, and the number of users behind it.

    Without users (or without both labels) all None; with too few to resample, the interval is.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """As published."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def user_weights(users: int, resamples: int, seed: int) -> Floats:
    """How often each user is drawn: shape (resamples, users), rows sum to `users`."""
    if not users:
        return np.zeros((resamples, 0))
    generator = np.random.default_rng([seed, users])
    draws = [np.bincount(generator.integers(users, size=users), minlength=users) for _ in range(resamples)]
    return np.stack(draws).astype(np.float64)


def mean_estimates(values: Floats, weights: Floats) -> list[Estimate]:
    """The mean over users of each column of `values`, shape (users, columns).

    For a paired difference of two models pass the difference of their columns.
    """
    users = len(values)
    if not users:
        return [Estimate(None, None, None, 0)] * values.shape[1]
    means = values.mean(axis=0)
    resampled = weights @ values / users
    return [_estimate(float(mean), resampled[:, column], users) for column, mean in enumerate(means)]


def auc_estimate(scores: npt.NDArray[np.floating], labels: Bools, users: Ints, weights: Floats) -> Estimate:
    """AUC over all examples; `users` numbers each example's user 0 … n - 1, `weights` has shape (resamples, n)."""
    value = auc(scores, labels)
    count = weights.shape[1]
    if np.isnan(value):
        return Estimate(None, None, None, count)
    return _estimate(value, auc_resampled(scores, labels, users, weights), count)


def _estimate(value: float, resampled: Floats, users: int) -> Estimate:
    # A resample that drew one class alone has no AUC: where that is common, those left are not a fair sample.
    if users < FEWEST_USERS or np.isnan(resampled).mean() > 1 - LEVEL:
        return Estimate(round(value, _DIGITS), None, None, users)
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(round(value, _DIGITS), round(float(low), _DIGITS), round(float(high), _DIGITS), users)
