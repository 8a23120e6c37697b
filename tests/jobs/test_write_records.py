from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import DuplicateError, LeakageError
from pipelines.storage import Dataset
from schemas.manifest import Manifest

CONFIG = """
name: small
seed: 7
labels: {rule: threshold, positive_actions: [rate]}
source: {items: [{path: items.csv, id: item, columns: {genre: {kind: category}, size: {kind: number}}}]}
preferences:
  windows: [lifetime]
  statistics: [{name: event, kind: count}]
records: {num_shards: 2}
"""


def audit(passed: bool) -> Dataset:
    return Dataset("nowhere", Manifest(dataset="audit", tables={}, seed=7, facts={"audit": {"passed": passed}}))


def test_examples_without_a_passed_audit_are_refused() -> None:
    from jobs.write_records import check_audit

    assert check_audit(audit(True)) is True
    with pytest.raises(LeakageError, match="must have passed the audit"):
        check_audit(audit(False))


def test_records_without_an_audit_are_written_only_where_the_configuration_allows_it(config) -> None:
    from jobs.write_records import JOB, check_audit

    assert check_audit(None) is False
    allowed = config.model_copy(update={"training": config.training.model_copy(update={"allow_unaudited": True})})
    assert (JOB.optional(config), JOB.optional(allowed)) == ((), ("audit",))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from pipelines.config import load_config

    path = tmp_path_factory.mktemp("conf") / "small.yaml"
    path.write_text(CONFIG)
    return load_config([path])


def staged_examples(folder: Path, config, twice: str = "") -> Dataset:
    """90 examples of three splits and 40 rows of the catalogue; `twice`: in which of them one row is named twice."""
    import pyarrow as pa

    from pipelines.features import feature_set
    from pipelines.storage import arrow_schema, write_arrow
    from schemas.examples import candidate_table, example_table

    contract = example_table(feature_set(config))
    rows = [
        {
            "example_id": f"{5 if twice == 'examples' and n == 8 else n:032x}",
            "user_id": f"u{n % 7}",
            "item_id": f"i{n % 11}",
            "event_time": 1_700_000_000_000_000 + n,
            "label": float(n * 7 % 3 == 0),
            "weight": 1.0,
            "split": "train" if n < 60 else "validation" if n < 75 else "test",
            "item_genre": None if n % 5 == 0 else f"g{n % 3}" if n < 60 else "unseen",
            "item_size": float(n),
            "user_event_count_lifetime": None if n % 2 else float(n),
            "negative_index": 0,
        }
        for n in range(90)
    ]
    items = [
        {
            "as_of": 1_700_000_000_000_000 + clock,
            "known_by": 1_700_000_000_000_001 + clock,
            "item_id": f"i{3 if twice == 'catalogue' and n == 7 else n}",
            "in_effect_from": 0,
            "in_effect_to": 2**62,
            "exists_from": 1_600_000_000_000_000 + n,
            "cold_item": False,
            "past_positives": 0,
            "item_genre": f"g{n % 3}",
            "item_size": float(n + clock),
        }
        for clock in (0, 10)
        for n in range(20)
    ]
    folder.mkdir()
    staged = {"examples": (rows, contract), "catalogue": (items, candidate_table(feature_set(config).item))}
    tables = {
        name: write_arrow(str(folder), name, pa.Table.from_pylist(values, schema=arrow_schema(kind)), kind)
        for name, (values, kind) in staged.items()
    }
    as_of = {"test_start": 1_700_000_000_000_075}
    return Dataset(str(folder), Manifest(dataset="examples", tables=tables, seed=7, as_of=as_of))


def run(spark, config, tmp_path: Path, twice: str = "", writer: str = "spark"):
    from jobs.launch import Context
    from jobs.write_records import JOB
    from pipelines.config import BeamOptions
    from pipelines.storage import Workspace

    records = config.records.model_copy(update={"writer": writer})
    config = config.model_copy(update={"records": records, "beam": BeamOptions(workers=1)})
    examples = staged_examples(tmp_path / f"examples_{writer}", config, twice)
    both = {"audit": audit(True), "examples": examples}
    workspace = Workspace.open(str(tmp_path / "out"))
    staging = workspace.stage("records", writer.ljust(64, "k"))
    return staging, JOB.run(Context(config, workspace, None, both, staging))


@pytest.fixture(scope="module")
def by_spark(spark, config, tmp_path_factory):
    """What the job wrote by Spark: its folder and its draft."""
    return run(spark, config, tmp_path_factory.mktemp("by_spark"))


def test_the_job_writes_every_split_and_the_encoder_of_the_training_period(by_spark) -> None:
    from pipelines.records.reader import read_split
    from schemas.fitted import EncoderState

    staging, draft = by_spark
    records = Dataset(staging, Manifest(dataset="records", tables=dict(draft.tables), seed=7))
    records.verify()
    assert {s: len(read_split(records, s)["label"]) for s in ("train", "validation", "test")} == {
        "train": 60,
        "validation": 15,
        "test": 15,
    }
    assert draft.facts["splits"]["train"]["positives"] == 20
    assert draft.facts["audit"] == {"passed": True}
    assert draft.as_of == {"test_start": 1_700_000_000_000_075}
    state = EncoderState.model_validate(records.read_json("encoder"))
    assert state.vocabularies == {"genre": ("g0", "g1", "g2")}
    later = read_split(records, "test")["item_genre"]
    assert set(later.ravel()) == {0, 1}  # missing, and a category that training never saw: known to be unknown


@pytest.mark.parametrize(
    ("writer", "twice", "message"),
    [
        ("spark", "examples", r"user_id u1, item_id i8, .* and user_id u5, item_id i5"),
        ("beam", "catalogue", r"once at a clock, item_id i3, as_of 1700000000000000, .*run `thaw build_examples`"),
    ],
)
def test_two_rows_of_one_name_are_an_error_that_says_which(spark, config, tmp_path, writer, twice, message) -> None:
    with pytest.raises(DuplicateError, match=message):
        run(spark, config, tmp_path, twice=twice, writer=writer)


def test_both_writers_make_one_dataset(spark, config, by_spark, tmp_path: Path) -> None:
    digests = set()
    for staging, draft in (by_spark, run(spark, config, tmp_path, writer="beam")):
        manifest = Manifest(dataset="records", tables=dict(draft.tables), facts=dict(draft.facts), seed=7)
        Dataset(staging, manifest).verify()
        digests.add(manifest.content_digest)
        listed = {shard.path for entry in draft.tables.values() for shard in entry.shards}
        assert {p.relative_to(staging).as_posix() for p in Path(staging).rglob("*") if p.is_file()} == listed
    assert len(digests) == 1


def test_the_catalogue_is_a_table_of_items_in_the_same_order_and_encoding(by_spark) -> None:
    from pipelines.records.order import global_order
    from pipelines.records.reader import read_split

    staging, draft = by_spark
    records = Dataset(staging, Manifest(dataset="records", tables=dict(draft.tables), seed=7))
    drawn, train = read_split(records, "catalogue"), read_split(records, "train")
    inputs = ["item_genre", "item_numbers", "item_statistics"]
    assert list(drawn) == ["example_id", "event_time", "item_key", "exists_from", *inputs]
    assert np.array_equal(global_order(drawn["example_id"], 7), np.arange(40))
    assert set(drawn["event_time"].tolist()) == {1_700_000_000_000_001, 1_700_000_000_000_011}
    # Item n exists from n on; it has the key, and its genre the id, that the examples give them.
    number = drawn["exists_from"] - 1_600_000_000_000_000
    assert set(train["item_key"].tolist()) == set(drawn["item_key"][number < 11].tolist())
    assert np.array_equal(drawn["item_genre"][:, 0], 2 + number % 3)
    assert draft.facts["splits"]["catalogue"]["rows"] == 40


def test_records_in_the_order_of_time_are_refused(spark, config, tmp_path: Path, monkeypatch, capsys) -> None:
    from pyspark.sql import functions as F

    from jobs import write_records
    from jobs.launch import guarded

    placed = write_records.place_records

    def by_time(*arguments):
        return placed(*arguments).withColumn("order_key", F.col("event_time"))

    monkeypatch.setattr(write_records, "place_records", by_time)
    assert guarded(lambda: len(run(spark, config, tmp_path))) == 3
    assert "serial_correlation of the shuffled train records" in capsys.readouterr().err


def test_the_runner_may_be_named_on_the_command_line() -> None:
    import argparse

    from jobs.launch import add_arguments, add_runner

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    add_runner(parser)
    given = parser.parse_args(["--set", "seed=1", "--runner", "FlinkRunner"])
    assert given.set == ["seed=1", 'beam.runner="FlinkRunner"']
    assert parser.parse_args([]).set == []
