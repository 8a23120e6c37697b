"""Run by a test, in a process of its own: a Spark whose tasks are retried writes shards, and some attempts fail.

The first file of `train` fails once, half-written; the second fails once and has its worker killed once.
"""

import os
import signal
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from pipelines.config import SparkOptions
from pipelines.records import shard_file, spark_writer
from pipelines.records.shard_file import shard_name
from pipelines.spark import spark_session
from schemas.examples import SPLITS
from schemas.fitted import EncoderState

folder = Path(sys.argv[1])
attempts = folder / "attempts"
attempts.mkdir()


def flaky(batches, out: str, name: str, span: tuple[int, int]):
    if not name.startswith("train"):
        return shard_file.write_shard(batches, out, name, span)
    stem = Path(name).stem.partition(".")[0]
    attempt = len(list(attempts.glob(f"{stem}.*")))
    (attempts / f"{stem}.{attempt}").touch()

    def ends_badly() -> Iterator:
        yield next(batches)
        if attempt:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("the disk is full")

    fails = {"part-00000": 1, "part-00001": 2}.get(stem, 0)
    return shard_file.write_shard(chain(ends_badly()) if attempt < fails else batches, out, name, span)


spark_writer.write_shard = flaky
spark = spark_session(SparkOptions(master="local[2,4]", driver_memory="1g", shuffle_partitions=2))
state = EncoderState.model_validate_json((folder / "state.json").read_text())
examples = spark.read.parquet(str(folder / "examples.parquet"))
names = [shard_name(split, number, "") for split in SPLITS for number in range(3)]
span = (1_700_000_000_000_000, 1_700_000_010_000_000)
spark_writer.write_shards(
    spark_writer.place_records(examples, state, 7, 3), str(folder / "out"), names, [span] * len(names)
)
spark.stop()
