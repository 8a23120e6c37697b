"""State fitted on the training period before anything is joined: cuts, priors, the share of examples kept."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.errors import InputError
from pipelines.examples.labels import labelled_events
from pipelines.examples.splits import fit_cuts, is_mature, split_of
from pipelines.preferences.priors import fit_priors
from schemas.examples import SPLITS
from schemas.fitted import Cuts, Fitted


def fit(interactions: DataFrame, config: Config) -> Fitted:
    """Cuts, priors and kept share of a log.

    Raises InputError where a split would be empty or the training labels are all equal.
    """
    labelled = labelled_events(interactions, config)
    cuts = fit_cuts(labelled, config.split)
    if config.horizon is not None:
        cuts = cuts.model_copy(update={"as_of": config.horizon.as_of})
    total = _check_splits(labelled, cuts, config)
    wanted = config.labels.max_examples
    return Fitted(
        cuts=cuts,
        priors=fit_priors(interactions, cuts.validation_start, config.preferences),
        keep_share=1.0 if wanted is None else min(1.0, wanted / total),
    )


def _check_splits(labelled: DataFrame, cuts: Cuts, config: Config) -> int:
    """Number of labelled events. Raises InputError where a split could not be used."""
    time = F.col("event_time")
    rows = (
        labelled.groupBy(split_of(time, cuts).alias("split"))
        .agg(
            F.count("*").alias("all"),
            F.count_if(is_mature(time, F.col("label_time"), cuts)).alias("mature"),
            F.count_if(is_mature(time, F.col("label_time"), cuts) & (F.col("label") == 1)).alias("positive"),
        )
        .collect()
    )
    counts = {row["split"]: row for row in rows}
    for split in SPLITS:
        if split not in counts or not counts[split]["mature"]:
            dropped = counts[split]["all"] if split in counts else 0
            late = f" ({dropped} labels closed only after the split's end)" if dropped else ""
            raise InputError(
                f"each split must have examples, {split} has none{late}; set split.validation_start and "
                "split.test_start, or other shares, so that every split holds labelled events, or give more data"
            )
    train = counts["train"]
    if config.labels.rule != "sampled" and train["positive"] in (0, train["mature"]):
        raise InputError(
            f"training labels must not all be equal, all {train['mature']} are {int(train['positive'] > 0)}; "
            f"check labels.rule ({config.labels.rule}), {_suspects(config)}"
        )
    return sum(int(row["all"]) for row in rows)


def _suspects(config: Config) -> str:
    """The options that decide labels under the configured rule, with their values."""
    actions = f"labels.positive_actions ({', '.join(config.labels.positive_actions)})"
    if config.labels.rule == "threshold":
        return f"labels.threshold ({config.labels.threshold:g}) and {actions}"
    return f"labels.label_window ({config.labels.label_window}), labels.impression_action and {actions}"
