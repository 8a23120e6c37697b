"""Make the demo's raw data: a seeded shop with planted tastes, and faults in known numbers.

The faults are late, duplicated and malformed rows; the manifest's facts say how many of each.
"""

import posixpath
import sys

import fsspec

from jobs.launch import Context, Draft, Job, main
from pipelines.demo.files import make_demo
from pipelines.demo.world import MS_PER_DAY, start_ms
from pipelines.errors import ConfigError
from pipelines.storage import describe_shard
from schemas.manifest import TableEntry


def run(context: Context) -> Draft:
    """Write the files and publish what is planted in them."""
    options = context.config.demo
    if options is None:
        raise ConfigError("generate_demo needs the section `demo`, the configuration has none; use conf/demo.yaml")
    files, planted = make_demo(options, context.config.seed)
    fs, root = fsspec.core.url_to_fs(context.staging)
    tables: dict[str, TableEntry] = {}
    for file in files:
        path = posixpath.join(root, file.path)
        fs.makedirs(posixpath.dirname(path), exist_ok=True)
        fs.pipe_file(path, file.content)
        before = tables[file.table].shards if file.table in tables else ()
        shard = describe_shard(context.staging, file.path, file.rows)
        tables[file.table] = TableEntry(format="file", shards=(*before, shard))
    start_us = start_ms(options) * 1000
    as_of = {"start": start_us, "end": start_us + options.days * MS_PER_DAY * 1000}
    return Draft(tables, facts={"planted": planted}, as_of=as_of)


JOB = Job(name="generate_demo", dataset="demo_data", parents=(), sections=("demo",), run=run)

if __name__ == "__main__":
    sys.exit(main(JOB))
