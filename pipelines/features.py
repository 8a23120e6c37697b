"""Which features a configuration asks for: names and order, derived once and used by every stage."""

import difflib
import fnmatch

from pipelines.config import Config, PreferenceOptions, StatisticOptions
from pipelines.errors import ConfigError
from schemas.examples import FeatureSet, SideFeatures
from schemas.preferences import CROSS, LIFETIME, statistic_name


def windows_of(statistic: StatisticOptions, options: PreferenceOptions) -> tuple[str, ...]:
    """The windows that a statistic is computed for, the last part of its names.

    `days_since` has none of its own and looks back over the lifetime; `decayed` has its half-life in the place of one.
    """
    if statistic.half_life is not None:
        return (statistic.half_life,)
    return (LIFETIME,) if statistic.kind == "days_since" else options.windows


def statistic_names(entity: str, options: PreferenceOptions) -> tuple[str, ...]:
    """Derived names of an entity's statistics; `item.genres` becomes `item_genres`."""
    return tuple(
        statistic_name(entity, statistic.name, statistic.kind, window)
        for statistic in options.statistics
        for window in windows_of(statistic, options)
    )


def bag_names(options: PreferenceOptions) -> tuple[str, ...]:
    """Names of the user's bags: `user_recent_genres`, `user_recent_item_id`."""
    return tuple(f"user_recent_{column}" for column in options.recent)


def feature_set(config: Config) -> FeatureSet:
    """Both sides' features and those of crosses. Statistics of `item.COLUMN` entities belong to the item side.

    Raises ConfigError where two would have one name, and where an option names one that is not among them.
    """
    options = config.preferences
    statistics = {entity: statistic_names(entity, options) for entity in options.entities}
    crosses = {entity: names for entity, names in statistics.items() if CROSS in entity}
    of_items = {entity: names for entity, names in statistics.items() if entity != "user" and entity not in crosses}
    known = [name for names in of_items.values() for name in names]
    if config.evaluation.popularity not in (None, *known):
        raise ConfigError(
            f"evaluation.popularity must be a statistic of the item ({', '.join(known) or 'there is none'}), got "
            f"{config.evaluation.popularity!r}; name one, or leave it out to rank by past positives"
        )
    found = FeatureSet(
        user=SideFeatures(
            "user",
            {f"user_{name}": kind for name, kind in config.content_kinds("user").items()},
            {"user": statistics["user"]} if "user" in statistics else {},
            bag_names(options),
        ),
        item=SideFeatures(
            "item", {f"item_{name}": kind for name, kind in config.content_kinds("item").items()}, of_items
        ),
        crosses=crosses,
    )
    # Spark takes names that differ by case for one.
    names = [column.name.lower() for column in found.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"features must have names of their own, {', '.join(twice)} would be there twice; rename a content column, "
            "or one of two statistics of the same name and kind"
        )
    for pattern in config.features.max_missing_share:
        if not fnmatch.filter([column.name for column in found.columns], pattern):
            near = difflib.get_close_matches(pattern, [column.name for column in found.columns], n=1, cutoff=0)
            hint = f"did you mean `{near[0]}`?" if near else "remove it"
            raise ConfigError(
                f"features.max_missing_share must name features or patterns of them, {pattern!r} is none; {hint}"
            )
    return found
