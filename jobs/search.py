"""Find a good classifier of images: try families and their options on validation, train the best one, register it.

`thaw search --data FOLDER_OF_CLASSES --minutes 20` needs no configuration. Every trial is a run of MLflow nested in the
search's own, and is kept: a search that was stopped goes on where it was. The test split is not touched.
"""

import argparse
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import keras

from jobs.launch import (
    Context,
    Draft,
    Job,
    add_arguments,
    add_shorthand,
    execute,
    guarded,
    job_named,
    lineage,
    outcome_line,
    relevant,
    say,
)
from jobs.train_classifier import JOB as TRAIN
from jobs.trials import backend, kept_trial
from pipelines.config import Config, changed, load_config
from pipelines.errors import ConfigError, InputError
from pipelines.images.folder_options import infer_images
from pipelines.models.costs import costs
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.search.budget import Budget, finals_of
from pipelines.search.choice import Chooser, Proposal
from pipelines.search.neighbours import choice, fit_nearest, possible, within
from pipelines.search.page import page
from pipelines.search.space import (
    NEAREST,
    NO_TRICKS,
    NOT_OF_FLAT,
    Changes,
    applied,
    final_epochs,
    kind_of,
    spaces,
    trial_epochs,
)
from pipelines.search.summary import as_yaml, best_of, by_family, finalists_of, table_lines, whole_yaml
from pipelines.search.trial import Fit, Fold, GivenUpError, fit, folds_of, images_per_s
from pipelines.storage import Dataset, Workspace, require_folder, write_json
from pipelines.tracking.searches import TrackedSearch, make_challenger, tracked_search
from pipelines.training.classes import check_classes, state_of
from pipelines.training.history import Epoch
from pipelines.training.images import image_shape, read_images
from schemas.manifest import digest

TRIALS = "search_trials"
"""The dataset of which each trial is a version."""
PAGE = "search.html"
"""The page beside the datasets; it has speeds, which differ from run to run."""
SETTLED = "search.yaml"
"""Beside it the whole configuration with the best options."""
EXAMPLES = """examples:
  thaw search --data FOLDER_OF_CLASSES --minutes 20 --out out/pictures
  thaw search --data FOLDER_OF_CLASSES --trials 30 --folds 5            (the same trials on every machine)
  thaw search --config conf/fashion_mnist.yaml --data FOLDER --minutes 60 --set 'search.families=[mobilenet_v2]'

FOLDER_OF_CLASSES holds a folder of JPEGs or PNGs a class, or train/ and test/ (and validation/) that do."""


def run(context: Context) -> Draft:
    """Try until time or trials are over, and say what was best."""
    config, records, options = context.config, context.parents["image_records"], context.config.search
    classes = records.manifest.facts["classes"]
    check(config, records)
    # Of many networks each is traced once, which TensorFlow takes for one that is traced again and again.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    train, validation = read_images(records, "train", options.train_images), read_images(records, "validation")
    folds = folds_of(train, validation, options, config.seed)
    budget, rows = Budget(options), folds[0].train.rows
    epochs = trial_epochs(options, rows)
    trials: list[dict[str, Any]] = []
    with tracked_search(config, context.workspace.root, search_key(config, records)) as tracked:
        making = _Trials(context, folds, budget, tracked)
        curves: list[dict[str, Any]] = []
        if NEAREST in options.families:
            trial, curves = making.nearest()
            trials.append(trial)
        networks = {f: s for f, s in spaces(config, min(image_shape(records)[:2]), epochs).items() if f != NEAREST}
        chooser = Chooser(options, networks, epochs, config.seed) if networks else None
        while chooser and not budget.is_over(len(trials)):
            trials.append(making.of(chooser.next(), len(trials) + 1))
        if missed := sorted(set(options.families) - {trial["family"] for trial in trials}):
            context.say(f"note: no time was left to try {', '.join(missed)}; give the search more minutes or trials")
        if unknown := sorted({t["family"] for t in trials} - {t["family"] for t in trials if not is_cut_short(t, 1)}):
            context.say(
                f"note: no time was left for more than an epoch of {', '.join(unknown)}, whose accuracy says little; "
                "give the search more minutes"
            )
        best, finalists = best_of(trials), finalists_of(trials)
        if not validation.rows and len(finalists) > 1:
            context.say(
                "note: there are no validation images to compare last trainings by: "
                f"{best['family']}, the best in folds, is trained alone"
            )
            finalists = [best]
        results = {
            "classes": len(classes),
            "images": {"train": rows, "held": folds[0].held.rows, "folds": options.folds or 1},
            "trials": [{key: value for key, value in trial.items() if key != "speed"} for trial in trials],
            "neighbours": curves,
            "best": best["number"],
            "finals": finals_of(finalists, final_epochs(options, rows), budget.left()),
        }
        speeds = {str(trial["number"]): trial["speed"] for trial in trials}
        found = {"validation_accuracy": best["accuracy"], "trials": len(trials)}
        tracked.log_texts({PAGE: page(config.name, results, speeds)}, found)
    tables = {"results": write_json(context.staging, "results.json", results)}
    facts = {"trials": len(trials), "best": {"family": best["family"], "accuracy": best["accuracy"]}}
    return Draft(tables, facts, notes={"run_id": tracked.run_id, "speeds": speeds})


def is_cut_short(trial: Mapping[str, Any], epochs: int | None = None) -> bool:
    """Whether a trial that was not given up had no time for all of its epochs, or for more than `epochs`."""
    done = len(trial["history"])
    planned = trial["changes"]["epochs"]
    return trial["accuracy"] is not None and 0 < done < planned and (epochs is None or done <= epochs)


def require_end(config: Config) -> None:
    """Raises ConfigError where a search would go on for ever."""
    if config.search.minutes is None and config.search.trials is None:
        raise ConfigError("a search must have an end, got neither search.minutes nor search.trials; add --minutes 20")


def check(config: Config, records: Dataset) -> None:
    """Raises ConfigError or InputError where a search has no end, or nothing to tell apart."""
    facts = records.manifest.facts
    require_end(config)
    if len(facts["classes"]) < 2:
        raise InputError(
            f"a classifier must have at least two classes, got {facts['classes']}; name the folder that holds a folder "
            "for each class"
        )
    for note in check_classes(facts["splits"]):
        say(f"note: {note}")


def search_key(config: Config, records: Dataset) -> str:
    """Which search it is, however many trials it is to have."""
    options = {key: value for key, value in config.search.model_dump(mode="json").items() if key != "trials"}
    return digest([options, config.seed, relevant(config, ("classifier",)), records.manifest.content_digest])


class _Trials:
    """Trials: found where they were made before, else made, logged and published one by one."""

    def __init__(self, context: Context, folds: Sequence[Fold], budget: Budget, tracked: TrackedSearch) -> None:
        self._context, self._folds, self._budget, self._tracked = context, folds, budget, tracked
        self._records = context.parents["image_records"]
        self._classes: list[str] = self._records.manifest.facts["classes"]

    def of(self, proposal: Proposal, number: int) -> dict[str, Any]:
        """What came of a proposal; the proposal is told."""
        changes = {**proposal.changes, "minutes": self._budget.trial_minutes}
        options = applied(self._context.config, changes).classifier
        reported: list[float] = []

        def watch(epoch: Epoch) -> bool:
            reported.append(round(epoch.metrics["validation_accuracy"], 6))
            proposal.report(epoch.number, reported[-1])
            return proposal.hopeless()

        def attempt() -> tuple[Fit | None, dict[str, Any]]:
            try:
                seed = self._context.config.seed
                made = fit(options, self._folds, self._classes, seed=seed, on_epoch=watch)
            except GivenUpError as why:
                return None, {"state": "given up", "why": str(why), "history": reported}
            return made, {"state": "complete", "history": reported}

        trial, reused = self._made(number, proposal.family, proposal.changes, changes, attempt)
        for epoch, accuracy in enumerate(trial["history"], 1) if reused else ():
            proposal.report(epoch, accuracy)
            # Hyperband notes what it decides by as it is asked.
            proposal.hopeless()
        proposal.finish(trial["accuracy"] if trial["state"] == "complete" else None)
        return trial

    def nearest(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The family nearest with what cross-validation chooses, and its curves."""
        config, options = self._context.config, self._context.config.search
        space, classes, minutes = spaces(config, 0, 1)[NEAREST], len(self._classes), self._budget.trial_minutes

        def attempt() -> tuple[Fit | None, dict[str, Any]]:
            folds = within(self._folds, options, classes, minutes and minutes * 60)
            rows = folds[0].train.rows
            if rows < self._folds[0].train.rows:
                self._context.say(
                    f"note: nearest is tried with {rows:,} of {self._folds[0].train.rows:,} training images: more "
                    "would take longer than a trial may"
                )
            if left := possible(rows, options)[1]:
                self._context.say(f"note: k = {', '.join(map(str, left))} left out: a fold has too few training images")
            made, curves = fit_nearest(folds, options, classes, seed=config.seed)
            return made, {"state": "complete", "history": [], "curves": curves, "rows": rows}

        trial, _ = self._made(1, NEAREST, space.fixed, {**space.fixed, "minutes": minutes}, attempt)
        curves = trial.pop("curves")
        best = choice(curves)
        self._context.say(f"    k = {best['k']} and {best['distance'].upper()}, by cross-validation")
        chosen = {"neighbours.k": best["k"], "neighbours.distance": best["distance"]}
        return {**trial, "changes": {**trial["changes"], **chosen}}, curves

    def _made(
        self, number: int, family: str, changes: Changes, options: Changes, attempt: Any
    ) -> tuple[dict[str, Any], bool]:
        """The trial, and whether it was found."""
        config = self._context.config
        search = config.search.model_dump(mode="json", exclude={"minutes", "trials", "final_share", "final_epochs"})
        outcome = kept_trial(
            self._context,
            TRIALS,
            [config.seed, search, relevant(config, ("classifier",)), options],
            lambda staging: self._draft(number, changes, attempt),
            config=config,
            sections=("classifier", "search"),
            parents=lineage(self._context.parents),
        )
        manifest = outcome.dataset.manifest
        self._budget.spent_s += manifest.seconds
        trial = {"number": number, "family": family, "changes": dict(changes), **manifest.facts}
        trial["speed"] = {**manifest.notes, "seconds": manifest.seconds}
        state = "found" if outcome.reused else f"{manifest.seconds:.1f} s"
        if is_cut_short(trial):
            state += f", time for {len(trial['history'])} of {changes['epochs']} epochs"
        accuracy = "given up" if trial["accuracy"] is None else f"{trial['accuracy']:.4f}"
        unsaid = {*_UNSAID, *(NOT_OF_FLAT if kind_of(family) == "flat" else NO_TRICKS)}
        varied = {key: value for key, value in changes.items() if key not in unsaid}
        said = " ".join(f"{_named(key)}={_short(value)}" for key, value in varied.items())
        self._context.say(f"[{number}] {family:<13} {accuracy:<8}  {said}  ({state})")
        return trial, outcome.reused

    def _draft(self, number: int, changes: Changes, attempt: Any) -> Draft:
        cpu = time.process_time()
        made, facts = attempt()
        facts = {**facts, "accuracy": None}
        notes: dict[str, Any] = {"cpu_s": round(time.process_time() - cpu, 2)}
        if made is not None:
            saved = SavedClassifier(state_of(self._records, changes["family"]), made.model)
            with tempfile.TemporaryDirectory() as folder:
                size = sum(shard.bytes for entry in saved.save(folder).values() for shard in entry.shards)
            notes["images_per_s"] = round(images_per_s(saved, self._folds[0].held.images))
            facts |= {
                "accuracy": round(made.accuracy, 6),
                "accuracies": [round(value, 6) for value in made.accuracies],
                "best_epoch": made.best_epoch,
                "bytes": size,
                **costs(made.model),
            }
        # What hundreds of trainings leave in Keras's own registers would fill the memory.
        keras.utils.clear_session()
        metrics = {
            key: facts[key]
            for key in ("accuracy", "parameters", "multiply_adds", "bytes")
            if facts.get(key) is not None
        }
        name = f"{number:03d} {changes['family']}"
        self._tracked.log_trial(name, changes, facts["history"], {**metrics, **notes}, facts["state"])
        return Draft({}, facts, notes=notes)


_UNSAID = ("family", "epochs", "minutes", "stem", "optimizer.name")


def _named(key: str) -> str:
    """The end of an option's key; its section where the end is `name`, of which there are several."""
    return key.removesuffix(".name").rpartition(".")[2]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settled(arguments: argparse.Namespace) -> tuple[Config, Workspace, str | None]:
    """Configuration, workspace and data folder; without --config, what the data folder is found to hold."""
    data = arguments.data or None
    if data is not None:
        require_folder(data)
    if arguments.config:
        config = load_config(arguments.config, arguments.set)
    elif data is None:
        raise ConfigError(
            "a search must know its images, got neither --data nor --config; add --data FOLDER_OF_CLASSES"
        )
    else:
        images = json.dumps(infer_images(data, say))
        config = load_config([], [f"name={named(data)}", "seed=7", f"images={images}", *arguments.set])
    return config, Workspace.open(arguments.out), data


def named(data: str) -> str:
    """A configuration's name after a folder's.

    >>> named("/home/me/My Pictures/"), named("2024")
    ('my_pictures', 'images_2024')
    """
    name = re.sub(r"[^a-z0-9]+", "_", data.rstrip("/").rpartition("/")[2].lower()).strip("_")
    return name if re.match("[a-z]", name) else f"images_{name}".rstrip("_")


def search(config: Config, workspace: Workspace, data: str | None, *, force: bool = False) -> int:
    """Records, the search, the last trainings and, by validation images, the better one's evaluation.

    Returns the exit code.
    """
    require_end(config)  # before all images are read for nothing
    if config.images is not None and data is not None:
        outcome = execute(job_named("write_image_records"), config, workspace, data)
        say(outcome_line("write_image_records", outcome))
    found = execute(JOB, config, workspace, data, force=force)
    say(outcome_line("search", found))
    results = found.dataset.read_json("results")
    trained = []
    for final in results["finals"]:
        chosen = applied(config, final)
        say(f"training {final['family']} to the end")
        trained.append((final, chosen, execute(TRAIN, chosen, workspace, data, force=force)))
        say(outcome_line("train_classifier", trained[-1][2]))
    # Of equals the first, which was better in the search.
    final, chosen, best = max(trained, key=lambda one: accuracy_of(one[2].dataset) or 0.0)
    if best is not trained[-1][2]:
        workspace.point(best.dataset)
        notes = best.dataset.manifest.notes
        make_challenger(config, workspace.root, notes["name"], notes["version"])
    if accuracy_of(best.dataset) is not None:
        # Whatever the configuration measures on: test images are for what comes after.
        judged = changed(chosen, {"classifier_evaluation.split": "validation"})
        evaluation = execute(job_named("evaluate_classifier"), judged, workspace, data)
        say(outcome_line("evaluate_classifier", evaluation))
    fs, root = fsspec.core.url_to_fs(workspace.root)
    fs.pipe_file(f"{root}/{PAGE}", page(config.name, results, found.dataset.manifest.notes["speeds"]).encode())
    fs.pipe_file(f"{root}/{SETTLED}", whole_yaml(config, final).encode())
    say(f"page: {workspace.root}/{PAGE}\nconfiguration: {workspace.root}/{SETTLED}")
    report(
        found.dataset,
        results,
        final,
        [(one[0]["family"], one[2].dataset) for one in trained],
        best.dataset,
        workspace.root,
    )
    return 0


def accuracy_of(classifier: Dataset) -> float | None:
    """Its validation accuracy; None where there was nothing to validate on."""
    accuracy: float | None = classifier.manifest.facts["best"].get("validation_accuracy")
    return accuracy


def report(
    found: Dataset,
    results: Mapping[str, Any],
    final: Changes,
    trained: Sequence[tuple[str, Dataset]],
    best: Dataset,
    root: str,
) -> None:
    """Print the table of families, the registered model and the options to put into a configuration."""
    out = [*table_lines(by_family(results, found.manifest.notes["speeds"])), ""]
    for family, classifier in trained:
        accuracy = accuracy_of(classifier)
        told = "no validation images" if accuracy is None else f"validation accuracy {accuracy:.4f}"
        out.append(f"trained to the end: {family}, {told}, {classifier.manifest.seconds:.0f} s")
    notes, where = best.manifest.notes, f"--config {root}/{SETTLED} --out {root}"
    out += [
        f"registered: models:/{notes['name']}/{notes['version']}",
        f"on test images, once: thaw evaluate_classifier {where} --split test",
        f"to champion: thaw promote_classifier {where}",
        f"on other images: thaw classify {where} --data FOLDER",
        "",
        "# the best options, for a configuration",
        as_yaml(final).rstrip(),
    ]
    sys.stdout.write("\n".join(out) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """`thaw search`."""
    parser = argparse.ArgumentParser(
        prog="thaw search",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    for flag, metavar, meaning in (
        ("minutes", "M", "trials and the last training together"),
        ("trials", "N", "how many options are tried"),
        ("folds", "K", "cross-validate each trial"),
        ("sampler", "NAME", "tpe or random"),
    ):
        add_shorthand(parser, f"--{flag}", f"search.{flag}", metavar, meaning)

    def action() -> int:
        arguments = parser.parse_args(argv)
        return search(*settled(arguments), force=arguments.force)

    return guarded(action)


JOB = Job(
    name="search",
    dataset="search",
    parents=("image_records",),
    sections=("name", "search", "classifier", "tracking"),
    run=run,
    depends=backend,
)

if __name__ == "__main__":
    sys.exit(main())
