"""What is tried next: a study over the families of a kind, and one for each family over its own options.

Families are kept apart, because a learning rate that is good for one says nothing of another, and kinds, because in a
short trial a flat classifier is nearly done where a convolutional network has begun. How options are tried is left to
the caller.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from pipelines.config import SearchOptions
from pipelines.search.space import KINDS, Changes, Space, kind_of

_STARTUP = 4
"""Trials of a family before its own study draws by what it knows."""
_FEWEST = 2
"""Trials of a family that must have come as far before a trial is given up."""


class Proposal:
    """Options to try. Tell what came of them, epoch by epoch and in the end."""

    def __init__(self, chooser: "Chooser", family: str, of_family: Any, trial: Any, space: Space) -> None:
        self._chooser, self._of_family, self._trial = chooser, of_family, trial
        self.family = family
        self.changes: Changes = {**space.fixed, **trial.params}
        self._last = 0.0

    def report(self, epoch: int, accuracy: float) -> None:
        """What an epoch (1, 2, …) came to."""
        self._last = max(self._last, accuracy)
        self._trial.report(accuracy, epoch)

    def hopeless(self) -> bool:
        """Whether the trial is to be given up, by what was reported."""
        return bool(self._trial.should_prune())

    def finish(self, accuracy: float | None) -> None:
        """The trial's accuracy; None where it was given up."""
        pruned = accuracy is None
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        self._chooser.studies[self.family].tell(self._trial, None if pruned else accuracy, state=state)
        # A family is known by the accuracy that it came to, given up or not.
        self._chooser.families[kind_of(self.family)].tell(self._of_family, self._last if accuracy is None else accuracy)


class Chooser:
    """Proposes options; equal arguments and equal results, equal proposals."""

    def __init__(self, options: SearchOptions, spaces: Mapping[str, Space], epochs: int, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spaces, self._proposed = spaces, 0
        self._kinds = {kind: [f for f in spaces if f in kinds] for kind, kinds in KINDS.items()}
        self._kinds = {kind: families for kind, families in self._kinds.items() if families}
        self.families = {
            kind: optuna.create_study(
                direction="maximize", sampler=_sampler(options.sampler, seed, kind, len(families))
            )
            for kind, families in self._kinds.items()
        }
        self.studies = {
            family: optuna.create_study(
                direction="maximize",
                study_name=family,  # Hyperband's brackets are drawn by it
                sampler=_sampler(options.sampler, seed, family, _STARTUP),
                pruner=_pruner(options.pruner, epochs),
            )
            for family in spaces
        }
        for family, space in spaces.items():
            self.families[kind_of(family)].enqueue_trial({"family": family})
            self.studies[family].enqueue_trial(space.usual)

    def next(self) -> Proposal:
        """Options to try: each family's usual ones first, then of each kind in turn what the studies think best."""
        first = list(self._spaces)[self._proposed : self._proposed + 1]
        kinds = list(self._kinds)
        kind = kind_of(first[0]) if first else kinds[self._proposed % len(kinds)]
        self._proposed += 1
        of_family = self.families[kind].ask({"family": CategoricalDistribution(self._kinds[kind])})
        family = of_family.params["family"]
        space = self._spaces[family]
        return Proposal(self, family, of_family, self.studies[family].ask(space.varies), space)


def _sampler(name: str, seed: int, of: str, startup: int) -> optuna.samplers.BaseSampler:
    # Seeds of their own: equal ones would draw equal numbers for every family.
    own = int.from_bytes(hashlib.blake2b(f"{seed}/{of}".encode(), digest_size=4).digest())
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=startup)


def _pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """First epochs say little, of which many are short: none is given up before a quarter, or a ninth, is over."""
    if name == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=_FEWEST, n_min_trials=_FEWEST, n_warmup_steps=max(1, epochs // 4)
        )
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()
