"""The support vector machine of several classes: the right one has to win by a margin, and then costs nothing."""

from typing import Any, Literal

from keras import ops

Form = Literal["weston_watkins", "one_vs_all"]


def multiclass_svm(
    scores: Any,
    labels: Any,
    *,
    margin: float = 1.0,
    squared: bool = False,
    form: Form = "weston_watkins",
) -> Any:
    """(n, C) scores and (n,) class numbers -> (n,), the sum of what is lacking to the margin, or of its squares.

    weston_watkins: Σ_{j≠y} max(0, s_j - s_y + Δ), every other class against the label's (Weston and Watkins 1999). With
    two classes it is the binary machine. Where all scores are equal it is (C - 1)·Δ. one_vs_all: C binary machines,
    max(0, Δ - s_y) + Σ_{j≠y} max(0, Δ + s_j). keras.losses.CategoricalHinge looks at the best other class alone.
    """
    own = ops.one_hot(ops.cast(labels, "int32"), scores.shape[-1], dtype=scores.dtype)
    if form == "one_vs_all":
        lacking = ops.maximum(0.0, margin + (1 - 2 * own) * scores)
    else:
        right = ops.sum(own * scores, axis=1, keepdims=True)
        # The label's own term would add the margin once, whatever the scores.
        lacking = ops.maximum(0.0, scores - right + margin) * (1 - own)
    return ops.sum(ops.square(lacking) if squared else lacking, axis=1)
