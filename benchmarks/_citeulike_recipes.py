"""How Thaw's towers are trained on CiteULike.

Everything here was chosen on citeulike-a, seed 0: by recall@100 on `fold` of both splits (CITEULIKE_VALIDATE=1). One
recipe a mode serves the warm and the cold split, and citeulike-t as it is. Both modes start at the same weights: the
embedding is wide enough that scores are those of the factors and of the content, added up.
"""

from benchmarks._citeulike_towers import Recipe
from pipelines.config import LossOptions, ModelOptions, TrainingOptions

END_TO_END, RECONSTRUCTION = "Thaw, end to end", "Thaw, reconstruction"

TOWERS = ModelOptions(
    content_units=(),
    preference_units=(),
    tower_units=(128, 800),
    preference_dropout=0.3,
    linear_path=True,
    foretell=True,
    similarity="dot",
)

RECIPES = {
    END_TO_END: Recipe(
        TOWERS,
        TrainingOptions(
            batch_size=1024,
            epochs=1,
            learning_rate=0.0003,
            losses=LossOptions(pointwise=0, softmax=1, in_batch="all", log_q=True, temperature=25.0),
        ),
        reconstruct=False,
        way=0.6,
    ),
    RECONSTRUCTION: Recipe(
        TOWERS,
        TrainingOptions(
            batch_size=1024,
            epochs=1,
            learning_rate=0.0003,
            losses=LossOptions(pointwise=0, softmax=0, reconstruction=1, in_batch="all"),
        ),
        reconstruct=True,
        way=0.6,
    ),
}
