"""What `recommend` publishes: embeddings and top-K lists, for every user and item, new ones included."""

from schemas.columns import Column, Table
from schemas.content import Side

RECOMMENDATIONS = Table(
    "recommendations",
    (
        Column("user_id", "string"),
        Column("rank", "int64", doc="1 is best"),
        Column("item_id", "string"),
        Column("score", "float32", doc="logit: scale · cosine + bias"),
    ),
    key=("user_id", "rank"),
)


def embedding_table(side: Side, dimension: int) -> Table:
    """One unit-length embedding of so many numbers per user or item."""
    return Table(
        f"{side}_embeddings",
        (Column(f"{side}_id", "string"), Column("embedding", "list<float32>", doc="unit length", length=dimension)),
        key=(f"{side}_id",),
    )
