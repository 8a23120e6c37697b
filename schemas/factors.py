"""Reference factors: a vector for each user and item that a factor model knows, by id."""

from schemas.columns import Column, Table
from schemas.content import Side


def factor_table(side: Side) -> Table:
    """The vectors of a side: a user's times an item's is the reference model's score of the pair.

    >>> factor_table("item").names
    ['item_id', 'factor']
    """
    return Table(
        f"{side}_factors",
        (
            Column(f"{side}_id", "string", doc=f"a {side} with a positive before the factors' time"),
            Column("factor", "list<float32>", doc="vector of the factor model, of factors.rank numbers"),
        ),
        key=(f"{side}_id",),
    )
