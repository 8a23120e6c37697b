"""The test images are touched once. What was measured on them before, the published evaluations themselves say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.errors import SecondTouchError
from pipelines.storage import Dataset


@dataclass(frozen=True)
class Touch:
    """An earlier evaluation of another classifier on some of the same test images."""

    classifier: str
    """Content digest of the dataset."""
    made_at: str
    images: int
    """How many are the same."""


def check_untouched(
    versions: Sequence[Dataset], classifier: str, images: Mapping[str, str], again: bool
) -> list[Touch]:
    """What touched the test images before; raises SecondTouchError where something did, unless `again` is set.

    `images`: id -> digest of the pixels; one of an equal id or of equal pixels is the same. `versions` are published
    evaluations of classifiers. One of `classifier` itself, a content digest, is no other's: it was told then what it is
    told now.
    """
    touches: dict[str, Touch] = {}
    for version in versions:
        manifest = version.manifest
        if manifest.facts.get("split") != "test":
            continue
        # Pixels are not told by what an older Thaw has published.
        told = [c.name for c in version.manifest.tables["predictions"].columns if c.name in ("example_id", "pixels")]
        seen = {value for column in version.read_table("predictions", told).columns for value in column.to_pylist()}
        shared = sum(name in seen or pixels in seen for name, pixels in images.items())
        if not shared:
            continue
        other = manifest.parents["classifier"]
        if other == classifier:
            again = True
        else:
            touches[other] = Touch(other, manifest.made_at, shared)
    if touches and not again:
        last = list(touches.values())[-1]
        raise SecondTouchError(
            f"test images must be touched once, {last.images:,} of these {len(images):,} have measured another "
            f"classifier ({last.classifier[:12]}, at {last.made_at}; other output folders are not looked at); choose "
            "between classifiers on validation, or give --again and say that the test chose"
        )
    return list(touches.values())
