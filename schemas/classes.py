"""What a classifier says of images: of those whose class is known, and of any."""

from schemas.columns import Column, Table

PREDICTIONS = Table(
    "predictions",
    (
        Column("example_id", "string", doc="id of the image's record"),
        Column("name", "string", doc="the image's path relative to the data folder"),
        Column("pixels", "string", doc="digest of its pixels in the record: the same image under any name"),
        Column("label", "string", doc="its class"),
        Column("predicted", "string", doc="the likeliest class"),
        Column("probability", "float32", doc="of the likeliest class"),
        Column("of_label", "float32", doc="probability of its own class"),
    ),
    key=("example_id",),
)
"""Every image of a split that a classifier was measured on."""

CLASSES = Table(
    "classes",
    (
        Column("name", "string", doc="path relative to the data folder"),
        Column("item_id", "string", nullable=True, doc="the item that the image shows, where a table says so"),
        Column("class", "string", doc="the likeliest class"),
        Column("probability", "float32", doc="of the likeliest class"),
        Column("top_classes", "list<string>", doc="the likeliest classes, the likeliest first"),
        Column("top_probabilities", "list<float32>", doc="their probabilities"),
    ),
    key=("name", "item_id"),
)
"""Every image that was scored, once for each item that it shows."""
