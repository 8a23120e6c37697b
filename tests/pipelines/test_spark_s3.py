"""Spark without the jars of an object store: what it cannot open is said, what it spools stays on this machine."""

from pathlib import Path

import fsspec
import pytest

from pipelines.config import parse_config
from pipelines.errors import ConfigError, SourceError
from pipelines.quality.read import read_source
from pipelines.quality.sources import labelled_sources
from pipelines.spark import spool

CONFIG = {
    "name": "x",
    "seed": 1,
    "labels": {"rule": "sampled", "positive_actions": ["click"]},
    "source": {"items": [{"path": "items.csv", "id": "item", "columns": {"size": {"kind": "number"}}}]},
}


def test_raw_data_that_spark_cannot_open_is_one_message(spark, s3) -> None:
    config = parse_config(CONFIG)
    fs, path = fsspec.core.url_to_fs(s3)
    fs.pipe_file(f"{path}/items.csv", b"item,size\n1,2\n")
    (label, source), *_ = labelled_sources(config).items()
    with pytest.raises(SourceError, match=r"^Spark must have a file system for s3:// .* it has none; add the jars"):
        read_source(spark, s3, label, source)


def test_what_spark_spools_goes_to_this_machine_where_spark_cannot_open_the_store(spark, s3, monkeypatch) -> None:
    with spool(spark, f"{s3}/spool") as keep:
        kept = keep(spark.range(3))
        (file, *_) = kept.inputFiles()
        assert file.startswith("file:")
        assert kept.count() == 3
    assert not Path(file.removeprefix("file://")).exists()
    monkeypatch.setattr(spark.sparkContext, "master", "spark://cluster:7077")
    with pytest.raises(ConfigError, match="Spark must have a file system for s3://"), spool(spark, s3):
        pass
