"""What a run's manifests say of its items' images: which there were, and what made vectors of them."""

from collections.abc import Mapping
from typing import Any

from schemas.manifest import Manifest


def images_of(manifests: Mapping[str, Manifest]) -> dict[str, Any] | None:
    """The part `images` of a summary; None where the clean content reads no vectors of images."""
    vectors = manifests.get("content_vectors")
    read = manifests["clean"].parents.get("content_vectors") if "clean" in manifests else None
    if vectors is None or vectors.content_digest != read:
        return None
    return {
        "rows": vectors.facts["rows"],
        "vector_length": vectors.facts["vector_length"],
        "encoder": _encoder(vectors, manifests.get("image_records"), manifests.get("classifier")),
    }


def _encoder(vectors: Manifest, records: Manifest | None, classifier: Manifest | None) -> dict[str, Any] | None:
    """The classifier that made the vectors; None where that was another model."""
    if records is None or classifier is None or vectors.parents.get("classifier") != classifier.content_digest:
        return None
    return {
        "family": classifier.config["classifier"]["family"],
        "parameters": classifier.facts["parameters"],
        "classes": len(records.facts["classes"]),
        "images": {split: entry.rows for split, entry in records.tables.items() if entry.format == "tfrecord"},
        "validation_accuracy": classifier.facts["best"].get("validation_accuracy"),
        "learns_until": records.as_of.get("learns_until"),
        "undated": records.facts.get("undated", 0),
    }
