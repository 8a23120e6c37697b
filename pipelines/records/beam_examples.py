"""Published examples to TFRecord shards, on Beam: each row group is read and encoded, then the writer's. [beam]"""

from collections.abc import Iterator, Sequence

import apache_beam as beam
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.beam import Keep, open_pipeline
from pipelines.config import BeamOptions
from pipelines.content.encoder import Encoder
from pipelines.records.beam_writer import WriteShards, take_written, written_path
from pipelines.records.encode import (
    EncodeRows,
    catalogue_source_columns,
    encode_batch,
    encode_catalogue,
    example_columns,
)
from pipelines.records.shard_file import Written
from schemas.fitted import EncoderState


def write_shards(
    paths: Sequence[str],
    state: EncoderState,
    seed: int,
    num_shards: int,
    folder: str,
    names: Sequence[str],
    spans: Sequence[tuple[int, int]],
    options: BeamOptions,
    catalogue: Sequence[str] = (),
) -> list[Written]:
    """Write the examples of the Parquet files `paths`, and the catalogue of others, to the bytes that Spark makes."""
    kept = written_path(folder)
    with open_pipeline(options) as pipeline:
        examples = pipeline | "PlaceRecords" >> PlaceRecords(
            paths, example_columns(state), encode_batch, state, seed, num_shards
        )
        # RecordBatch: none without a catalogue.
        items = pipeline | "PlaceCatalogue" >> PlaceRecords(
            catalogue, catalogue_source_columns(state), encode_catalogue, state, seed, num_shards
        )
        _ = (
            (examples, items)
            | "Both" >> beam.Flatten()
            | "WriteShards" >> WriteShards(folder, names, spans)
            | "Written" >> Keep(kept)
        )
    return take_written(kept, names)


class PlaceRecords(beam.PTransform):  # type: ignore[misc]
    """Columns of Parquet files -> PCollection[pa.RecordBatch] of `encode.PLACED`, one a row group."""

    def __init__(
        self,
        paths: Sequence[str],
        columns: Sequence[str],
        encode: EncodeRows,
        state: EncoderState,
        seed: int,
        num_shards: int,
    ) -> None:
        super().__init__()
        self._paths, self._place = tuple(paths), _Place(tuple(columns), encode, state, seed, num_shards)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Groups are dealt to the workers; whatever holds rows stays within one."""
        return (
            pipeline
            # (path, row group): as many as the files have.
            | "RowGroups" >> beam.Create([(path, group) for path in self._paths for group in range(_groups(path))])
            # RecordBatch: one a row group.
            | "ReadAndEncode" >> beam.ParDo(self._place).with_output_types(pa.RecordBatch)
        )


class _Place(beam.DoFn):  # type: ignore[misc]
    """(path, row group) -> its records, placed."""

    def __init__(
        self, columns: Sequence[str], encode: EncodeRows, state: EncoderState, seed: int, num_shards: int
    ) -> None:
        self._columns, self._encode = columns, encode
        self._state, self._seed, self._num_shards = state, seed, num_shards

    def setup(self) -> None:
        """One encoder a worker: it indexes the vocabularies."""
        self._encoder = Encoder(self._state)

    def process(self, element: tuple[str, int]) -> Iterator[pa.RecordBatch]:
        """Read and encode one row group."""
        path, group = element
        with fsspec.open(path, "rb") as file:
            rows = pq.ParquetFile(file).read_row_group(group, columns=list(self._columns))
        for batch in rows.combine_chunks().to_batches():
            yield self._encode(batch, self._encoder, self._seed, self._num_shards)


def _groups(path: str) -> int:
    with fsspec.open(path, "rb") as file:
        return int(pq.ParquetFile(file).num_row_groups)
