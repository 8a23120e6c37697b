"""Embeddings of every user and item and each user's top-K, by the champion; new users and items included."""

import sys
from typing import Any

import numpy as np
import pyarrow as pa
from mlflow import MlflowClient

from jobs.launch import Context, Draft, Job, main
from pipelines.errors import PromotionError, WorkspaceError
from pipelines.retrieval.lists import best_lists
from pipelines.retrieval.seen import SeenItems, positive_rows
from pipelines.retrieval.tower import save_tower
from pipelines.storage import write_arrow, write_file
from pipelines.tracking.registered import Registered, aliased, require_columns
from pipelines.tracking.runs import CHALLENGER, CHAMPION
from pipelines.tracking.store import connect, model_name
from schemas.content import Side
from schemas.recommendations import RECOMMENDATIONS, embedding_table


def run(context: Context) -> Draft:
    """Load the champion (else the challenger), embed, rank, write."""
    config, clean, preferences = context.config, context.parents["clean"], context.parents["preferences"]
    client, name = connect(config, context.workspace.root), model_name(config)
    alias, version = _version(client, name, allow_unaudited=config.training.allow_unaudited)
    if alias == CHALLENGER:
        context.say(f"note: {name} has no champion; version {version.version}, which no gate has passed, recommends")
    scorer = version.load()
    users = preferences.read_table("serving_users").sort_by("user_id")
    items = preferences.read_table("serving_items").sort_by("item_id")
    columns = {*users.column_names, *items.column_names}
    require_columns(scorer, columns, f"the {alias}, {version.uri},", "preferences")
    user_ids, item_ids = users["user_id"].combine_chunks(), items["item_id"].combine_chunks()
    user_vectors, item_vectors = scorer.embed("user", users), scorer.embed("item", items)
    seen = None
    if config.recommend.filter_seen:
        log = clean.read_table("interactions", ["user_id", "item_id", "action", "weight"])
        seen = SeenItems(positive_rows(log, config.labels), user_ids, item_ids)
    found = best_lists(user_vectors, item_vectors, config.recommend, seen, config.seed)
    if found.found:
        context.say("{kind} index: recall {recall} of the exact lists of {sampled} users".format(**found.found))
    chosen = found.indices >= 0
    rows, ranks = np.nonzero(chosen)
    lists = pa.table(
        {
            "user_id": user_ids.take(pa.array(rows)),
            "rank": ranks + 1,
            "item_id": item_ids.take(pa.array(found.indices[chosen])),
            "score": scorer.scale * found.cosines[chosen] + scorer.bias,
        }
    )
    tables = {"recommendations": write_arrow(context.staging, "recommendations", lists, RECOMMENDATIONS)}
    if found.index is not None:
        tables["item_index"] = write_file(context.staging, "item_index.faiss", found.index)
    sides: tuple[tuple[Side, pa.Array, Any], ...] = (("user", user_ids, user_vectors), ("item", item_ids, item_vectors))
    for side, ids, vectors in sides:
        contract = embedding_table(side, vectors.shape[1])
        embedded = pa.table(
            {f"{side}_id": ids, "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])}
        )
        tables[contract.name] = write_arrow(context.staging, contract.name, embedded, contract)
        tables |= save_tower(context.staging, scorer, side)
    return Draft(
        tables=tables,
        facts={
            "users": len(users),
            "items": len(items),
            "k": config.recommend.k,
            "filter_seen": seen is not None,
            "index": found.found,
        },
        as_of={"snapshot_time": preferences.manifest.as_of["snapshot_time"]},
        notes={"model": name, "version": version.version, "alias": alias, "audit": version.audit},
    )


def _version(client: MlflowClient, name: str, *, allow_unaudited: bool) -> tuple[str, Registered]:
    """The champion; where there is none, the challenger, if it was audited or a trial is allowed."""
    for alias in (CHAMPION, CHALLENGER):
        version = aliased(client, name, alias)
        if version is None:
            continue
        if version.audit != "passed" and not allow_unaudited:
            raise PromotionError(
                f"what recommends must have been trained on examples that passed the leakage audit, version "
                f"{version.version} of {name} ({alias}) is {version.audit}; run `thaw run` without "
                "training.allow_unaudited, or set it for a trial"
            )
        return alias, version
    raise WorkspaceError(f"recommend needs a registered model, {name} has none; run `thaw train_dropoutnet` first")


JOB = Job(
    name="recommend",
    dataset="recommendations",
    parents=("model", "preferences", "clean"),
    sections=("name", "recommend", "labels", "training", "tracking"),
    run=run,
    always=True,
    one_lineage=False,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
