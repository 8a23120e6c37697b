"""A model that starts from another: known values keep their rows wherever they lie now, and what differs is named."""

import numpy as np
import pytest

from pipelines.config import ModelOptions
from pipelines.errors import ConfigError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.models.warm_start import warm_start
from schemas.fitted import EncoderState, InputSpec, Normaliser

OPTIONS = ModelOptions(embedding_dim=4, content_units=(6,), preference_units=(5,), tower_units=(8, 3))


def state(tags=("red", "blue"), transform="log1p", text=9, **more) -> EncoderState:
    tag = {"part": "content", "kind": "ids", "table": "tags", "table_size": len(tags) + 2}
    inputs = (
        InputSpec(name="user_clicks", side="user", part="preference", kind="floats", length=1,
                  columns=("user_clicks",)),
        InputSpec(name="item_tags", side="item", length=3, columns=("item_tags",), **{**tag, **more}),
        InputSpec(name="item_text", side="item", part="content", kind="ids", length=4, table="text", table_size=text,
                  columns=("item_text",)),
    )  # fmt: skip
    normaliser = Normaliser(transform=transform, mean=0.0, std=1.0)
    return EncoderState(inputs=inputs, vocabularies={"tags": tags}, normalisers={"user_clicks": normaliser},
                        text_buckets=8, max_words=4, max_values=3)  # fmt: skip


def with_normaliser(**changes) -> EncoderState:
    fitted = state().normalisers["user_clicks"].model_copy(update=changes)
    return state().model_copy(update={"normalisers": {"user_clicks": fitted}})


def built(of, seed=1, **options):
    return build_dropoutnet(of.inputs, OPTIONS.model_copy(update=options), seed)


def rows(model):
    return np.asarray(model.tables["tags"].rows)


def test_known_values_keep_their_rows_and_new_ones_those_of_their_seed() -> None:
    before, after = state(), state(tags=("blue", "green", "red"))
    trained, model, fresh = built(before), built(after, seed=2), built(after, seed=2)
    assert warm_start(model, after, trained, before) == 1
    # Row 0 stands for unknown values, row i + 1 for the i-th known one.
    for row, source in ((0, rows(trained)[0]), (1, rows(trained)[2]), (2, rows(fresh)[2]), (3, rows(trained)[1])):
        np.testing.assert_array_equal(rows(model)[row], source)
    others = [(w, v) for w, v in zip(model.weights, trained.weights, strict=True) if w.path != "tags/rows"]
    assert all(np.array_equal(np.asarray(now), np.asarray(then)) for now, then in others)


def test_a_value_that_is_gone_takes_its_row_with_it() -> None:
    before, after = state(), state(tags=("blue",))
    trained, model = built(before), built(after, seed=2)
    assert warm_start(model, after, trained, before) == 0
    np.testing.assert_array_equal(rows(model), rows(trained)[[0, 2]])


@pytest.mark.parametrize(
    ("after", "options", "said"),
    [
        (state(), {"tower_units": (8, 4)}, r"model\.tower_units was \(8, 3\) and is \(8, 4\)"),
        (state(), {"similarity": "dot"}, r"model\.similarity was cosine and is dot"),
        (state(text=10), {}, r"table_size of `item_text` was 9 and is 10"),
        (state(transform="none"), {}, r"`user_clicks` was transformed by log1p and is by none"),
        (with_normaliser(knots=(0.0, 1.0)), {}, r"content\.normaliser was another one when `user_clicks` was fitted"),
        (state().model_copy(update={"ngrams": 2}), {}, r"content\.ngrams was 1 and is 2"),
        (state().model_copy(update={"idf": {"tags": (1.0, 1.0, 1.0)}}), {}, r"content\.weighting was another one"),
        (state(part="preference"), {}, r"part of `item_tags` was content and is preference"),
        (state().model_copy(update={"inputs": state().inputs[:2]}), {}, r"the input `item_text` is gone"),
    ],
)
def test_what_differs_is_named_with_the_remedy(after, options, said) -> None:
    with pytest.raises(ConfigError, match=f"must read what the one it starts from reads.*{said}.*leave out --from"):
        warm_start(built(after, **options), after, built(state()), state())


def test_a_schedule_of_dropout_is_the_new_models_own() -> None:
    trained = built(state(), preference_dropout=0.5, preference_dropout_end=0.1)
    trained.at(1.0)
    model = built(state(), seed=2, preference_dropout=0.9, preference_dropout_end=0.3)
    assert warm_start(model, state(), trained, state()) == 0
    (share,) = [weight for weight in model.weights if weight.path.endswith("/share")]
    assert float(np.asarray(share)) == pytest.approx(0.9)
    assert warm_start(built(state(), seed=2), state(), trained, state()) == 0
