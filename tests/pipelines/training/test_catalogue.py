"""Draws from the records' catalogue: uniform, seeded, resumable, and trained with."""

from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from pipelines.config import LossOptions, ModelOptions, TrainingOptions
from pipelines.errors import InputError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.records.encode import encode_catalogue
from pipelines.records.shard_file import write_shard
from pipelines.training.catalogue import DRAWN, with_catalogue
from pipelines.training.fit import fit
from pipelines.training.input import open_input
from pipelines.training.read_facts import read_facts
from schemas.manifest import Manifest, TableEntry
from schemas.records import catalogue_columns

ITEMS = 40
HOUR = 3_600_000_000


@pytest.fixture
def records(make_records, small_state):
    """Records of 200 examples and of ITEMS items, item n of which exists from just after hour n on."""
    import pyarrow as pa

    from pipelines.content.encoder import Encoder

    made = make_records(200)
    rows = pa.record_batch(
        {
            "as_of": pa.array([5] * ITEMS, pa.int64()),
            "known_by": pa.array([6] * ITEMS, pa.int64()),
            "item_id": [f"i{n}" for n in range(ITEMS)],
            "exists_from": pa.array([n * HOUR + 1 for n in range(ITEMS)], pa.int64()),
            "item_category": ["a"] * ITEMS,
            "item_tags": pa.array([["t1"]] * ITEMS, pa.list_(pa.string())),
            "item_price": [float(n) for n in range(ITEMS)],
            "item_size": [1.0] * ITEMS,
        }
    )
    placed = pa.Table.from_batches([encode_catalogue(rows, Encoder(small_state), 7, 1)])
    placed = placed.sort_by([("order_key", "ascending"), ("example_id", "ascending")])
    shard = write_shard(placed.to_batches(), made.path, "catalogue/part-00000.tfrecord", (0, 10)).shard
    entry = TableEntry(format="tfrecord", columns=catalogue_columns(small_state.inputs), shards=(shard,))
    return replace(
        made, manifest=Manifest(dataset="records", tables={**made.manifest.tables, "catalogue": entry}, seed=7)
    )


def opened(records, draws=8, seed=3, **more):
    rows = open_input(records, "train", 32, seed=seed, shuffle=True, **more)
    return with_catalogue(rows, records, LossOptions(catalogue_negatives=draws), seed)


def draws_of(batches):
    return [extras[DRAWN]["item_key"].numpy().tolist() for _, extras in batches]


def test_every_step_draws_items_with_their_inputs_keys_and_times(records) -> None:
    prices = set()
    for number in range(6):
        for inputs, extras in opened(records).epoch(number):
            drawn, about = inputs[DRAWN], extras[DRAWN]
            assert set(drawn) == {"item_category", "item_tags", "item_numbers"}
            assert drawn["item_tags"].shape == (8, 3) and about["item_key"].shape == (8,)
            # Item n has price n. A minute in which it came is not yet one of its own.
            assert np.array_equal(about["exists_from"], 1 + 60 * drawn["item_numbers"][:, 0])
            assert np.array_equal(extras["minute"], extras["event_time"].numpy() // 60_000_000)
            prices |= set(drawn["item_numbers"].numpy()[:, 0])
    assert prices == set(range(ITEMS))


def test_draws_follow_from_seed_epoch_and_step_alone(records) -> None:
    whole = draws_of(opened(records).epoch(1))
    assert draws_of(opened(records).epoch(1)) == whole
    assert draws_of(opened(records).epoch(1, 2)) == whole[2:]
    assert draws_of(opened(records, process_index=1, num_processes=2).epoch(1)) == whole
    assert draws_of(opened(records).epoch(2)) != whole and draws_of(opened(records, seed=4).epoch(1)) != whole
    assert len({tuple(step) for step in whole}) == len(whole) == 4


def test_a_model_is_trained_against_the_catalogue(records, small_state) -> None:
    losses = LossOptions(num_negatives=4, catalogue_negatives=8, log_q=True)
    options = TrainingOptions(batch_size=32, epochs=1, losses=losses)
    facts = read_facts(records, options)
    # Items 30 … 39 have no row: they are drawn from the catalogue alone.
    never = next(iter(opened(records, draws=200).epoch(0)))[1][DRAWN]
    key = never["item_key"].numpy()[never["exists_from"].numpy() == 39 * 60 + 1][0]
    assert np.exp(float(facts.frequencies.log_q(ops.convert_to_tensor(np.array([key])))[0])) == pytest.approx(8 / ITEMS)
    weights = []
    for _ in range(2):
        model = build_dropoutnet(small_state.inputs, ModelOptions(embedding_dim=2, tower_units=(4,)), 1)
        validation = open_input(records, "validation", 32, seed=3, shuffle=False)
        history = fit(model, opened(records), validation, options, 3, facts=facts)
        assert np.isfinite(history.epochs[0].metrics["loss"])
        weights.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_records_without_a_catalogue_are_explained(make_records) -> None:
    with pytest.raises(InputError, match=r"needs records with a catalogue, got none; set catalogue\.rows"):
        opened(make_records(20))
