"""A run that makes one small dataset of TFRecord shards and publishes it: a program to be killed, paused and doubled.

usage: small_writer.py OUT [--force] [--hold] [--stale SECONDS]. With --hold it goes on at a line of standard input.
"""

import argparse
import sys
import time

import numpy as np
import pyarrow as pa

from jobs.launch import Context, Draft, Job, execute, guarded, say
from pipelines import claim
from pipelines.config import parse_config
from pipelines.records.shard_file import shard_name, write_shard
from pipelines.storage import Workspace
from schemas.manifest import TableEntry

CONFIG = {"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}
SPAN = (0, 1000)


def rows(number: int, count: int) -> pa.RecordBatch:
    """A shard's rows: `count` records of 2,000 random bytes, seeded by its number."""
    random = np.random.default_rng(number)
    return pa.RecordBatch.from_pydict(
        {
            "example_id": [f"{number:04d}/{row:04d}" for row in range(count)],
            "event_time": pa.array(np.arange(count), pa.int64()),
            "label": pa.array(np.zeros(count), pa.float32()),
            "record": pa.array([random.bytes(2000) for _ in range(count)], pa.binary()),
        }
    )


def job(shards: int, rows_each: int = 200, pause_s: float = 0.0, hold: bool = False) -> Job:
    """Writes `shards` compressed shards, one after the other, with a pause within each."""

    def slowly(number: int):
        batch = rows(number, rows_each)
        yield batch.slice(0, rows_each // 2)
        time.sleep(pause_s)
        yield batch.slice(rows_each // 2)

    def run(context: Context) -> Draft:
        say("writing")
        if hold:
            sys.stdin.readline()
        names = [shard_name("train", number, "GZIP") for number in range(shards)]
        written = [write_shard(slowly(n), context.staging, name, SPAN).shard for n, name in enumerate(names)]
        return Draft({"train": TableEntry(format="tfrecord", shards=tuple(written))})

    return Job(name="write", dataset="records", parents=(), sections=(), run=run)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--stale", type=float, default=claim.STALE_S)
    arguments = parser.parse_args()
    claim.STALE_S, claim.BEAT_S = arguments.stale, arguments.stale / 6

    def action() -> int:
        slow = job(12, pause_s=0.02, hold=arguments.hold)
        outcome = execute(slow, parse_config(CONFIG), Workspace.open(arguments.out), None, force=arguments.force)
        say(f"{'found' if outcome.reused else 'published'} {outcome.dataset.manifest.content_digest}")
        return 0

    return guarded(action)


if __name__ == "__main__":
    sys.exit(main())
