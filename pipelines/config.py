"""The configuration: YAML in, frozen options out. Every default is explained where it is declared.

Unknown keys are refused with the nearest valid key. What a section means to a stage is left to the stage.
"""

import codecs
import datetime
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import ConfigError
from schemas.columns import TIME_MAX_US, TIME_MIN_US
from schemas.content import ContentKind
from schemas.preferences import CROSS, LIFETIME

US_PER_UNIT = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def parse_duration(text: str | int) -> int:
    """A duration such as `7d`, `90m`, `0s` in microseconds.

    >>> parse_duration("2h")
    7200000000
    """
    match = re.fullmatch(r"\s*(\d+)\s*(us|ms|s|m|h|d)\s*", str(text))
    if not match:
        raise ValueError(f"a duration must be a whole number and a unit (us, ms, s, m, h, d), such as 7d; got {text!r}")
    return int(match[1]) * US_PER_UNIT[match[2]]


def _duration(value: object) -> object:
    parse_duration(str(value))
    return value


def _window(value: object) -> object:
    if value != LIFETIME and (str(value).lstrip().startswith("-") or parse_duration(str(value)) == 0):
        raise ValueError(f"a window must be longer than zero, such as 7d, or `{LIFETIME}`; got {value!r}")
    return value


_SPARK_ENCODINGS = {
    "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "ascii": "US-ASCII", "iso8859-1": "ISO-8859-1",
    "utf-16": "UTF-16", "utf-16-be": "UTF-16BE", "utf-16-le": "UTF-16LE", "utf-32": "UTF-32",
}  # fmt: skip
"""Python's name -> Spark's, of those that both know."""


def _encoding(value: object) -> object:
    try:
        return _SPARK_ENCODINGS[codecs.lookup(str(value)).name]
    except LookupError:
        known = ", ".join(_SPARK_ENCODINGS.values())
        raise ValueError(
            f"an encoding must be one that Spark reads ({known}), got {value!r}; convert the file: iconv -t utf-8"
        ) from None


def _registered_model(address: str) -> str:
    if not re.fullmatch(r"models:/[^/:@]+(/\d+|@[^/:@]+)", address):
        raise ValueError("must be models:/NAME/VERSION or models:/NAME@ALIAS, such as models:/x_classifier@champion")
    return address


Encoding = Annotated[str, BeforeValidator(_encoding)]
Duration = Annotated[str, BeforeValidator(_duration)]
"""Text such as `7d`; `parse_duration` gives microseconds."""
Window = Annotated[str, BeforeValidator(_window)]
"""A duration, or `lifetime`."""
RegisteredModel = Annotated[str, AfterValidator(_registered_model)]
"""A version of MLflow's registry, models:/NAME/VERSION, or what an alias stands for, models:/NAME@ALIAS."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
"""A word: letters, digits and underscores."""


def utc_microseconds(text: str, key: str) -> int:
    """A date or ISO time of the configuration, UTC where it says no zone. Raises ConfigError, also before 1900."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{key} must be a date, got {text!r}; set one such as 2024-01-31") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    micros = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    if not TIME_MIN_US <= micros <= TIME_MAX_US:
        raise ConfigError(f"{key} must be between 1900 and 2100, got {text!r}; correct the year")
    return micros


def _iso(micros: int) -> str:
    return (datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)).isoformat()


class Horizon(typing.NamedTuple):
    """How far a run sees: events that happened before `as_of` and were available by `known_by`, UTC microseconds."""

    as_of: int
    known_by: int


class Options(BaseModel):
    """Base of all sections: frozen, unknown keys and numbers that are not finite refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DemoOptions(Options):
    """The generated demo data. Present in a configuration: `thaw run` without --data generates it."""

    users: int = Field(2_000, ge=2)
    items: int = Field(3_000, ge=10)
    days: int = Field(60, ge=8)
    impressions: int = Field(300_000, ge=100)
    start: datetime.date = datetime.date(2025, 1, 1)
    """First day, UTC."""
    new_user_share: Share = 0.5
    """Share of users who arrive during the period; the rest are there on the first day. Items likewise."""
    new_item_share: Share = 0.7
    duplicates: int = Field(500, ge=0)
    """Exact numbers of rows planted to be found: copies of events, …"""
    malformed: int = Field(300, ge=0)
    """… rows that cannot be parsed or break the contract, …"""
    late: int = Field(5_000, ge=0)
    """… events that become available hours to days after they happened."""


class TimeColumn(Options):
    """How a source writes a point in time."""

    column: str
    unit: Literal["s", "ms", "us", "ns", "iso", "format"] = "iso"
    """Epoch unit; `iso`: ISO 8601 text (or a native timestamp column); `format`: the pattern below."""
    format: str | None = None
    """Spark datetime pattern, such as `yyyy-MM-dd HH:mm:ss`, with `unit: format`."""
    zone: str | None = None
    """Zone of times written without one. Zone-less text without `zone` is refused: guessing would move events."""


class SourceFile(Options):
    """Where a table is and how its files are written."""

    path: str
    """File, folder or glob, relative to --data. Compressed files are read by their ending."""
    format: Literal["csv", "parquet", "jsonl"] = "csv"
    separator: str = Field(",", min_length=1)
    header: bool = True
    names: tuple[str, ...] | None = None
    """Column names of a CSV without header."""
    encoding: Encoding = "UTF-8"
    """Of a CSV's text. JSON lines are UTF-8."""

    @model_validator(mode="after")
    def _utf_8(self) -> "SourceFile":
        if self.format == "jsonl" and self.encoding != "UTF-8":
            raise ValueError(f"JSON lines must be UTF-8, got encoding {self.encoding}; convert them, then remove it")
        return self


class InteractionSource(SourceFile):
    """A log of events: which column of the file holds what."""

    user_id: str
    item_id: str
    event_time: TimeColumn
    available_time: TimeColumn | None = None
    """When the row could first be seen. Absent: event_time + availability_lag."""
    availability_lag: Duration = "0s"
    action: str | None = None
    """Column of the action; absent: every row is `action_value`."""
    action_value: str = "event"
    weight: str | None = None
    """Column of the weight (stars, amount); absent: 1.0."""


class ContentColumn(Options):
    """One content column: where its value comes from and what kind it is."""

    kind: ContentKind
    column: str | None = None
    """Source column; absent: the same name."""
    separator: str | None = None
    """Splits text into categories or a vector's numbers; absent: the file has lists (Parquet, JSON)."""
    pattern: str | None = None
    """Regular expression; its first group is the value (a year out of a title, say)."""
    drop: tuple[str, ...] = ()
    """Values that mean missing, such as `(no genres listed)`."""


class ContentSource(SourceFile):
    """A table of what is known of users or items: files, or a dataset that Thaw published."""

    dataset: Literal["content_vectors"] | None = None
    """In place of path, format, id and valid_from: what `thaw embed_content` published under --out. Its column is
    `vector`: `columns: {image: {kind: vector, column: vector}}`."""
    id: str
    """Column of the user or item id."""
    valid_from: TimeColumn | None = None
    """A row applies from here on; absent: always has."""
    created_at: TimeColumn | None = None
    """When the user or item came into being; absent: its first version's valid_from, or its first event."""
    title: str | None = None
    columns: dict[Name, ContentColumn] = {}
    accumulate: bool = False
    """True: each row adds its categories to what is known so far (tags given over time) instead of replacing it."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_dataset(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not raw.get("dataset"):
            return raw
        known = {
            "path": raw["dataset"],
            "format": "parquet",
            "id": "item_id",
            "valid_from": {"column": "valid_from", "unit": "us"},
        }
        for key, value in known.items():
            given = raw.get(key, value)
            # A configuration that was written out in full says what is absent.
            if isinstance(given, dict):
                given = {name: one for name, one in given.items() if one is not None}
            if given != value:
                raise ValueError(f"{key} is known where dataset is set; remove it")
        return {**raw, **known}


class SourceOptions(Options):
    """Raw data, by configuration: where it is and how its columns map."""

    interactions: tuple[InteractionSource, ...] = ()
    items: tuple[ContentSource, ...] = ()
    users: tuple[ContentSource, ...] = ()
    as_of: str | None = None
    """UTC date or ISO time, a boundary of `preferences.period`: only what had come into sight by then is read, that is
    events before it that were available by as_of + preferences.landing_delay, and content valid by then. The same log,
    read later and longer, gives the same. Absent: everything is read. `--as-of` on the command line is short for it."""
    truth: dict[Literal["users", "items"], str] = {}
    """Generated data only: Parquet files (id, vector) whose inner product is the true score."""


class QualityOptions(Options):
    """The gate at the entrance."""

    event_key: tuple[Literal["user_id", "item_id", "event_time", "action", "weight"], ...] = Field(
        ("user_id", "item_id", "event_time", "action"), min_length=1
    )
    """Rows equal in these are copies of one event: the one available first stays, the others are duplicates."""
    actions: tuple[str, ...] | None = None
    """Allowed actions; absent: any non-empty text."""
    weight_range: tuple[float, float] | None = None
    """Smallest and largest weight; absent: any finite number."""
    earliest: str = "1990-01-01"
    """Events before this (UTC date) are taken for a wrong unit or a clock at zero."""
    latest: str = "2100-01-01"
    max_quarantine_share: Share = 0.05
    """A source with a larger share of quarantined rows stops the run (exit code 3)."""


class LabelOptions(Options):
    """Which events become examples, and with what label."""

    rule: Literal["impressions", "threshold", "sampled"]
    """impressions: one example per impression, 1 when a positive action follows within label_window;
    threshold: one per positive action event, 1 when weight >= threshold;
    sampled: every positive action is a 1, and negatives are drawn from the items that existed then."""
    positive_actions: tuple[str, ...]
    impression_action: str = "impression"
    threshold: float = 4.0
    label_window: Duration = "0s"
    """How long after t a positive action still counts for the impression at t."""
    negatives: int = Field(4, ge=0, le=100)
    """Negatives drawn per positive, by the `sampled` rule."""
    max_examples: int | None = Field(None, ge=1)
    """Keep a seeded sample of this many labelled events, so that a very large log trains in bounded time."""


class SplitOptions(Options):
    """Train < validation < test, by global time. Either dates, or shares of the labelled events."""

    validation_share: Share = 0.1
    test_share: Share = 0.1
    validation_start: str | None = None
    """UTC date or ISO time; with test_start it replaces the shares."""
    test_start: str | None = None
    validation_length: Duration | None = None
    """With source.as_of, in place of dates: test is the last test_length before it, validation as long as this says
    before that. So the splits move on with the days."""
    test_length: Duration | None = None

    @model_validator(mode="after")
    def _together(self) -> "SplitOptions":
        for one, other in (("validation_start", "test_start"), ("validation_length", "test_length")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other} must be given together")
        if self.test_start is not None and self.test_length is not None:
            raise ValueError("splits must be given by dates or by lengths, got both; remove one of them")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must leave something to train on")
        return self


class StatisticOptions(Options):
    """One statistic, computed for every entity and window."""

    name: Name
    """Second part of the derived name: item_NAME_KIND_WINDOW."""
    kind: Literal["count", "sum", "mean", "rate", "days_since", "decayed", "distinct"]
    actions: tuple[str, ...] | None = None
    """Events that count; absent: all. For `rate`, the numerator."""
    of_actions: tuple[str, ...] | None = None
    """For `rate`: the denominator's events; absent: all."""
    min_weight: float | None = None
    """Only events of at least this weight (a liked rating). For `rate`, the numerator only."""
    prior_strength: float = Field(10.0, ge=0)
    """For `rate` and `mean`: pseudo-events at the training period's overall value. (n + s·prior) / (d + s)."""
    half_life: Window | None = None
    """For `decayed`: an event counts 1 when it happens and half as much after each of these. It takes no window."""
    distinct_of: Literal["user_id", "item_id"] = "item_id"
    """For `distinct`: what is counted once however often it occurs."""

    @model_validator(mode="after")
    def _decay(self) -> "StatisticOptions":
        if (self.half_life is not None) != (self.kind == "decayed") or self.half_life == LIFETIME:
            raise ValueError(
                f"half_life must be a duration such as 7d where kind is decayed, and absent elsewhere; got "
                f"{self.half_life!r} with kind: {self.kind}"
            )
        return self


class PreferenceOptions(Options):
    """Statistics of past behaviour and the two clocks they obey (docs/time.md)."""

    accuracy: Literal["snapshot", "exact"] = "snapshot"
    """snapshot: what daily serving would have had. exact: up to the event, for users who serve fresh statistics."""
    period: Duration = "1d"
    landing_delay: Duration = "1h"
    """The snapshot of b holds what was available by b + landing_delay."""
    publish_delay: Duration = "2h"
    """…and is served from b + publish_delay."""
    windows: tuple[Window, ...] = ("1d", "7d", "30d", LIFETIME)
    statistics: tuple[StatisticOptions, ...] = (StatisticOptions(name="event", kind="count"),)
    entities: tuple[str, ...] = Field(("user", "item"), min_length=1)
    """user, item, or item.COLUMN for a category or multi-category of the item (`item.genres`). Crosses of the user with
    one of the others, `user*item` or `user*item.genres`, are made for the examples, but no tower can read them."""
    recent: tuple[str, ...] = ()
    """Item content columns (category, categories) and `item_id` whose values, over the user's latest positives,
    make the user's bags `user_recent_COLUMN`."""
    recent_length: int = Field(20, ge=1)
    """How many of the latest positives a bag covers."""

    @model_validator(mode="after")
    def _distinct(self) -> "PreferenceOptions":
        for key in ("windows", "entities", "recent"):
            values = getattr(self, key)
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{key} must differ from each other, {twice} is there twice; remove one")
        return self

    @model_validator(mode="after")
    def _delays(self) -> "PreferenceOptions":
        if parse_duration(self.publish_delay) < parse_duration(self.landing_delay):
            raise ValueError(
                f"publish_delay must not be shorter than landing_delay, got {self.publish_delay} < {self.landing_delay}"
            )
        if parse_duration(self.period) == 0:
            raise ValueError("period must be longer than zero")
        return self


class FeatureOptions(Options):
    """What built features must look like. A value that its kind cannot have always stops the run (exit code 3)."""

    max_missing_share: dict[str, Share] = {}
    """Feature, or a pattern such as `item_click_*` -> largest share of examples that may lack it; a larger stops the
    run. Absent: any, because what is new has no history, and is what the model is to learn from."""
    drift_periods: int = Field(14, ge=2)
    """How far a feature drifted in a period (a day, or preferences.period where that is longer) is the distance of its
    mean, or of its missing share, from the median of so many periods before, over their usual spread. Two weeks hold
    weekdays and weekends. The first so many are not judged: a log that begins empty has time to fill."""
    drift_warning: float = Field(10.0, gt=0)
    """A larger drift is a note. Honest days of the demo, MovieLens and globo stay below 9; a handful of weeks of
    MovieLens' first years do not, when thousands of old films were first rated."""
    max_drift: float | None = Field(None, gt=0)
    """A larger drift stops the run. Absent: none does, because a sale or a holiday is no fault."""


class ContentOptions(Options):
    """How content values become model inputs. Fitted on the training period alone."""

    min_count: int = Field(2, ge=1)
    """A category seen in fewer training examples is `unknown`."""
    max_vocabulary: int = Field(20_000, ge=1)
    max_values: int = Field(16, ge=2)
    """Values kept of a multi-category or bag: the first so many, in the order given. One alone would be a category."""
    text_buckets: int = Field(4_096, ge=2)
    """Words are hashed into this many buckets."""
    max_words: int = Field(24, ge=1)
    """Words, or runs of words, kept of a text: the first so many."""
    ngrams: int = Field(1, ge=1, le=3)
    """Words of a text are hashed alone, and up to so many in a row as one: `red wine` is more than red and wine."""
    weighting: Literal["none", "idf"] = "none"
    """Of values in a bag and words in a text. idf: what few training rows hold counts more (with the mean: tf-idf)."""
    normaliser: Literal["log", "quantile"] = "log"
    """Of numbers and statistics. log: heavy tails by logarithm, then mean 0 and deviation 1; quantile: a value becomes
    its place among the training values, whatever their distribution."""


class CatalogueOptions(Options):
    """Items with their features at moments of the training period, which training draws uniform negatives from."""

    rows: int = Field(0, ge=0)
    """At most so many: a sample by keyed hash of the items that existed, with equal parts for every moment. None are
    made unless asked for: the losses draw from the batch by themselves."""
    clocks: int = Field(8, ge=1)
    """Moments: one of each of so many equal parts of the training period's clocks. An item's statistics are as of its
    moment, not of the example that it is set against; more moments bring the two closer."""


class AuditOptions(Options):
    """The proof that no future leaked."""

    sample: int = Field(200, ge=1)
    """Examples recomputed by the independent plain method."""
    cut_quantile: Share = 0.6
    """The future changed by the metamorphic check starts at this quantile of availability."""
    drop_share: Share = 0.5
    """Share of the future's events that is deleted; as many are made up and added."""
    max_feature_auc: float = Field(0.99, gt=0.5, le=1)
    """A feature that alone tells positives from negatives better than this states the label. Honest ones come close
    where negatives are drawn: clicks in the last hours against a whole catalogue of old news reach 0.978 (globo)."""
    thorough: bool = False
    """For releases: further cuts, every row built again from rows in another order, larger samples (--thorough)."""


class RecordOptions(Options):
    """TFRecord shards."""

    num_shards: int = Field(8, ge=1, le=4096)
    writer: Literal["spark", "beam"] = "spark"
    """The engine that shuffles and writes. Both write the same bytes. Beam holds a shard in memory while it sorts it;
    Spark spills."""
    compression: Literal["", "GZIP"] = ""
    max_serial_correlation: float = Field(0.05, gt=0)
    """The shuffle check fails when event time's |correlation at lag 1| is larger (or 4/sqrt(n), for few rows)."""


class FactorOptions(Options):
    """Reference factors of users and items (`thaw compute_factors`): implicit ALS on the training period. Present in a
    configuration: `thaw run` fits them, for training to reconstruct or to read, and for two more
    baselines (ALS, ridge)."""

    rank: int = Field(64, ge=1, le=1024)
    """Numbers of a vector. Larger catalogues bear more: CiteULike's 17,000 articles are best served by 200."""
    alpha: float = Field(10.0, gt=0)
    """A positive pair counts 1 + alpha times as much as one of which nothing is known."""
    regularisation: float = Field(0.1, ge=0)
    """Of each vector, times the number of its positives."""
    iterations: int = Field(15, ge=1)
    blocks: int = Field(1, ge=1)
    """Blocks of users, and of items, that Spark solves side by side. One gives the same vectors to the bit every time;
    with more, a cluster is faster and last digits may differ from run to run."""
    until: str | None = None
    """UTC date or ISO time before which the positives lie; absent: the training period's end. Rows from there on may
    read the vectors as inputs in any kind of training (`model.factors`)."""


class ModelOptions(Options):
    """The two towers."""

    embedding_dim: int = Field(16, ge=1)
    """Width of a category embedding."""
    content_units: tuple[Count, ...] = (64,)
    preference_units: tuple[Count, ...] = (64,)
    tower_units: tuple[Count, ...] = (128, 64)
    """Hidden widths, then the embedding: the last is the size of what is retrieved with."""
    preference_dropout_end: Share | None = None
    """`preference_dropout` in the last epoch of training.epochs; it goes there in a straight line. Absent: it stays."""
    side_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability that all of a side's preference is replaced at once: a new user or item among known ones."""
    field_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of each statistic, bag and vector of a preference to be taken for missing on its own."""
    pooling: Literal["mean", "max", "sum"] = "mean"
    """Of the embeddings of a bag's values or a text's words. sum: a longer bag weighs more."""
    linear_path: bool = False
    """A linear map of each part, to which the hidden layers add what it lacks, starting from nothing. Both sides start
    with the same maps: parts that they have in common (factors, vectors of content and their mean over a user's items)
    are compared from the first step on. With content_units and preference_units empty, it sees the inputs."""
    foretell: bool = False
    """A missing preference part is foretold from the side's content: a learned linear map, which starts at zero, is
    added to the one vector that stands for it. With linear_path a new item goes where known ones of its content lie."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """What scores are made of. cosine: embeddings have length 1, so that no item wins by its length alone; dot: lengths
    are learned, as the scores of reference factors have them."""
    calibrate: bool = False
    """Fit slope and intercept of the click's log odds by the score (Platt) on the validation rows, after training: for
    losses other than pointwise alone, whose scores are no log odds."""
    factors: bool = False
    """Towers read the reference factors (`factors`) with the entity's behaviour, missing where there are none. A vector
    is an input of rows from `factors.until` on; of earlier ones in reconstruction alone, which looks at no label."""
    preference_dropout: Share = 0.5
    """Probability that an entity's preference part (the item's own, its category's) is replaced by a learned `missing`
    (DropoutNet), each by a coin of its own: docs/decisions/behaviour-is-dropped-by-entity.md. At 1, with no
    other end, behaviour is never read, nor in serving: content alone."""
    leave_out: tuple[str, ...] = ()
    """Inputs that are in the records and no tower reads, by their names: `item_image`, `item_numbers` (all numbers of a
    side's content), `user_statistics`. To see what they are worth: docs/training.md."""
    missing: Literal["learned", "zero"] = "learned"
    """What stands for a preference part that is missing. learned: a vector, and a mask that says so; zero: zeros and no
    mask, as in the paper, which cannot be told from behaviour that happens to be read as zeros."""


class LossOptions(Options):
    """Weights of the losses that are summed, and their settings."""

    pointwise: float = Field(1.0, ge=0)
    """Is the item, shown to the user, a positive? It makes scores probabilities."""
    softmax: float = Field(1.0, ge=0)
    """Each positive against negatives from the batch and the catalogue."""
    support_vector: float = Field(0.0, ge=0)
    """The same with `margin` taken off the positive, and negatives that come near it enlarged by `hardness`."""
    pairwise: float = Field(0.0, ge=0)
    """Of two rows, the one with the higher label scores higher."""
    reconstruction: float = Field(0.0, ge=0)
    """Scores are those of a reference model; the rows must bring its scores or its factors."""
    in_batch: Literal["mined", "all"] = "mined"
    """Negatives from the batch: `num_negatives` of a random window, or the items of all rows. All of 4,096 rows cost
    more than a step's towers; all of a few hundred cost little."""
    num_negatives: int = Field(20, ge=1)
    """Mined per positive; at most half of the batch."""
    mask_known: bool = True
    """No item is a negative of a user with a positive of it anywhere in the training rows. False: anywhere in the
    batch."""
    log_q: bool = False
    """Correct for negatives that come as often as their item has rows, so that popular items are not pushed down for
    it: the model learns what is popular as well as what fits. Off, because alone it favours items with a past; it goes
    with catalogue_negatives, which show items as ranking meets them."""
    catalogue_negatives: int = Field(0, ge=0)
    """Items drawn uniformly from the records' catalogue at each step, negatives of every positive of the batch
    (`catalogue.rows`). They show what is rarely or never in the log, which no batch does."""
    temperature: float = Field(1.0, gt=0)
    """What logits are divided by; the learned scale already sharpens them, so 1 leaves it alone."""
    margin: float = Field(0.0, ge=0, le=2)
    """Cosine by which a positive has to win, of support_vector and pairwise."""
    hardness: float = Field(1.2, ge=1)
    """t of support_vector; the paper's value, and 1 enlarges nothing."""
    pairs: Literal["user", "batch"] = "user"
    """Which rows pairwise compares. Rows of different users also teach which users like much, which ranks no item."""


class TrainingOptions(Options):
    """Fitting."""

    batch_size: int = Field(1024, ge=2)
    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    """Of Adam, for all weights but embedding tables."""
    table_learning_rate: float = Field(0.01, gt=0)
    """Of Adagrad, for the rows of embedding tables that a batch looks up: a row's first step has this length, and its
    values start at about a quarter. Of 0.01 to 0.05 the smallest did best on the validation rows of the training-step
    benchmark; the demo takes 0.05."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """cosine: both rates go down to 0 along half a cosine, step by step until the last of `epochs`, which must then be
    as many as are worth running. constant, because a run that stops by `patience` never sees the low rates."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What layers compute in while training; weights and the saved model stay float32. mixed_bfloat16 is for GPUs and
    CPUs that multiply it faster."""
    patience: int = Field(2, ge=0)
    """Epochs without a better validation result before stopping; the best epoch's weights are kept."""
    losses: LossOptions = LossOptions()
    start_from: RegisteredModel | None = None
    """A registered scorer whose weights training starts from: models:/NAME/VERSION or models:/NAME@ALIAS (`--from`).
    Absent: from scratch."""
    allow_unaudited: bool = False
    """True: train on records of examples that no audit has passed, for a quick trial while features are developed. The
    run and the registered version are marked `unaudited`, and such a version is never promoted."""


class EvaluationOptions(Options):
    """Evaluation by the clock: an example at t ranks the items that existed at t, with the statistics served at t."""

    ks: tuple[Count, ...] = Field((10, 50, 100), min_length=1)
    """Lengths of the lists that recall, NDCG and hit rate look at. NDCG@10 is always reported too."""
    max_clocks: int = Field(200, ge=1)
    """Evaluate a seeded sample of this many clocks per split. A daily clock rarely reaches it; an exact one has a
    clock per example."""
    filter_seen: bool = True
    """Leave out items that the user has a known positive with."""
    bootstrap: int = Field(200, ge=10)
    """Resamples of users behind each interval."""
    age_slices: bool = False
    """Also report by the item's age, and by the number of past positives of the item and of the user."""
    popularity: str | None = None
    """Item statistic that ranks the popularity baseline; absent: past positives."""
    against: RegisteredModel | None = None
    """A registered model to compare with, models:/NAME/VERSION or models:/NAME@ALIAS: both rank the same examples, and
    their differences are paired. Absent: none. `--against` on the command line is short for it."""


class AblationOptions(Options):
    """What `thaw ablate` changes, one thing at a time. Every variant trains on the same records; keys are those of
    `model` and `training`, or of `classifier`, written as for --set."""

    vary: dict[str, tuple[Any, ...]] = {}
    """Option -> the values it is to take: `model.preference_dropout: [0, 0.5, 1]`."""
    variants: dict[str, dict[str, Any]] = {}
    """Name -> options that change together: `pointwise alone: {training.losses.softmax: 0}`."""
    seeds: int = Field(5, ge=1)
    """Trainings of each variant: the configured seed, and those after it. Five show how far seeds are apart."""
    train_shards: int | None = Field(None, ge=1)
    """Train on the first so many shards: records are shuffled globally, so they are a sample of all. Absent: on all."""

    @model_validator(mode="after")
    def _within_training(self) -> "AblationOptions":
        keys = [*self.vary, *(key for changes in self.variants.values() for key in changes)]
        for key in keys:
            if key.partition(".")[0] not in ("model", "training", "classifier") or "." not in key:
                raise ValueError(
                    f"what is varied must be an option of `model`, `training` or `classifier`, because all variants "
                    f"train on the same records, got {key!r}; to compare other options, run `thaw run` once for each"
                )
        if self.of_classifiers and not all(key.startswith("classifier.") for key in keys):
            raise ValueError(
                f"what is varied must be options of `classifier` alone or of the towers alone, got {sorted(keys)}; run "
                "`thaw ablate` once for each"
            )
        return self

    @property
    def of_classifiers(self) -> bool:
        """Whether classifiers are trained, on image records, in place of towers."""
        return any(
            key.startswith("classifier.") for key in (*self.vary, *(k for c in self.variants.values() for k in c))
        )


class TrackingOptions(Options):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; absent: SQLite under the output folder."""
    experiment: str = "thaw"
    model_name: str | None = Field(None, pattern=r"^[^/:]+$")
    """Registered model; absent: the configuration's name."""


class ComparisonOptions(Options):
    """How a challenger is held against the champion on one slice of the test examples.

    Both rank the same examples, and users are resampled for both together: the 95 % interval is of the difference,
    challenger minus champion. One end of it decides.
    """

    max_loss: Share = 0.0
    """The difference may fall below zero by this share of the champion's metric."""
    bound: Literal["low", "value", "high"] = "high"
    """high: refused is who is shown to be worse, even the upper end is below what may be lost. low: refused is who is
    not shown to be as good, the lower end is below; that takes many users, or some max_loss. value: the difference
    itself, whatever its interval. With fewer than five users there is no interval, and the value decides."""


class PromotionOptions(Options):
    """When a challenger becomes champion."""

    metric: str = "ndcg@10"
    """One of which more is better."""
    slice: str = "all"
    min_lift_over_popularity: float | None = None
    """Required ratio of the metric to the popularity baseline's on the test split; absent: not required."""
    max_loss_against_champion: Share = 0.02
    """The metric may be lower than the champion's by at most this share. Both are measured anew, on the same examples
    of the challenger's test period; classifiers by their accuracy, on the validation images."""
    against_champion: dict[str, ComparisonOptions] = {
        "cold_item": ComparisonOptions(),
        "warm": ComparisonOptions(max_loss=0.02),
    }
    """Slice -> how the metric is held against the champion's there, besides `slice` as a whole. New items are what Thaw
    is for: on them a challenger must not be shown to be worse at all, on what is known by 2 % at most. A slice without
    test examples is not compared. {}: none is."""
    served_sample: int = Field(200, ge=1)
    """Test examples that the registered model scores from raw values, as MLflow serves it: the trained towers must give
    their records the same scores."""

    @model_validator(mode="after")
    def _more_is_better(self) -> "PromotionOptions":
        if self.metric == "calibration_error":
            raise ValueError("metric must be one of which more is better, got calibration_error; choose auc or ndcg@10")
        return self


class IndexOptions(Options):
    """How a user's best items are found. Exact search reads every item, some thousand users a second of 50,000."""

    kind: Literal["exact", "hnsw", "ivf"] = "exact"
    """exact: every item is read, none is missed. hnsw: a graph of neighbours; ivf: cells of which the nearest are read.
    Both miss some; recommendations then hold the Faiss index too, and how much of the exact lists it found."""
    links: int = Field(32, ge=2, le=256)
    """Of hnsw: neighbours an item keeps. More find more, and take memory."""
    construction: int = Field(200, ge=1)
    """Of hnsw: items looked at to find an item's neighbours."""
    search: int = Field(128, ge=1)
    """Of hnsw: items looked at for a user."""
    cells: int | None = Field(None, ge=1)
    """Of ivf: cells; absent: four times the square root of the number of items, as Faiss advises."""
    probes: int = Field(16, ge=1)
    """Of ivf: cells read for a user."""
    sample: int = Field(1_000, ge=1)
    """Users, drawn by seed, whose lists are compared with the exact ones."""


class RecommendOptions(Options):
    """Batch recommendations for every known user."""

    k: int = Field(20, ge=1)
    """Length of a list. A shorter one has all that is left of the catalogue."""
    filter_seen: bool = True
    """Leave out items that the user has a positive with."""
    index: IndexOptions = IndexOptions()


class SparkOptions(Options):
    """The embedded Spark session. Under spark-submit, the cluster's own settings win."""

    master: str = "local[2]"
    driver_memory: str = "2g"
    shuffle_partitions: int = Field(8, ge=1)
    connect_timeout_s: float = Field(10.0, gt=0)
    """How long a standalone master that does not answer is tried."""
    executors_timeout_s: float = Field(300.0, gt=0)
    """How long the first executor may take to come: a cluster that has no room for one keeps a job waiting for ever."""
    settings: dict[str, str] = {}
    """Any further Spark properties."""


class BeamOptions(Options):
    """How Beam pipelines run. `--runner NAME` on a job's command line overrides `runner`."""

    runner: str = "local"
    """`local`: Beam's own Python runner, in processes of this machine; else a runner that Beam knows (FlinkRunner,
    SparkRunner, DataflowRunner, PortableRunner, …). Those of Java fetch a jar unless `options` name one."""
    workers: int = Field(0, ge=0)
    """Processes of the local runner; 0: one a core. One alone works within this process."""
    options: dict[str, Any] = {}
    """Any further pipeline options, such as `flink_master: host:8081`; a list gives an option several times."""


class CheckpointOptions(Options):
    """How often a training saves how far it is, so that one that is killed goes on from there (docs/training.md).
    Nothing of its result depends on it. One that is asked to stop, by SIGTERM or Ctrl-C, saves first."""

    minutes: float | None = Field(5.0, gt=0)
    """After so many minutes of training: what a kill costs at most. A checkpoint has some four times the bytes of the
    dense weights and twice those of embedding tables, and the training waits until they are written; null: not by the
    clock."""
    steps: Count | None = None
    """After so many steps, too. Absent: by the clock alone, whatever a step takes."""
    keep: Count = 2
    """So many of the latest are kept: where the last is damaged, the one before it is taken."""


class StorageOptions(Options):
    """Published Parquet."""

    parquet_files: int = Field(4, ge=1)
    """Files per table. A fixed number, so that a dataset's bytes do not depend on the parallelism that made it."""


Split = Literal["train", "validation", "test"]


class ImageSource(Options):
    """Where images are: class folders (or an archive of them), a table of paths, or IDX files."""

    path: str
    """Relative to --data. folders: a folder, or a .tar, .tar.gz or .tgz, that holds a folder a class; files: one that
    holds images of no class, however deep; table: a CSV or Parquet file; idx: the file of images, plain or .gz."""
    format: Literal["folders", "files", "table", "idx"] = "folders"
    split: Split | None = None
    """The split of all its images. Absent: what `folders` or `split_column` say, else cut by seed."""
    folders: dict[Split, str] = {}
    """Of folders: split -> folder within `path` that holds the class folders. Absent: `path` itself holds them."""
    labels: str | None = None
    """Of idx: the file of labels."""
    image: str | None = None
    """Of a table: column of each image's path, relative to `root`; …"""
    root: str | None = None
    """… a folder, or an archive, relative to --data (absent: the table's own folder); …"""
    label: str | None = None
    """… column of the class; …"""
    split_column: str | None = None
    """… column of the split (train, validation, test); …"""
    item_id: str | None = None
    """… column of the item that the image shows; absent: made of the file's name (images.embed.item_id); …"""
    valid_from: TimeColumn | None = None
    """… column of the time from which the image was there; …"""
    separator: str = Field(",", min_length=1, max_length=1)
    """… what separates the columns of a CSV."""

    @model_validator(mode="after")
    def _fits_format(self) -> "ImageSource":
        owner = {"folders": "folders", "labels": "idx"} | dict.fromkeys(
            ("image", "root", "label", "split_column", "item_id", "valid_from"), "table"
        )
        for key, belongs in owner.items():
            if getattr(self, key) and self.format != belongs:
                raise ValueError(f"{key} belongs to format: {belongs}, got format: {self.format}; remove one of them")
        if self.format == "table" and self.image is None:
            raise ValueError("a table of images must say which column holds the paths; set image")
        if self.split and (self.folders or self.split_column):
            raise ValueError("split is that of all images of a source; remove it, or folders and split_column")
        if self.valid_from and self.valid_from.unit == "format":
            raise ValueError("valid_from of images must be an epoch or ISO 8601; write it so, and set unit")
        return self


class EmbedOptions(Options):
    """How images become content vectors of items (`thaw embed_content`)."""

    model: str | None = None
    """A .keras file; `--model` on the command line overrides it. Absent: the workspace's own classifier, which `thaw
    run` trains on the images where items read the vectors."""
    layer: str | None = None
    """Name of the layer whose output is the vector; absent: the model's output, of the own classifier `features`."""
    value_range: tuple[float, float] = (0.0, 255.0)
    """What the model takes black and white to be. As it is for a model that scales pixels itself."""
    item_id: Literal["stem", "path"] = "stem"
    """Where the source names no item: the file's name without its ending, or the whole path."""
    valid_from: str | None = None
    """UTC date or ISO time before which no vector may be used, such as the end of the encoder's training where it saw
    the log. An image with a later time of its own keeps it. With neither, a vector applies always."""


class ImageOptions(Options):
    """Images to records (`thaw write_image_records`) and to content vectors (`thaw embed_content`)."""

    sources: tuple[ImageSource, ...] = Field(min_length=1)
    height: int = Field(ge=1, le=8192)
    width: int = Field(ge=1, le=8192)
    channels: Literal[1, 3] = 3
    """3: RGB; 1: luminance."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How another shape is fitted: both sides alone; the centre kept, the rest cut off; or black bars added."""
    classes: tuple[str, ...] | None = None
    """Class names in the order of their numbers; absent: those there are, sorted."""
    validation_share: Share = 0.1
    """Share of the training images cut off for validation by a keyed hash of their ids; none where a source gives a
    validation split."""
    test_share: Share = 0.1
    """Share of the images whose source gives no split, likewise."""
    max_quarantine_share: Share = 0.05
    """A larger share of unreadable images stops the job (exit code 3)."""
    max_pixels: int = Field(64_000_000, ge=1)
    """A larger image is set aside unread: a small file can ask for any amount of memory."""
    learn_undated: bool = False
    """Whether the encoder that `thaw run` trains may learn from images whose source says no time. True only where all
    of them are from before split.validation_start, which nothing here can check."""
    block_images: int | None = Field(None, ge=1)
    """Images that a worker holds at a time; absent: as many as make 8 MiB of pixels, at most 512."""
    embed: EmbedOptions = EmbedOptions()

    @model_validator(mode="after")
    def _consistent(self) -> "ImageOptions":
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must differ from each other, got {list(self.classes)}")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must leave something to train on")
        return self

    @property
    def block_rows(self) -> int:
        """Images of a block."""
        return self.block_images or max(1, min(512, (8 << 20) // (self.height * self.width * self.channels)))


class TrickOptions(Options):
    """Parts of a convolutional network that may be switched on, each by itself."""

    squeeze_excitation: int = Field(0, ge=0)
    """Gates a channel by all of the image, with a layer this many times narrower between; 16 is usual, 0 switches it
    off. About a tenth more parameters, hardly any multiply-adds."""
    blur_pool: bool = False
    """Blur before every n-th pixel is taken, so that a shift by one pixel changes less."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of images for which the last residual branch is left out in training, less for earlier ones. For deep
    networks that overfit; plain, mobilenet_v1 and shufflenet_v2 have no residual branches and refuse it."""


class ClassifierLossOptions(Options):
    """What a classifier is trained for."""

    name: Literal["cross_entropy", "multiclass_svm"] = "cross_entropy"
    """cross_entropy: scores become probabilities; multiclass_svm: the right class has to win by a margin."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Of cross_entropy: share of each label that is spread over all classes; 0.1 is usual for deep networks."""
    margin: float = Field(1.0, gt=0)
    """Of multiclass_svm: by how much. It trades off against l2 alone, so 1 need not be changed."""
    squared: bool = False
    """Of multiclass_svm: square what is lacking, so that large misses cost more and small ones less."""
    form: Literal["weston_watkins", "one_vs_all"] = "weston_watkins"
    """Of multiclass_svm. weston_watkins: against each other class; one_vs_all: each class against all the rest."""
    l2: float = Field(0.0, ge=0)
    """Times the sum of squared weights, added to the loss. Biases and normalisation are left alone."""


class ScheduleOptions(Options):
    """The learning rate over the steps of a training."""

    name: Literal["constant", "exponential", "steps", "cosine", "one_cycle", "power_cosine"] = "constant"
    """exponential: by `factor` over the whole training; steps: by `factor` at each of `milestones`; cosine: down along
    half a wave; one_cycle: up, then down to almost nothing; power_cosine: cycles that fall fast at first."""
    learning_rate: float = Field(0.001, gt=0)
    """The largest one."""
    factor: float = Field(0.1, gt=0, le=1)
    """Of exponential and steps."""
    milestones: tuple[Share, ...] = (0.5, 0.75)
    """Of steps: shares of the training."""
    warm_up: float = Field(0.3, ge=0, lt=1)
    """Of one_cycle and power_cosine: share of the training in which it rises."""
    cycles: Count = 1
    """Of power_cosine: how often it starts again, …"""
    decay: float = Field(1.0, gt=0, le=1)
    """… from this share of where it started before, …"""
    power: float = Field(10.0, ge=1)
    """… and how fast it falls at first; 1: a plain cosine."""


class OptimizerOptions(Options):
    """How a classifier's weights move."""

    name: Literal["sgd", "adamw"] = "adamw"
    """sgd: with momentum, of Nesterov's kind; adamw: Adam, which asks less of the learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled: weights shrink by this times the learning rate a step. Biases and normalisation are left alone."""


class AugmentOptions(Options):
    """What is done to training images, each by itself. A network that overfits gains, a small one may lose."""

    flip: bool = False
    """Left and right exchanged in half of them. Not for digits and letters."""
    crop: int = Field(0, ge=0)
    """Moved by up to so many pixels, fewer than the shorter side has; what comes in is black. 4 is usual for images of
    32."""
    rand_augment: int = Field(0, ge=0, le=8)
    """Random changes of colour and shape an image (Cubuk et al. 2020); 2 is usual, each takes time in every step, …"""
    magnitude: Share = 0.3
    """… and how strong they are."""
    erasing: Share = 0.0
    """Share of images of which a random rectangle is filled with noise (Zhong et al. 2020)."""
    mixup: float = Field(0.0, ge=0)
    """Two images laid over each other, and their labels with them, in shares drawn from Beta(mixup, mixup) (Zhang et
    al. 2018); 0.2 is usual, 0 switches it off."""
    cutmix: float = Field(0.0, ge=0)
    """A rectangle of one image put into another, and as much of its label (Yun et al. 2019); 1 is usual. With mixup
    too, each batch takes one of them by a coin."""


class NeighbourOptions(Options):
    """Of the family nearest."""

    k: Count = 5
    """Neighbours that vote."""
    distance: Literal["l1", "l2"] = "l2"
    """l1: sum of differences; l2: Euclidean."""


Family = Literal[
    "nearest", "linear", "two_layer", "plain", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"
]
FLAT: tuple[Family, ...] = ("nearest", "linear", "two_layer")
"""Families to which an image is a vector of pixels; the others are networks of convolutions."""


class ClassifierOptions(Options):
    """A classifier of images, or of items by their content. Its last layer but one makes content vectors."""

    family: Family = "linear"
    """nearest, linear and two_layer also take content columns; they are the first to try, and what others must beat.
    plain: 3 × 3 convolutions, which train fastest on a CPU."""
    label: str | None = None
    """Of `thaw train_content_classifier`: the category of items that it tells from their other content."""
    neighbours: NeighbourOptions = NeighbourOptions()
    width: float = Field(1.0, ge=0.05)
    """Of convolutional networks: share of the paper's channels. Cost grows with its square; shufflenet_v2 has 0.5, 1,
    1.5 and 2."""
    groups: Literal[1, 2, 3, 4, 8] = 3
    """Of shufflenet_v1's pointwise convolutions, the paper's choice; more groups have more channels at equal cost."""
    stem: Literal["large", "small"] = "large"
    """large: the paper's, for images of some 224 pixels, which it halves twice at once; small: without the first two
    halvings, for images of some 32 pixels."""
    hidden: Count = 100
    """Of two_layer: units between."""
    embedding_dim: Count = 16
    """Of content: width of a category's or word's embedding."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the vector before the last layer, in training."""
    batch_size: int = Field(128, ge=2)
    epochs: Count = 10
    """Passes over the training images. The best on validation is kept."""
    minutes: float | None = Field(None, gt=0)
    """Stop after so many minutes of training, even before `epochs` are over, and lower the rate so that it ends
    with them. Results then depend on the machine. Absent: no limit."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Keep a mean of the weights that forgets by this factor a step, and use it in the end; 0.999 is usual, 0 switches
    it off."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What layers compute in while training."""
    tricks: TrickOptions = TrickOptions()
    augment: AugmentOptions = AugmentOptions()
    loss: ClassifierLossOptions = ClassifierLossOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()

    @model_validator(mode="after")
    def _fits_family(self) -> "ClassifierOptions":
        if self.tricks.drop_path and self.family not in ("mobilenet_v2", "shufflenet_v1"):
            raise ValueError(
                f"tricks.drop_path must be 0 for {self.family}, which has no residual branches, got "
                f"{self.tricks.drop_path}; remove it, or set family to mobilenet_v2 or shufflenet_v1"
            )
        if self.family in FLAT and (self.tricks.squeeze_excitation or self.tricks.blur_pool):
            raise ValueError(f"tricks belong to convolutional networks, family is {self.family}; remove them")
        return self


class SearchOptions(Options):
    """What `thaw search` tries, and for how long. `minutes` or `trials` must be set; what comes first ends it."""

    minutes: float | None = Field(None, gt=0)
    """Of trials and the last training together. Which trials there are then depends on the machine."""
    trials: Count | None = None
    """How many options are tried; with this alone, equal seeds try the same ones."""
    final_share: Share = 0.4
    """Share of `minutes` that is kept for training the best options."""
    trial_share: float = Field(0.04, gt=0, le=1)
    """Share of `minutes` after which a trial is stopped: of 20 minutes, 48 seconds, so that 15 trials fit."""
    families: tuple[Family, ...] = Field(typing.get_args(Family), min_length=1)
    """Families to try. Each is tried once, as it is usually trained, before any is tried again."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How the next options are chosen. tpe: by what is known of those tried (Bergstra et al., NIPS 2011)."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """When a trial is given up. median: when it is worse than half of its family's trials were after as many epochs;
    hyperband: when it is not among the best third after 1, 3, 9, … epochs (Li et al. 2018), for many trials."""
    epochs: Count | None = None
    """Of a trial, at most. Absent: 8, or more where images are few: as many as see 30,000 images."""
    final_epochs: Count | None = None
    """Of the last training, at most; it keeps its best epoch. Absent: five times those of a trial."""
    train_images: Count | None = 10_000
    """Training images of a trial: the first so many, a sample since records are shuffled globally. Absent: all."""
    folds: int | None = Field(None, ge=2)
    """Each trial is trained so many times, each time on all but one part of train and validation together, and is worth
    the mean accuracy on the parts left out after the last epoch (k-fold cross-validation). Absent: once, measured on
    validation, where the best epoch counts."""
    neighbours: tuple[Count, ...] = Field((1, 3, 5, 7, 9, 13, 19, 27, 39), min_length=1)
    """Of the family nearest: numbers of neighbours, of which cross-validation chooses."""
    neighbour_folds: int = Field(5, ge=2)
    """Its folds, where `folds` is absent."""


class ClassifierEvaluationOptions(Options):
    """What `thaw evaluate_classifier` measures."""

    split: Literal["validation", "test"] = "validation"
    """Choose on validation, as often as you like. Test tells how good the choice is, once: after another classifier was
    measured on its images, it is refused. `--split` on the command line is short for it."""
    again: bool = False
    """Measure on test images that another classifier was measured on: whoever chooses between the two by that has no
    test images left. `--again` is short for it."""
    bootstrap: int = Field(1000, ge=10)
    """Resamples of the images behind each interval."""
    mistakes: int = Field(24, ge=0)
    """Pictures of wrong images to keep: those that the classifier was surest of."""
    neighbours: int = Field(6, ge=0)
    """Images to keep with the training images nearest to them."""


class ClassifyOptions(Options):
    """What `thaw classify` scores, and by which model, which says what height, width and channels it takes."""

    model: RegisteredModel | None = None
    """A registered classifier, models:/NAME/VERSION or models:/NAME@ALIAS; absent: the current one of the workspace.
    `--model` on the command line is short for it."""
    sources: tuple[ImageSource, ...] = ()
    """Where images are, as in `images.sources`, whose labels are not read; absent: every file under --data."""
    top: Count = 5
    """Classes to list for each image, the likeliest first."""


_TAKEN = {
    "user_id", "item_id", "id", "valid_from", "created_at", "title", "source", "file", "reason", "row", "copy",
}  # fmt: skip
"""Columns that a content table, judged or clean, has besides its content."""


class Config(Options):
    """Everything a run depends on."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Lower-case letters, digits and underscores."""
    seed: int = Field(ge=0)
    demo: DemoOptions | None = None
    source: SourceOptions = SourceOptions()
    quality: QualityOptions = QualityOptions()
    labels: LabelOptions
    split: SplitOptions = SplitOptions()
    preferences: PreferenceOptions = PreferenceOptions()
    features: FeatureOptions = FeatureOptions()
    content: ContentOptions = ContentOptions()
    catalogue: CatalogueOptions = CatalogueOptions()
    audit: AuditOptions = AuditOptions()
    records: RecordOptions = RecordOptions()
    factors: FactorOptions | None = None
    model: ModelOptions = ModelOptions()
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    ablation: AblationOptions = AblationOptions()
    tracking: TrackingOptions = TrackingOptions()
    promotion: PromotionOptions = PromotionOptions()
    recommend: RecommendOptions = RecommendOptions()
    spark: SparkOptions = SparkOptions()
    beam: BeamOptions = BeamOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    storage: StorageOptions = StorageOptions()
    images: ImageOptions | None = None
    classifier: ClassifierOptions = ClassifierOptions()
    classifier_evaluation: ClassifierEvaluationOptions = ClassifierEvaluationOptions()
    classify: ClassifyOptions = ClassifyOptions()
    search: SearchOptions = SearchOptions()

    @model_validator(mode="before")
    @classmethod
    def _images_alone(cls, raw: Any) -> Any:
        # Images without a log have no events to label.
        if isinstance(raw, dict) and raw.get("images") and not {"labels", "source", "demo"} & set(raw):
            return {**raw, "labels": {"rule": "sampled", "positive_actions": []}}
        return raw

    @model_validator(mode="before")
    @classmethod
    def _counted_back(cls, raw: Any) -> Any:
        """Lengths of splits as dates, where `source.as_of` says what they are counted back from."""
        source, split = (raw.get(name) if isinstance(raw, dict) else None for name in ("source", "split"))
        if not isinstance(source, dict) or not isinstance(split, dict):
            return raw
        as_of, lengths = source.get("as_of"), [split.get(f"{name}_length") for name in ("test", "validation")]
        dates = [split.get(f"{name}_start") for name in ("test", "validation")]
        if as_of is None or None in lengths or dates != [None, None]:
            return raw
        try:
            end = utc_microseconds(str(as_of), "source.as_of")
            back = [parse_duration(str(length)) for length in lengths]
        except (ConfigError, ValueError):
            return raw  # told by the options themselves
        starts = {"test_start": _iso(end - back[0]), "validation_start": _iso(end - sum(back))}
        return {**raw, "split": {k: v for k, v in split.items() if not k.endswith("_length")} | starts}

    @property
    def horizon(self) -> Horizon | None:
        """What `source.as_of` lets be seen; None where everything is."""
        if self.source.as_of is None:
            return None
        as_of = utc_microseconds(self.source.as_of, "source.as_of")
        return Horizon(as_of, as_of + parse_duration(self.preferences.landing_delay))

    @model_validator(mode="after")
    def _sight(self) -> "Config":
        if self.split.test_length is not None and self.source.as_of is None:
            raise ValueError(
                f"split.test_length must have a source.as_of to be counted back from, got {self.split.test_length} and "
                "none; set --as-of, or split.validation_start and split.test_start"
            )
        try:
            horizon = self.horizon
        except ConfigError as error:
            raise ValueError(str(error)) from None
        period = parse_duration(self.preferences.period)
        if horizon and self.preferences.accuracy == "snapshot" and horizon.as_of % period:
            raise ValueError(
                "source.as_of must be a boundary, a whole multiple of preferences.period since 1970, got "
                f"{self.source.as_of}; the one before it is {_iso(horizon.as_of - horizon.as_of % period)}"
            )
        return self

    def content_kinds(self, side: Literal["user", "item"]) -> dict[str, ContentKind]:
        """Content column -> kind, over all the side's sources, in the order declared."""
        sources = self.source.users if side == "user" else self.source.items
        return {name: column.kind for source in sources for name, column in source.columns.items()}

    @model_validator(mode="after")
    def _factors(self) -> "Config":
        if self.factors is not None and self.factors.until is not None:
            try:
                utc_microseconds(self.factors.until, "factors.until")
            except ConfigError as error:
                raise ValueError(str(error)) from None
        readers = {
            "model.factors": self.model.factors,
            "training.losses.reconstruction": self.training.losses.reconstruction,
        }
        if self.model.factors and self.training.losses.catalogue_negatives:
            raise ValueError(
                "model.factors must be false where training.losses.catalogue_negatives draws items, which carry no "
                "factors: the model would learn that an item without one is a negative; set one of them to its default"
            )
        for key, asked in readers.items():
            if asked and self.factors is None:
                raise ValueError(f"factors must be set where {key} is; add `factors: {{rank: 64}}`, or remove {key}")
        return self

    @model_validator(mode="after")
    def _references(self) -> "Config":
        for side, sources in (("user", self.source.users), ("item", self.source.items)):
            names = [name for source in sources for name in source.columns]
            if taken := sorted(_TAKEN & {name.lower() for name in names}):
                raise ValueError(
                    f"content columns must not be called {taken}, {side} columns are: tables here have columns of that "
                    f"name already; call it otherwise and say what it reads, such as my_{taken[0]}: "
                    f"{{kind: …, column: {taken[0]}}}"
                )
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"a content column must come from one source; {side} columns {twice} come from several"
                )
            for source in sources:
                for name, column in source.columns.items():
                    if (column.column or name) == source.id and column.pattern is None:
                        raise ValueError(
                            f"content must not be the raw id, {side} column {name!r} is; remove it: "
                            "a model that reads ids cannot rank what is new"
                        )
        if self.training.losses.catalogue_negatives and not self.catalogue.rows:
            raise ValueError(
                "catalogue.rows must be above 0 where training.losses.catalogue_negatives is, got 0: there would be "
                "nothing to draw from; set catalogue.rows to 20000, for example"
            )
        losses = self.training.losses
        if losses.catalogue_negatives and not (losses.softmax or losses.support_vector):
            raise ValueError(
                "training.losses.catalogue_negatives must be 0 where neither softmax nor support_vector has a weight, "
                f"as no other loss looks at them, got {losses.catalogue_negatives}; give one of them a weight"
            )
        if losses.support_vector and self.model.similarity == "dot":
            raise ValueError(
                "training.losses.support_vector must be 0 where model.similarity is dot: its margin is one of cosines; "
                "set model.similarity to cosine, or use softmax"
            )
        if self.labels.rule == "sampled" and not self.labels.negatives and self.training.losses.pointwise:
            raise ValueError(
                "labels.negatives must be at least 1 where the pointwise loss learns from sampled labels, got 0: all "
                "labels would be 1; set labels.negatives, or training.losses.pointwise to 0"
            )
        kinds = self.content_kinds("item")
        bags = [name for name, kind in kinds.items() if kind in ("category", "categories")]
        for entity in self.preferences.entities:
            of_items = ["item", *(f"item.{name}" for name in bags)]
            valid = ["user", *of_items, *(f"user{CROSS}{other}" for other in of_items)]
            if entity not in valid:
                raise ValueError(f"preferences.entities must be among {valid}, got {entity!r}")
        for recent in self.preferences.recent:
            if recent not in bags and recent != "item_id":
                raise ValueError(f"preferences.recent must be among {['item_id', *bags]}, got {recent!r}")
        return self


class _Loader(yaml.SafeLoader):
    """YAML, but a date stays the text that was written: all times here are text with rules of their own."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _from_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


_SECRET = r"secret|password|passwd|token|credential|signature|(?:account|access|api|private)[._-]?key"
_SECRET_KEY = re.compile(rf"{_SECRET}|\.(?:.*[._-])?key$", re.IGNORECASE)
"""The last: an engine's setting, such as fs.s3a.encryption.key. No option of ours has a dot in its name."""
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]+(?=@)")
_ASSIGNED = re.compile(
    rf"((?:{_SECRET}|[?&]sig|\.key(?==))[\w.-]*=)[^\s&;,'\"]+",
    re.IGNORECASE,
)
"""In an address or an option of Java: `?token=x`, `-Djavax.net.ssl.keyStorePassword=x`."""


def redacted(value: Any) -> Any:
    """A configuration as it may be shown: no credentials in addresses, no value of a key that names a secret.

    >>> redacted({"uri": "https://me:pw@host/x", "settings": {"spark.hadoop.fs.s3a.secret.key": "x", "n": 1}})
    {'uri': 'https://…@host/x', 'settings': {'spark.hadoop.fs.s3a.secret.key': '…', 'n': 1}}
    >>> redacted("https://host/x?sig=abc&part=1")
    'https://host/x?sig=…&part=1'
    """
    if isinstance(value, dict):
        return {k: "…" if v is not None and _SECRET_KEY.search(str(k)) else redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return _ASSIGNED.sub(r"\1…", _CREDENTIALS.sub("…", value)) if isinstance(value, str) else value


def load_config(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Read YAML files, later ones over earlier ones, then `a.b=value` overrides (values are YAML).

    Raises ConfigError with rule, value and remedy.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            loaded = _from_yaml(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"the configuration must be a readable file, got {str(path)!r} ({error.strerror})"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration must be YAML, {path} is not: {error}") from None
        if not isinstance(loaded, dict):
            raise ConfigError(f"the configuration must be a YAML mapping, {path} holds {type(loaded).__name__}")
        merged = _merge(merged, loaded)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set must look like a.b=value, got {override!r}")
        try:
            nested = _from_yaml(value)
        except yaml.YAMLError:
            raise ConfigError(
                f"the value of --set {key} must be YAML, got {value!r}; correct it, and quote it"
            ) from None
        merged = _merge(merged, _nested(key, nested))
    return parse_config(merged)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with other values of some options, `a.b` -> value. Raises ConfigError as `load_config` does."""
    merged = config.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        merged = _merge(merged, _nested(key, value))
    return parse_config(merged)


def parse_config(raw: dict[str, Any]) -> Config:
    """Validate a plain mapping. Raises ConfigError naming every broken rule."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(e["type"], e["loc"], e["msg"], e.get("input")) for e in error.errors())
        ) from None


def _nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as {a: {b: value}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _explain(kind: str, location: tuple[int | str, ...], message: str, value: object) -> str:
    path = ".".join(str(part) for part in location) or "the configuration"
    if kind == "extra_forbidden":
        valid = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"valid keys: {', '.join(valid)}"
        return f"unknown configuration key `{path}`; {hint}"
    if kind == "missing":
        return f"`{path}` must be set; add it to the configuration"
    text = message.removeprefix("Value error, ")
    told = isinstance(value, dict | BaseModel) or text.endswith(f"got {value!r}")
    return f"`{path}`: {text}" if told else f"`{path}`: {text} (got {value!r})"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the options at a location such as ("preferences", "statistics", 0)."""
    current: Any = Config
    for part in location:
        if isinstance(current, type) and issubclass(current, Options) and part in current.model_fields:
            current = _options_in(current.model_fields[str(part)].annotation)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, Options) else []


def _options_in(annotation: Any) -> Any:
    """The Options class inside `X | None`, `tuple[X, ...]` or `dict[str, X]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation
    for inner in typing.get_args(annotation):
        found = _options_in(inner)
        if isinstance(found, type) and issubclass(found, Options):
            return found
    return annotation
