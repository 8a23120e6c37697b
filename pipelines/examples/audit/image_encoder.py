"""Whether the encoder that made the items' vectors of images is one of the training period, as priors are."""

from pipelines.examples.audit.report import Check, merged, mismatch
from schemas.fitted import Fitted
from schemas.manifest import Manifest


def check_image_encoder(vectors: Manifest, fitted: Fitted) -> list[Check]:
    """What the workspace's own encoder learned from, by `content_vectors`; no check where another model made them."""
    if "encoder" not in vectors.tables:
        return []
    start, until = fitted.cuts.validation_start, vectors.as_of.get("learns_until")
    broken = []
    if until is None or until > start:
        found = mismatch("content_vectors", "learns_until", until, f"at most {start}")
        broken = [f"{found}; run `thaw run`, or write_image_records, train_classifier and embed_content, again"]
    return [merged("image encoder", "fitted", 1, broken, "learned from images of the training period")]
