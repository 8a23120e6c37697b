"""Confidence intervals by resampling users: examples of one user are not independent, users are.

Percentile bootstrap (Efron 1979), 95 %. Drawing users with replacement is giving each user a whole weight, so a
resample is a weighted mean; the weights depend on the seed and the number of users alone. Models measured on the same
users are therefore resampled together, and their differences are paired.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.metrics import Bools, Floats, Ints, auc, auc_resampled, user_aucs

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


@dataclass(frozen=True)
class Sample:
    """A metric over all users, and over each resample of them; NaN where it cannot be measured."""

    value: float
    resampled: Floats
    users: int

    def __sub__(self, other: "Sample") -> "Sample":
        """The paired difference of two models: both were resampled with the same weights."""
        return Sample(self.value - other.value, self.resampled - other.resampled, self.users)

    def estimate(self) -> Estimate:
        """The value with its interval."""
        if np.isnan(self.value):
            return Estimate(None, None, None, self.users)
        value = round(self.value, _DIGITS)
        # A resample that drew one class alone has no AUC: where that is common, those left are not a fair sample.
        if self.users < FEWEST_USERS or np.isnan(self.resampled).mean() > 1 - LEVEL:
            return Estimate(value, None, None, self.users)
        low, high = np.nanquantile(self.resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, round(float(low), _DIGITS), round(float(high), _DIGITS), self.users)


def user_weights(users: int, resamples: int, seed: int) -> Floats:
    """How often each user is drawn: shape (resamples, users), rows sum to `users`."""
    if not users:
        return np.zeros((resamples, 0))
    generator = np.random.default_rng([seed, users])
    draws = [np.bincount(generator.integers(users, size=users), minlength=users) for _ in range(resamples)]
    return np.stack(draws).astype(np.float64)


def unmeasured(users: int, resamples: int) -> Sample:
    """What is said of a metric that a ranker does not have."""
    return Sample(np.nan, np.full(resamples, np.nan), users)


def mean_samples(values: Floats, weights: Floats) -> list[Sample]:
    """The mean over users of each column of `values`, shape (users, columns)."""
    users = len(values)
    if not users:
        return [unmeasured(0, len(weights))] * values.shape[1]
    means, resampled = values.mean(axis=0), weights @ values / users
    return [Sample(float(mean), resampled[:, column], users) for column, mean in enumerate(means)]


def auc_sample(scores: npt.NDArray[np.floating], labels: Bools, users: Ints, weights: Floats) -> Sample:
    """AUC over all examples; `users` numbers each example's user 0 … n - 1, `weights` has shape (resamples, n)."""
    value, count = auc(scores, labels), weights.shape[1]
    if np.isnan(value):
        return unmeasured(count, len(weights))
    return Sample(value, auc_resampled(scores, labels, users, weights), count)


def user_auc_samples(
    scores: npt.NDArray[np.floating], labels: Bools, users: Ints, resamples: int, seed: int
) -> tuple[Sample, Sample]:
    """The mean of each user's own AUC over the users with both labels: every user alike, then by their examples.

    The second is the GAUC of Zhou et al. (Deep Interest Network, KDD 2018). Neither profits from telling users apart.
    """
    values, sizes = user_aucs(scores, labels, users)
    weights = user_weights(len(values), resamples, seed)
    (alike,) = mean_samples(values[:, None], weights)
    if not len(values):
        return alike, alike
    return alike, Sample(
        float(values @ sizes / sizes.sum()), weights @ (values * sizes) / (weights @ sizes), len(values)
    )
