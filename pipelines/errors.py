"""The errors a user can meet, each with its exit code.

ThawError                       1  a fault of ours
├── InputError                  2  wrong configuration or input: one message, no traceback
│   ├── ConfigError                the YAML or an option is wrong
│   ├── SourceError                a source file is missing, unreadable, or not what the YAML says
│   ├── WorkspaceError             the output folder is something else's, or a needed dataset is not there
│   ├── TrackingError              MLflow does not hold what it should
│   │   └── UnreachableError   1      its server does not answer: it may be back
│   ├── CorruptDatasetError        a published file is short, altered or missing
│   └── DuplicateError             two rows have one identity
├── LostError                   1  another process of a training is lost or did not come: trying again may do
├── EmptyDayError               4  no data of the day that --as-of names: there is nothing to do yet
├── StoppedError              143  asked to stop by a scheduler's SIGTERM; 130 by Ctrl-C
└── GateError                   3  a gate refused: quality, leakage, shuffle, test, promotion
    ├── QualityGateError
    ├── LeakageError
    ├── ShuffleError
    ├── SecondTouchError
    └── PromotionError

A message gives rule, value, remedy: "`num_shards` must be positive, got 0; set records.num_shards."
"""


class ThawError(Exception):
    """Base of all of Thaw's own errors."""

    exit_code = 1


class InputError(ThawError):
    """The user's configuration or data is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration breaks a rule."""


class SourceError(InputError):
    """A source cannot be read as configured."""


class WorkspaceError(InputError):
    """The output folder cannot be used as asked."""


class TrackingError(InputError):
    """MLflow does not hold what it should."""


class UnreachableError(TrackingError):
    """MLflow's server does not answer; trying again may do, hence the exit code."""

    exit_code = 1


class CorruptDatasetError(InputError):
    """A published dataset is not what its manifest says."""


class DuplicateError(InputError):
    """Two rows have one identity."""


class LostError(ThawError):
    """Another process of a training is lost, or did not come in time; trying again may do."""


class EmptyDayError(ThawError):
    """The log has no event of the day that it is read as of."""

    exit_code = 4


class StoppedError(ThawError):
    """A signal asked to stop; `exit_code` is 128 and its number, as shells have it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class GateError(ThawError):
    """A gate refused to let data or a model pass."""

    exit_code = 3


class QualityGateError(GateError):
    """Too many rows broke the contract, or an expectation on the whole table failed."""


class LeakageError(GateError):
    """The audit found the future in the features."""


class ShuffleError(GateError):
    """The order of the records tells something of time or label."""


class SecondTouchError(GateError):
    """Another classifier was measured on these test images before."""


class PromotionError(GateError):
    """The challenger may not become champion."""
