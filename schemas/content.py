"""Content: what is known of a user or an item apart from behaviour, in versions.

The version that applies at t is the row with the largest `valid_from` <= t; none means missing.
"""

from typing import Literal

from schemas.columns import Column, ColumnType, Table, time_column

ContentKind = Literal["category", "categories", "number", "text", "vector"]
Side = Literal["user", "item"]

CONTENT_TYPES: dict[ContentKind, ColumnType] = {
    "category": "string",
    "categories": "list<string>",
    "number": "float64",
    "text": "string",
    "vector": "list<float32>",
}


def content_table(side: Side, kinds: dict[str, ContentKind]) -> Table:
    """The versioned content table of a side, with one nullable column per configured content column.

    >>> content_table("item", {"genres": "categories"}).names
    ['item_id', 'valid_from', 'created_at', 'title', 'genres']
    """
    return Table(
        f"{side}s",
        (
            Column(f"{side}_id", "string", doc=f"the {side}"),
            time_column("valid_from", "this version applies from here on"),
            time_column("created_at", f"when the {side} came into being, where the source says", nullable=True),
            Column("title", "string", True, doc="for people to read; never a model input"),
            *(Column(name, CONTENT_TYPES[kind], True, doc=f"content: {kind}") for name, kind in kinds.items()),
        ),
        key=(f"{side}_id", "valid_from"),
    )
