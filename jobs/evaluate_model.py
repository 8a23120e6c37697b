"""Rank the catalogue as it was at each validation and test moment, beside the baselines, with intervals over users."""

import sys

import pyarrow as pa
import pyarrow.compute as pc

from jobs.launch import Context, Draft, Job, main
from pipelines.evaluation.content_knn import ContentKnn, ContentSpace
from pipelines.evaluation.evaluate import MODEL, clock_delay, measure_split
from pipelines.evaluation.inputs import read_catalogue, read_split, read_truth
from pipelines.evaluation.rankers import Planted, Popularity, Random, Ranker, Towers
from pipelines.evaluation.timeline import History
from pipelines.retrieval.scorer import Scorer
from pipelines.retrieval.seen import positive_rows
from pipelines.storage import write_json
from schemas.interactions import INTERACTIONS


def run(context: Context) -> Draft:
    """Measure the model and every baseline on both later splits."""
    examples = context.parents["examples"]
    tables = {split: read_split(examples, split) for split in ("validation", "test")}
    catalogue, exists = read_catalogue(examples), examples.read_table("exists")
    history = _history(context, tables, exists)
    rankers = _rankers(context, history)
    results = {
        split: measure_split(table, exists, rankers, catalogue, history, context.config.evaluation, context.config.seed)
        for split, table in tables.items()
    }
    facts = {
        "metrics": {split: result.measured[MODEL] for split, result in results.items()},
        "baselines": {
            name: {split: result.measured[name] for split, result in results.items()}
            for name in rankers
            if name != MODEL
        },
        "differences": {
            name: {split: result.differences[name] for split, result in results.items()}
            for name in rankers
            if name != MODEL
        },
        "reliability": {split: result.reliability for split, result in results.items()},
        "evaluated": {split: result.counts for split, result in results.items()},
    }
    return Draft(
        tables={"metrics": write_json(context.staging, "metrics.json", facts)},
        facts=facts,
        as_of=examples.manifest.as_of,
    )


def _history(context: Context, tables: dict[str, pa.Table], exists: pa.Table) -> History:
    interactions = context.parents["clean"].read_table("interactions", INTERACTIONS.names)
    positives = positive_rows(interactions, context.config.labels)
    everything = [positives, *tables.values()]
    return History.of(
        positives,
        pc.unique(pa.chunked_array([c for t in everything for c in t["user_id"].chunks], pa.string())),
        pc.unique(pa.chunked_array([c for t in [*everything, exists] for c in t["item_id"].chunks], pa.string())),
        clock_delay(pa.concat_tables([table.select(["known_by", "as_of"]) for table in tables.values()])),
    )


def _rankers(context: Context, history: History) -> dict[str, Ranker]:
    """The model, and the baselines that this data allows."""
    config = context.config
    scorer = Scorer.load(context.parents["model"].path)
    rankers: dict[str, Ranker] = {
        MODEL: Towers(scorer),
        "content_only": Towers(scorer, content_only=True),
        "popularity": Popularity(config.evaluation.popularity),
        "random": Random(),
    }
    versions = context.parents["clean"].read_table("items")
    before = context.parents["examples"].manifest.as_of.get("validation_start", 0)
    space = ContentSpace(versions, config.content_kinds("item"), before)
    if space.columns and versions.num_rows:
        rankers["content_knn"] = ContentKnn(space, versions, history)
    demo = context.workspace.current("demo_data") if context.data is None else None
    folder = demo.path if demo else context.data
    truth = read_truth(folder, config.source.truth) if folder and config.source.truth else None
    if truth:
        rankers["best_achievable"] = Planted(*truth)
    return rankers


JOB = Job(
    name="evaluate_model",
    dataset="evaluation",
    parents=("model", "examples", "clean"),
    sections=("evaluation", "labels", "source"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
