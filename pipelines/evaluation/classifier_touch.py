"""The test images are touched once. What was measured on them before, the published evaluations themselves say."""

from collections.abc import Collection, Sequence
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


def check_untouched(versions: Sequence[Dataset], classifier: str, ids: Collection[str], again: bool) -> list[Touch]:
    """What touched the test images `ids` before; raises SecondTouchError where something did, unless `again` is set.

    `versions` are published evaluations of classifiers. One of `classifier` itself, a content digest, is no other's: it
    was told then what it is told now.
    """
    own = set(ids)
    touches: dict[str, Touch] = {}
    for version in versions:
        manifest = version.manifest
        if manifest.facts.get("split") != "test":
            continue
        shared = own.intersection(version.read_table("predictions", ["example_id"])["example_id"].to_pylist())
        if not shared:
            continue
        other = manifest.parents["classifier"]
        if other == classifier:
            again = True
        else:
            touches[other] = Touch(other, manifest.made_at, len(shared))
    if touches and not again:
        last = list(touches.values())[-1]
        raise SecondTouchError(
            f"test images must be touched once, {last.images:,} of these {len(own):,} have measured another classifier "
            f"({last.classifier[:12]}, at {last.made_at}); choose between classifiers on validation, or give --again "
            "and say that the test chose"
        )
    return list(touches.values())
