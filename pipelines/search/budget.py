"""How much may be tried, and how long the best may be trained afterwards."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import SearchOptions
from pipelines.search.space import Changes, kind_of

QUICK_SHARE = 0.2
"""Of the time for the last trainings, the flat classifier's part: it needs little."""


class Budget:
    """The time and the trials that there are. Trials that were found count the time that they took."""

    def __init__(self, options: SearchOptions) -> None:
        self._options, self._seconds = options, (options.minutes or 0) * 60
        self.spent_s = 0.0

    @property
    def trial_minutes(self) -> float | None:
        """What one trial may take."""
        minutes = self._options.minutes
        return minutes * self._options.trial_share if minutes else None

    def is_over(self, trials: int) -> bool:
        """Whether no more is to be tried: not where less than half of a trial's time is left."""
        if not trials:
            return False
        if self._options.trials and trials >= self._options.trials:
            return True
        if not self.trial_minutes:
            return False
        return self.spent_s + self.trial_minutes * 30 > self._seconds * (1 - self._options.final_share)

    def left(self) -> float | None:
        """Minutes for the last trainings: what is left, but never less than half of the share that was kept."""
        if not self._seconds:
            return None
        return max(self._seconds - self.spent_s, self._seconds * self._options.final_share / 2) / 60


def finals_of(finalists: Sequence[Mapping[str, Any]], epochs: int, minutes: float | None) -> list[Changes]:
    """Options of the last trainings: the finalists', for longer, in the minutes that are left for all of them."""
    found = []
    for trial in finalists:
        quick = kind_of(trial["family"]) == "flat"
        share = 1.0 if len(finalists) == 1 else QUICK_SHARE if quick else 1 - QUICK_SHARE
        found.append({**trial["changes"], "epochs": epochs, "minutes": minutes and round(minutes * share, 3)})
    return found
