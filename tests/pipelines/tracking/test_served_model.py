"""No skew between serving and evaluation: raw rows by either way give the same vectors and the same lists."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.config import ModelOptions
from pipelines.evaluation.rankers import Towers, dot, dot_pairs
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.retrieval.scorer import Scorer
from pipelines.retrieval.top_k import top_k
from pipelines.tracking.served_model import ServedModel
from schemas.fitted import EncoderState, InputSpec, Normaliser

STATE = EncoderState(
    inputs=(
        InputSpec(name="user_recent_tags", side="user", part="preference", kind="ids", length=3, table="tags",
                  table_size=5, columns=("user_recent_tags",), entity="user"),
        InputSpec(name="user_age", side="user", part="content", kind="floats", length=1, columns=("user_age",)),
        InputSpec(name="item_tags", side="item", part="content", kind="ids", length=3, table="tags", table_size=5,
                  columns=("item_tags",)),
        InputSpec(name="item_text", side="item", part="content", kind="ids", length=4, table="text", table_size=17,
                  columns=("item_text",)),
        InputSpec(name="item_look", side="item", part="content", kind="floats", length=2, columns=("item_look",)),
        InputSpec(name="item_statistics", side="item", part="preference", kind="floats", length=1,
                  columns=("item_click_count_7d",), entity="item"),
    ),
    vocabularies={"tags": ("red", "blue", "old")},
    normalisers={
        "item_click_count_7d": Normaliser(transform="log1p", mean=1.0, std=2.0),
        "user_age": Normaliser(transform="none", mean=30.0, std=10.0),
    },
    text_buckets=16,
    max_words=4,
    max_values=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    options = ModelOptions(embedding_dim=4, content_units=(6,), preference_units=(5,), tower_units=(8, 4))
    return Scorer(build_dropoutnet(STATE.inputs, options, 3), STATE)


@pytest.fixture(scope="module")
def raw() -> pa.Table:
    """Rows of both sides, as examples hold them: values of every kind, known, unknown, empty and missing."""
    generator, n = np.random.default_rng(5), 60

    def some(values):
        return [None if generator.random() < 0.2 else value for value in values]

    bags = [["red"], ["blue", "old"], [], ["never seen", "red"]]
    return pa.table(
        {
            "user_recent_tags": some(bags[k] for k in generator.integers(0, 4, n)),
            "user_age": pa.array(some(generator.normal(30, 10, n)), pa.float64()),
            "item_tags": some(bags[k] for k in generator.integers(0, 4, n)),
            "item_text": some(f"a warm coat {k}" for k in generator.integers(0, 9, n)),
            "item_look": pa.array(some(generator.normal(size=(n, 2)).tolist()), pa.list_(pa.float32())),
            "item_click_count_7d": pa.array(some(generator.integers(0, 99, n).astype(float)), pa.float64()),
        }
    )


def served(scorer, frame) -> pd.DataFrame:
    model = ServedModel()
    model.scorer = scorer
    return model.predict(None, frame)


def test_served_vectors_scores_and_lists_are_those_that_evaluation_ranks_by(scorer, raw) -> None:
    answer = served(scorer, raw.to_pandas())
    users, items = (np.array(answer[f"{side}_embedding"].tolist(), np.float32) for side in ("user", "item"))
    towers = Towers(scorer)
    np.testing.assert_allclose(items, towers.items(raw), atol=1e-5)
    logits = dot_pairs(towers.users(raw), towers.items(raw)) + scorer.bias
    np.testing.assert_allclose(answer["score"], logits, atol=1e-4)
    # The order of evaluation, of `recommend` and of one who multiplies served vectors.
    evaluated = np.argsort(-dot(towers.users(raw), towers.items(raw)), axis=1, kind="stable")[:, :5]
    recommended, cosines = top_k(scorer.embed("user", raw), scorer.embed("item", raw), 5)
    own = users @ items.T
    np.testing.assert_allclose(np.take_along_axis(own, recommended, axis=1), cosines, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(own, evaluated, axis=1), cosines, atol=1e-5)


def test_a_row_alone_is_scored_as_in_company_and_a_column_left_out_is_missing(scorer, raw) -> None:
    frame = raw.to_pandas()
    whole = served(scorer, frame)
    alone = pd.concat([served(scorer, frame.iloc[[row]]) for row in range(5)], ignore_index=True)
    np.testing.assert_allclose(alone["score"], whole["score"][:5], atol=1e-4)
    nothing = raw.set_column(1, "user_age", pa.nulls(raw.num_rows, pa.float64()))
    without = np.array(served(scorer, frame.drop(columns="user_age"))["user_embedding"].tolist())
    np.testing.assert_allclose(without, scorer.embed("user", nothing), atol=1e-5)
