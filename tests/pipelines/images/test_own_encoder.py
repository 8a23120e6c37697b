"""Which images an encoder of the chain's own may learn from."""

import pytest

from pipelines.config import ConfigError, parse_config
from pipelines.images.own_encoder import learns_until, makes_vectors, trains_encoder

RAW = {
    "name": "pictured",
    "seed": 1,
    "source": {"items": [{"dataset": "content_vectors", "columns": {"image": {"kind": "vector", "column": "vector"}}}]},
    "labels": {"rule": "sampled", "positive_actions": ["click"]},
    "split": {"validation_start": "2025-02-16", "test_start": "2025-02-22"},
    "images": {"sources": [{"path": "p"}], "height": 2, "width": 2},
}


def test_it_learns_until_the_training_period_ends() -> None:
    config = parse_config(RAW)
    assert makes_vectors(config) and trains_encoder(config)
    assert learns_until(config) == 1_739_664_000_000_000


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ({"images": {**RAW["images"], "embed": {"model": "encoder.keras"}}}, True),
        ({"images": None}, False),
        ({"source": {}}, False),
    ],
)
def test_no_encoder_is_trained_where_one_is_named_or_nothing_reads_it(change, made) -> None:
    # Shares would be refused where one is trained.
    config = parse_config({**RAW, "split": {}, **change})
    assert makes_vectors(config) is made
    assert not trains_encoder(config)
    assert learns_until(config) is None


def test_shares_say_too_late_when_the_training_period_ends() -> None:
    with pytest.raises(ConfigError, match=r"split.validation_start and split.test_start must be dates .*; set them"):
        learns_until(parse_config({**RAW, "split": {}}))
