"""Rank the catalogue as it was at each validation and test moment, beside the baselines, with intervals over users."""

import argparse
import importlib
import sys

from jobs.launch import Context, Draft, Job, add_shorthand, made_of, main
from pipelines.config import Config
from pipelines.evaluation.content_knn import ContentKnn, ContentSpace
from pipelines.evaluation.evaluate import AGAINST, MODEL, measure_split
from pipelines.evaluation.factors import Als, ContentToFactors, ItemFactors
from pipelines.evaluation.inputs import Measurable, read_measurable, read_truth
from pipelines.evaluation.item_knn import ItemKnn
from pipelines.evaluation.rankers import Planted, Popularity, Random, Ranker, Towers
from pipelines.evaluation.strangers import ForStrangers
from pipelines.evaluation.summary import difference_lines
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import Workspace, write_json

SPLITS = ("validation", "test")


def run(context: Context) -> Draft:
    """Measure the model and every baseline on both later splits."""
    config, examples = context.config, context.parents["examples"]
    data = read_measurable(examples, context.parents["clean"], config.labels, SPLITS)
    rankers = _rankers(context, data)
    results = {split: measure_split(data, split, rankers, config.evaluation, config.seed) for split in SPLITS}
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
    for line in difference_lines(facts["differences"].get(AGAINST, {}).get("test")):
        context.say(line)
    return Draft(
        tables={"metrics": write_json(context.staging, "metrics.json", facts)},
        facts=facts,
        as_of=examples.manifest.as_of,
        notes={"against": config.evaluation.against or ""},
    )


def _rankers(context: Context, data: Measurable) -> dict[str, Ranker]:
    """The model, what it is compared with, and the baselines that this data allows."""
    config = context.config
    scorer = Scorer.load(context.parents["model"].path)
    rankers: dict[str, Ranker] = {MODEL: Towers(scorer)}
    if config.evaluation.against:
        rankers[AGAINST] = _other(context, data)
    rankers |= {
        "content_only": Towers(scorer, content_only=True),
        "popularity": Popularity(config.evaluation.popularity),
        "random": Random(),
    }
    versions = context.parents["clean"].read_table("items")
    before = context.parents["examples"].manifest.as_of.get("validation_start", 0)
    space = ContentSpace(versions, config.content_kinds("item"), before)
    if space.columns and versions.num_rows:
        rankers["content_knn"] = ForStrangers(ContentKnn(space, versions, data.history))
    rankers["item_knn"] = ForStrangers(ItemKnn(data.history, before))
    if config.factors is not None and "factors" in context.parents:
        factors = ItemFactors.read(context.parents["factors"], before)
        rankers["als"] = ForStrangers(Als(factors, data.history))
        if "content_knn" in rankers:
            rankers["ridge"] = ForStrangers(ContentToFactors(factors, space, versions, data.history, before))
    demo = context.workspace.current("demo_data") if context.data is None else None
    folder = demo.path if demo else context.data
    truth = read_truth(folder, config.source.truth) if folder and config.source.truth else None
    if truth:
        rankers["best_achievable"] = Planted(*truth)
    return rankers


def _pinned(config: Config, workspace: Workspace) -> Config:
    """`config` with the version, for an alias, that is compared with.

    An alias that has come to stand for the evaluated model itself means what that one was compared with before: the
    same command, run again after a promotion, has nothing to do.
    """
    against = config.evaluation.against
    if against is None:
        return config
    tracking = importlib.import_module("pipelines.tracking.registered")
    version = tracking.lookup(config, workspace.root, against).uri
    model, before = workspace.current("model"), workspace.current("evaluation")
    if "@" in against and model and before and tracking.registered_as(model) == version and made_of(before, model):
        version = before.manifest.notes.get("against") or version
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"against": version})})


def _other(context: Context, data: Measurable) -> Towers:
    # Imported here, and above: a comparison alone needs MLflow.
    tracking = importlib.import_module("pipelines.tracking.registered")
    other = tracking.lookup(context.config, context.workspace.root, context.config.evaluation.against)
    scorer = other.load()
    tracking.require_columns(scorer, data.splits["test"].column_names, other.uri, "examples")
    return Towers(scorer)


def _arguments(parser: argparse.ArgumentParser) -> None:
    meaning = "also rank by this registered model, models:/NAME/VERSION or models:/NAME@ALIAS, and show the differences"
    add_shorthand(parser, "--against", "evaluation.against", "MODEL", meaning)


JOB = Job(
    name="evaluate_model",
    dataset="evaluation",
    parents=("model", "examples", "clean", "factors"),
    sections=("evaluation", "labels", "source", "factors"),
    run=run,
    optional=lambda config: ("factors",),
    pinned=_pinned,
    depends=lambda config: config.tracking.uri or "",
    arguments=_arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
