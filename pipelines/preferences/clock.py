"""The two clocks: as of when an example's statistics are, and what was known by then.

`as_of` cuts event_time (exclusive), `known_by` cuts available_time (inclusive). Snapshots have boundaries at whole
multiples of the period since 1970-01-01T00:00Z.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.config import PreferenceOptions, parse_duration

if TYPE_CHECKING:
    from pyspark.sql import Column


CLOCK = ("as_of", "known_by")
"""The columns of a row's clock."""


class Moment(NamedTuple):
    """What serving holds at one time, UTC microseconds."""

    as_of: int
    known_by: int
    served_from: int


def clock(
    event_time: npt.NDArray[np.int64], options: PreferenceOptions
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`(as_of, known_by)` of what is decided at `event_time`, all in UTC microseconds, of one shape.

    exact: both are event_time. snapshot: the latest boundary b with b + publish_delay <= event_time, and
    b + landing_delay.

    >>> daily = PreferenceOptions(period="1d", landing_delay="1h", publish_delay="2h")
    >>> day, hour = parse_duration("1d"), parse_duration("1h")
    >>> [times.tolist() for times in clock(np.array([day + 2 * hour]), daily)] == [[day], [day + hour]]
    True
    """
    as_of, known_by = _clock(event_time, options)
    return as_of, known_by


def clock_columns(event_time: "Column", options: PreferenceOptions) -> tuple["Column", "Column"]:
    """`clock` for a Spark column of bigint."""
    as_of, known_by = _clock(event_time, options)
    return as_of, known_by


def latest_moment(event_time: int, available_time: int, options: PreferenceOptions) -> Moment:
    """What serving holds after a log that ends with these largest times.

    snapshot: of the first boundary after every event. exact: of the first moment at which all is seen.
    """
    if options.accuracy == "exact":
        moment = max(event_time, available_time) + 1
        return Moment(moment, moment, moment)
    period = parse_duration(options.period)
    boundary = (event_time // period + 1) * period
    return Moment(
        boundary, boundary + parse_duration(options.landing_delay), boundary + parse_duration(options.publish_delay)
    )


def _clock(event_time: Any, options: PreferenceOptions) -> tuple[Any, Any]:
    """Arithmetic that arrays and Spark columns share."""
    if options.accuracy == "exact":
        return event_time, event_time
    period = parse_duration(options.period)
    served = event_time - parse_duration(options.publish_delay)
    # Twice the remainder: Spark's takes the sign of the dividend, and times before 1970 are negative.
    as_of = served - (served % period + period) % period
    return as_of, as_of + parse_duration(options.landing_delay)
