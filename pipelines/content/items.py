"""Items as rows of a classifier: one column is the label, the others are what it is told from. [numpy, Arrow]

The encoder is fitted here, in memory, on training items alone; `fit` fits that of the towers, on Spark.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import ContentOptions, SplitOptions
from pipelines.content.layout import columns_of_kind, model_inputs, vocabulary_tables
from pipelines.content.survey import mean_and_std, moments, survey, transform_of, transformed_ends
from pipelines.errors import ConfigError, InputError
from schemas.content import ContentKind
from schemas.examples import FeatureSet, SideFeatures
from schemas.fitted import EncoderState, Normaliser


@dataclass(frozen=True)
class LabelledTable:
    """Items with a label each."""

    rows: pa.Table
    """item_id, label, split and the features `item_COLUMN`, one row an item, by id."""
    classes: tuple[str, ...]
    features: FeatureSet
    left_out: dict[str, int]
    """Items that are not among them, by reason."""


def labelled_items(
    items: pa.Table,
    label: str,
    kinds: Mapping[str, ContentKind],
    split: SplitOptions,
    seed: int,
    unread: Collection[str] = (),
) -> LabelledTable:
    """Each item as its latest version has it, with the value of `label`; split by a keyed hash of its id.

    An item without a label is left out, one with several, which is no class's alone, and one whose label no training
    item has. `unread`: columns that it is not to be told from. Raises ConfigError where `label` is no category of
    items, or nothing else is known of them.
    """
    categories = [name for name, kind in kinds.items() if kind in ("category", "categories")]
    if label not in categories:
        raise ConfigError(
            f"classifier.label must be a category of items ({', '.join(categories) or 'there is none'}), got "
            f"{label!r}; name one of source.items"
        )
    left = {name: kind for name, kind in kinds.items() if name != label and name not in unread}
    others = {f"item_{name}": kind for name, kind in left.items() if name in items.column_names}
    if not others:
        raise ConfigError(
            f"items must have content beside {label!r} to tell it from, there is none; add columns to source.items"
        )
    latest = items.sort_by([("item_id", "ascending"), ("valid_from", "ascending")])
    ids = latest["item_id"].to_pylist()
    last = [place for place, name in enumerate(ids) if place + 1 == len(ids) or ids[place + 1] != name]
    latest = latest.take(pa.array(last, pa.int64())).combine_chunks()
    values = latest[label].to_pylist()
    of_row = [[value] if isinstance(value, str) else list(dict.fromkeys(value or ())) for value in values]
    sizes = Counter("none" if not one else "several" if len(one) > 1 else "one" for one in of_row)
    kept = pa.array([place for place, one in enumerate(of_row) if len(one) == 1], pa.int64())
    labels = [of_row[place][0] for place in kept.to_pylist()]
    rows = latest.take(kept)
    columns = {"item_id": rows["item_id"], "label": pa.array(labels, pa.string())}
    columns["split"] = pa.array(_splits(rows["item_id"].to_pylist(), split, seed), pa.string())
    columns |= {name: rows[name.removeprefix("item_")] for name in others}
    table = pa.table(columns)
    classes = sorted(set(table.filter(pc.equal(table["split"], "train"))["label"].to_pylist()))
    known = table.filter(pc.is_in(table["label"], pa.array(classes, pa.string())))
    left_out = {f"with {what} of {label}": sizes[what] for what in ("none", "several") if sizes[what]}
    if unknown := len(table) - len(known):
        left_out[f"of a {label} that no training item has"] = unknown
    features = FeatureSet(SideFeatures("user"), SideFeatures("item", others))
    return LabelledTable(known, tuple(classes), features, left_out)


def fit_items(train: pa.Table, features: FeatureSet, options: ContentOptions) -> EncoderState:
    """The state of `Encoder` for the items' content, from training items alone, as `fit.fit_encoder` would fit it.

    Numbers by mean and deviation, values not weighted: what a linear classifier reads. Raises InputError where vectors
    have several lengths, or there is none.
    """
    plain = options.model_copy(update={"weighting": "none", "normaliser": "log"})
    batches = train.combine_chunks().to_batches()
    if not batches:
        raise InputError("a classifier must have training rows, there are none; give more items, or smaller shares")
    found = survey(batches[0], features, plain).to_pylist()
    ends = {row["name"]: (row["low"], row["high"]) for row in found if row["what"] == "extremes"}
    counted = [(row["name"], row["value"], row["count"]) for row in found if row["what"] == "value"]
    vocabularies = {}
    for table in vocabulary_tables(features):
        mine = [(-count, value) for name, value, count in counted if name == table and count >= options.min_count]
        vocabularies[table] = tuple(value for _, value in sorted(mine)[: options.max_vocabulary])
    lengths = {}
    for name in columns_of_kind(features, "vector"):
        low, high = ends.get(name, (0, 0))
        if not low or low != high:
            raise InputError(
                f"the vectors of `{name}` must have one length, got {low:.0f} to {high:.0f}; remove the column, or "
                "check the file"
            )
        lengths[name] = int(low)
    normalisers = {
        name: Normaliser(transform="none", mean=0.0, std=1.0) for name in columns_of_kind(features, "number")
    }
    transforms = {name: transform_of(ends[name], True) for name in normalisers if name in ends}
    scaled = {name: transformed_ends(ends[name], transform) for name, transform in transforms.items()}
    for row in moments(batches[0], transforms, scaled).to_pylist():
        name = row["name"]
        mean, std = mean_and_std(row["count"], row["total"], row["squares"], scaled[name])
        normalisers[name] = Normaliser(transform=transforms[name], mean=mean, std=std)
    return EncoderState(
        inputs=model_inputs(features, {table: len(values) for table, values in vocabularies.items()}, lengths, plain),
        vocabularies=vocabularies,
        normalisers=normalisers,
        text_buckets=options.text_buckets,
        max_words=options.max_words,
        max_values=options.max_values,
        ngrams=options.ngrams,
    )


def counts_by_split(rows: pa.Table, classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, int]]]:
    """Split -> classes -> class -> items, as image records have it."""
    pairs = Counter(zip(rows["split"].to_pylist(), rows["label"].to_pylist(), strict=True))
    return {
        split: {"classes": {name: pairs[split, name] for name in classes}} for split in ("train", "validation", "test")
    }


def numbers_of(rows: pa.Table, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The class number of each row."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[label] for label in rows["label"].to_pylist()], np.int64)


def _splits(ids: list[str], split: SplitOptions, seed: int) -> list[str]:
    key = hashlib.blake2b(f"items/{seed}".encode(), digest_size=32).digest()
    shares = (int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8, key=key).digest()) / 2**64 for i in ids)
    validation = split.validation_share
    return [
        "validation" if share < validation else "test" if share >= 1 - split.test_share else "train" for share in shares
    ]
