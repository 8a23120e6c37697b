"""Serving beside training: the registered model scores raw values as MLflow serves it, and the towers their records.

Equal, the way from a raw value to a score is one: the artifacts, the encoder and the signature of what is registered
give what was trained. That the raw values of serving are those of the examples, the audit says.
"""

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import TrackingError
from pipelines.evaluation.inputs import read_split
from pipelines.records import reader
from pipelines.retrieval.scorer import Floats, Scorer, reads_factors
from pipelines.storage import Dataset
from pipelines.tracking.promotion import Verdict
from pipelines.tracking.registered import Registered
from pipelines.tracking.store import explained
from schemas.content import Side

SIDES: tuple[Side, Side] = ("user", "item")
TOLERANCE = 1e-4
"""Absolute and relative: rows are scored in batches of other sizes, and sums of float32 in another order."""


def check_served(version: Registered, model: Dataset, records: Dataset, examples: Dataset, sample: int) -> Verdict:
    """Score `sample` test examples both ways. `model` is what was registered, `records` were made of `examples`."""
    name, rows = "scores_as_trained", read_split(examples, "test")
    # Ids are hashes, so that the first are a sample.
    rows = rows.sort_by("example_id").slice(0, sample)
    if not rows.num_rows:
        return Verdict(
            name, True, "the registered model scores as it was trained: there is no test example to see it by"
        )
    trained = scores_of_records(Scorer.load(model.path), records, rows)
    try:
        served = served_scores(version, rows)
    except TrackingError:
        raise
    except Exception as error:  # whatever its files raise, callers of the served model would meet it too
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Verdict(
            name,
            False,
            f"{version.uri} must score raw values as MLflow serves it, it cannot be loaded: {reason}; `thaw "
            "train_dropoutnet --force` registers it anew",
        )
    off = np.abs(served - trained) > TOLERANCE * np.maximum(1, np.abs(trained))
    detail = "the registered model must score raw values as the trained towers score their records"
    if off.any():
        first = int(np.argmax(off))
        detail += (
            f"; of {version.uri} {int(off.sum())} of {len(off)} test examples differ, such as "
            f"{rows['example_id'][first]}: served {served[first]:.6f}, trained {trained[first]:.6f}; "
            "`thaw train_dropoutnet --force` registers it anew"
        )
    else:
        detail += f": {len(off)} test examples do, to {TOLERANCE}"
    return Verdict(name, not off.any(), detail)


def scores_of_records(scorer: Scorer, records: Dataset, rows: pa.Table) -> Floats:
    """What towers give the records of some test examples, in the order of `rows`.

    Towers that read reference factors, which no record holds, score the raw values instead.
    """
    if reads_factors(scorer.encoder.state):
        return scorer.score_pairs(scorer.embed("user", rows), scorer.embed("item", rows))
    names = {side: [spec.name for spec in scorer.encoder.inputs(side)] for side in SIDES}
    wanted, pieces = rows["example_id"].combine_chunks(), []
    for arrays in reader.read_shards(records, "test", ["example_id", *names["user"], *names["item"]]):
        mine = pc.is_in(pa.array(arrays["example_id"].astype(str)), wanted).to_numpy(zero_copy_only=False)
        pieces.append({name: values[mine] for name, values in arrays.items()})
        # Of shards behind the last row that is asked for nothing is read.
        if sum(len(piece["example_id"]) for piece in pieces) == len(wanted):
            break
    held = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    ids = pa.array(held["example_id"].astype(str))
    places = pc.index_in(wanted, ids).to_numpy(zero_copy_only=False).astype(np.int64)
    found = {name: values[places] for name, values in held.items()}
    return scorer.score_pairs(
        *(scorer.embed_inputs(side, {name: found[name] for name in names[side]}) for side in SIDES)
    )


@explained()
def served_scores(version: Registered, rows: pa.Table) -> Floats:
    """What MLflow answers for raw rows."""
    served = mlflow.pyfunc.load_model(version.uri)
    return np.asarray(served.predict(served_frame(served, rows))["score"], np.float32)


def served_frame(served: mlflow.pyfunc.PyFuncModel, rows: pa.Table) -> pd.DataFrame:
    """Rows of examples as a caller sends them: the columns of the model's signature, None where nothing is known."""
    names = [column.name for column in served.metadata.get_input_schema().inputs]
    frame = pd.DataFrame({name: rows[name].to_pylist() if name in rows.column_names else None for name in names})
    return frame.astype(object).where(frame.notna(), None)
