"""Images: what a record of one holds, the table that names them, and the vectors made of them."""

from schemas.columns import Column, Table, time_column
from schemas.manifest import ColumnEntry
from schemas.records import ID_LENGTH, varint_width

IMAGES = Table(
    "images",
    (
        Column("example_id", "string", doc="hash of the name; the record's id"),
        Column("name", "string", doc="path relative to the data folder, an archive's name without its ending; IDX: #n"),
        Column("label", "string", doc="the class"),
        Column("split", "string", doc="train, validation or test"),
    ),
    key=("example_id",),
)
"""Which image each record holds."""

CONTENT_VECTORS = Table(
    "content_vectors",
    (
        Column("item_id", "string", doc="the item that the image shows"),
        time_column("valid_from", "the vector applies from here on"),
        Column("vector", "list<float32>", doc="output of the encoder"),
    ),
    key=("item_id", "valid_from"),
)
"""Content vectors of items, in versions: a content source like any other."""


def image_columns(height: int, width: int, channels: int, classes: int) -> tuple[ColumnEntry, ...]:
    """The columns of a record: id, class number, and the pixels, uint8, row by row, channels last."""
    return (
        ColumnEntry(name="example_id", type="string", length=ID_LENGTH),
        ColumnEntry(name="label", type="int64", width=varint_width(max(classes - 1, 0))),
        ColumnEntry(name="image", type="string", length=height * width * channels, unit="uint8 HWC"),
    )
