"""Names and order of features, derived from the configuration alone."""

from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.errors import ConfigError
from pipelines.features import feature_set

ROOT = Path(__file__).resolve().parents[2]
MOVIELENS = ROOT / "conf" / "movielens.yaml"


def test_statistics_belong_to_the_side_of_their_entity_each_under_its_own() -> None:
    features = feature_set(load_config([MOVIELENS]))
    assert list(features.user.statistics) == ["user"]
    assert list(features.item.statistics) == ["item", "item.genres"]
    assert features.item.statistics["item.genres"][0] == "item_genres_rating_count_30d"
    assert features.item.statistic_names == (
        *features.item.statistics["item"],
        *features.item.statistics["item.genres"],
    )
    assert [column.name for column in features.user.columns][-3:] == [
        "user_recent_genres",
        "user_recent_tags",
        "user_recent_item_id",
    ]


def test_popularity_by_a_statistic_that_is_not_computed_is_refused_with_those_that_are() -> None:
    config = load_config([MOVIELENS], ["evaluation.popularity=item_rating_count_9d"])
    with pytest.raises(ConfigError, match=r"item_rating_count_30d, .*, got 'item_rating_count_9d'; name one"):
        feature_set(config)
    assert feature_set(load_config([MOVIELENS], ["evaluation.popularity=item_rating_count_30d"]))
