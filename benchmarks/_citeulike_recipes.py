"""How Thaw's towers are trained on CiteULike.

Everything here was chosen on citeulike-a, seed 0: by recall@100 on `fold` of both splits (CITEULIKE_VALIDATE=1). One
recipe a mode serves the warm and the cold split, and citeulike-t as it is. The warm fold then still hid pairs of rare
articles, which the published split does not (docs/benchmarks.md).
"""

from benchmarks._citeulike_towers import Recipe
from pipelines.config import LossOptions, ModelOptions, TrainingOptions

END_TO_END, RECONSTRUCTION = "Thaw, end to end", "Thaw, reconstruction"

RECIPES = {
    END_TO_END: Recipe(
        ModelOptions(
            content_units=(), preference_units=(), tower_units=(256, 200), preference_dropout=0.3, linear_path=True
        ),
        TrainingOptions(
            batch_size=1024,
            epochs=2,
            learning_rate=0.001,
            losses=LossOptions(pointwise=0, softmax=1, in_batch="all", log_q=True),
        ),
        reconstruct=False,
    ),
    RECONSTRUCTION: Recipe(
        ModelOptions(
            content_units=(),
            preference_units=(),
            tower_units=(256, 200),
            preference_dropout=0.3,
            linear_path=True,
            similarity="dot",
        ),
        TrainingOptions(
            batch_size=1024,
            epochs=2,
            learning_rate=0.001,
            losses=LossOptions(pointwise=0, softmax=0, reconstruction=1, in_batch="all"),
        ),
        reconstruct=True,
    ),
}
