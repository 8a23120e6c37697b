"""Small image records, published by hand: no Beam."""

import numpy as np

from pipelines.records.wire import encode
from pipelines.storage import Workspace, describe_shard, write_file
from schemas.images import image_columns
from schemas.manifest import Manifest, TableEntry

CLASSES = ("dark", "light")


def spots(rows: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, pixels (rows, 4, 4, 1) and labels: noise, and in one half a light spot. Every image ends in a zero."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    pixels = random.integers(0, 80, (rows, 4, 4, 1), np.uint8)
    pixels[labels == 1, :2, :2] += 120
    pixels[:, -1, -1] = 0
    return [f"{seed:016x}{row:016x}" for row in range(rows)], pixels, labels


def publish_images(workspace: Workspace, splits: dict, shards: int = 2, classes=CLASSES):
    """`splits`: name -> ids, pixels, labels."""
    path = workspace.stage("image_records", "k" * 16)
    height, width, channels = next(iter(splits.values()))[1].shape[1:]
    columns = image_columns(height, width, channels, len(classes))
    tables, facts = {}, {}
    for split, (ids, pixels, labels) in splits.items():
        entries = []
        for shard, rows in enumerate(np.array_split(np.arange(len(ids)), shards)):
            image = np.empty(len(rows), object)
            image[:] = [pixels[row].tobytes() for row in rows]
            values = {"example_id": np.array([ids[row] for row in rows], "S32"), "label": labels[rows], "image": image}
            data, _ = encode(values, columns)
            name = f"{split}-{shard}.tfrecord"
            write_file(path, name, data.tobytes())
            entries.append(describe_shard(path, name, len(rows)))
        tables[split] = TableEntry(format="tfrecord", columns=columns, shards=tuple(entries))
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        facts[split] = {"classes": dict(zip(classes, counts, strict=True))}
    shape = {"height": height, "width": width, "channels": channels}
    return workspace.publish(
        path,
        Manifest(
            dataset="image_records",
            tables=tables,
            seed=1,
            key="k" * 16,
            facts={"classes": list(classes), "image": shape, "splits": facts},
            config={"images": {"resize": "pad"}},
        ),
    )
