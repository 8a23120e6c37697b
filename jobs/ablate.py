"""Train variants of the configuration on the same records, several seeds each, and compare them on validation.

Which options are worth their place? Each variant changes what is named and nothing else, is trained once a seed, and
ranks the catalogue as it was at each validation moment. What comes out is each metric's mean over the seeds with its
interval over users, and the paired difference to the configuration as it is. The test split is not touched: look here
to choose. The next `thaw run` draws the result into its report. Nothing is registered.
"""

import argparse
import contextlib
import json
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import fsspec
import keras
import yaml

from jobs.launch import Context, Draft, Job, add_shorthand, lineage, main, relevant
from jobs.trials import backend, kept_trial
from pipelines.config import Config
from pipelines.errors import ConfigError, InputError
from pipelines.evaluation.ablation import Samples, Variant, compared, from_bytes, rows_of, to_bytes, told, variants_of
from pipelines.evaluation.ablation_images import AblatedClassifiers
from pipelines.evaluation.ablation_view import ablation_view
from pipelines.evaluation.evaluate import MODEL, sample_split
from pipelines.evaluation.inputs import Measurable, read_measurable
from pipelines.evaluation.page import fill
from pipelines.evaluation.rankers import Towers
from pipelines.evaluation.summary import headline_metrics
from pipelines.records.audited import require_audit
from pipelines.retrieval.factors import Factors
from pipelines.storage import Dataset, write_file, write_json
from pipelines.training.towers import Trained, needs_factors, train_towers
from schemas.manifest import Manifest

SPLIT = "validation"
TRIALS = "ablation_trials"
"""The dataset of which each training with its measurements is a version."""
SECTIONS = ("model", "training", "evaluation", "labels", "factors")
"""What a trial of the towers depends on, besides its seed."""
EXAMPLES = """examples:
  thaw ablate --config conf/demo.yaml --out out/demo --vary model.preference_dropout=0,0.25,0.5,0.75,1
  thaw ablate … --vary training.losses.mask_known=true,false --vary training.losses.log_q=true,false
  thaw ablate … --variant "pointwise alone: training.losses.softmax=0 training.losses.catalogue_negatives=0"
  thaw ablate … --seeds 3 --train-shards 2 --set training.epochs=4    (a quick look)
  thaw ablate --config conf/fashion_mnist.yaml --out OUT --vary classifier.tricks.blur_pool=false,true    (images)

--out is the folder of a `thaw run` up to write_records (and compute_factors, where variants need factors); for options
of `classifier`, that of `thaw write_image_records`. The same
under `ablation` in YAML: vary, variants, seeds, train_shards. Each training is kept: a run that was stopped goes on
where it was, and more variants or seeds train only what is new.
Cap the work (epochs, shards) where the result is not to depend on the machine; classifier.minutes caps time."""


def run(context: Context) -> Draft:
    """Train what is not there yet, a seed of every variant after the other, and compare."""
    config, options = context.config, context.config.ablation
    images = options.of_classifiers
    records = _capped(context.parents["image_records" if images else "records"], options.train_shards)
    variants = variants_of(config)
    for variant in variants if not images else ():
        require_audit(records.manifest, variant.config.training.allow_unaudited)
    if not records.manifest.tables[SPLIT].rows:
        raise InputError(
            "an ablation needs validation rows to measure on, the records have none; widen "
            + ("images.validation_share" if images else "split.validation_share")
        )
    seeds = range(config.seed, config.seed + options.seeds)
    trials = _Classifiers(context, records) if images else _Towers(context, records)
    found: dict[str, list[Samples]] = {variant.name: [] for variant in variants}
    best: dict[str, list[int]] = {variant.name: [] for variant in variants}
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    # Seed by seed: a run that is stopped has whole rounds, which fewer seeds can be read from.
    for number, seed in enumerate(seeds):
        for place, variant in enumerate(variants, 1):
            samples, trial, line = trials.of(variant, seed)
            found[variant.name].append(samples)
            best[variant.name].append(trial.facts["best_epoch"])
            seconds[variant.name].append(trial.seconds)
            context.say(f"[{number * len(variants) + place}/{len(variants) * len(seeds)}] {line}")
    results = {
        "split": SPLIT,
        "seeds": list(seeds),
        "train_rows": records.manifest.tables["train"].rows,
        "epochs": max((v.config.classifier if images else v.config.training).epochs for v in variants),
        "interval": "images and seeds" if images else "users",
        "variants": [
            {
                "name": v.name,
                "changes": v.changes,
                "is_default": v.config == config,
                "best_epochs": best[v.name],
                **row,
            }
            for v, row in zip(variants, compared(found, of_seeds=images).values(), strict=True)
        ],
    }
    for line in told(results):
        context.say(line)
    facts = {key: results[key] for key in ("split", "seeds", "train_rows", "epochs")}
    page = fill("ablation.html.j2", name=config.name, ablation=ablation_view(results))
    return Draft(
        tables={
            "results": write_json(context.staging, "results.json", results),
            "page": write_file(context.staging, "ablation.html", page.encode()),
        },
        facts={**facts, "variants": [variant.name for variant in variants]},
        as_of=records.manifest.as_of,
        notes={"seconds": seconds},
    )


class _Trials(ABC):
    """Trainings and what they are worth: found where they were done before, else done and published one by one."""

    def __init__(self, context: Context, records: Dataset) -> None:
        self._context, self._records = context, records

    @abstractmethod
    def reads(self, config: Config) -> Mapping[str, Dataset]:
        """The parents that a trial of this configuration reads, and no others: they are part of its key."""

    @abstractmethod
    def sections(self) -> tuple[str, ...]:
        """What a trial depends on, besides its seed."""

    @abstractmethod
    def trained(self, config: Config) -> tuple[Samples, Any]:
        """What a training is worth, and its history."""

    def of(self, variant: Variant, seed: int) -> tuple[Samples, Manifest, str]:
        """Its samples, its manifest, and a line about it."""
        config = variant.config.model_copy(update={"seed": seed})
        shards = [shard.sha256 for shard in self._records.manifest.tables["train"].shards]
        outcome = kept_trial(
            self._context,
            TRIALS,
            [seed, self._context.config.seed, relevant(config, self.sections()), shards],
            lambda staging: self._draft(config, staging),
            config=config,
            sections=self.sections(),
            parents=lineage(self.reads(config)),
        )
        facts = outcome.dataset.manifest.facts
        fs, _ = fsspec.core.url_to_fs(outcome.dataset.path)
        (path,) = outcome.dataset.table_paths("samples")
        samples = from_bytes(fs.cat_file(path), facts["rows"])
        values = [f"{m} {samples['all'][m].value:.4f}" for m in headline_metrics(samples["all"])]
        state = "found" if outcome.reused else f"{outcome.seconds:.1f} s"
        line = f"{variant.name}, seed {seed}: {', '.join(values)}, best epoch {facts['best_epoch']}  ({state})"
        return samples, outcome.dataset.manifest, line

    def _draft(self, config: Config, staging: str) -> Draft:
        samples, history = self.trained(config)
        tables = {
            "samples": write_file(staging, "samples.npy", to_bytes(samples)),
            "history": write_json(staging, "history.json", history.to_json()),
        }
        # What hundreds of trainings leave in Keras's own registers would fill the memory.
        keras.utils.clear_session()
        return Draft(tables, {"rows": rows_of(samples), "best_epoch": history.best_epoch})


class _Towers(_Trials):
    """Of the recommender."""

    def __init__(self, context: Context, records: Dataset) -> None:
        super().__init__(context, records)
        self._factors = Factors.read(context.parents["factors"]) if "factors" in context.parents else None
        self._measurable: Measurable | None = None

    def reads(self, config: Config) -> Mapping[str, Dataset]:
        """A variant that needs factors must not make the others train again."""
        return {n: p for n, p in self._context.parents.items() if n != "factors" or needs_factors(config)}

    def sections(self) -> tuple[str, ...]:
        """Those of model and measurement."""
        return SECTIONS

    def trained(self, config: Config) -> tuple[Samples, Any]:
        """Train, and rank the catalogue of the validation moments."""
        trained = train_towers(config, self._records, self._factors if needs_factors(config) else None)
        return self._measured(trained), trained.history

    def _measured(self, trained: Trained) -> Samples:
        config = self._context.config
        if self._measurable is None:
            parents = self._context.parents
            self._measurable = read_measurable(parents["examples"], parents["clean"], config.labels, (SPLIT,))
        # One seed for all: ties, clocks and resamples must be the same for every trial.
        found = sample_split(self._measurable, SPLIT, {MODEL: Towers(trained.scorer)}, config.evaluation, config.seed)
        return found.measured[MODEL]


class _Classifiers(_Trials):
    """Of image records."""

    def __init__(self, context: Context, records: Dataset) -> None:
        super().__init__(context, records)
        config = context.config
        self._ablated = AblatedClassifiers(records, SPLIT, config.evaluation.bootstrap, config.seed)

    def reads(self, config: Config) -> Mapping[str, Dataset]:
        """The images."""
        return self._context.parents

    def sections(self) -> tuple[str, ...]:
        """Those of the classifier and its measurement."""
        return ("classifier", "evaluation")

    def trained(self, config: Config) -> tuple[Samples, Any]:
        """Train, and look at the validation images."""
        return self._ablated.trial(config.classifier, config.seed)


def _capped(records: Dataset, shards: int | None) -> Dataset:
    """Records of which the training split is its first shards alone."""
    train = records.manifest.tables["train"]
    tables = {**records.manifest.tables, "train": train.model_copy(update={"shards": train.shards[:shards]})}
    return Dataset(records.path, records.manifest.model_copy(update={"tables": tables}))


def vary_override(text: str) -> str:
    """`KEY=V1,V2` of --vary as what --set takes. Raises ConfigError where it is not that."""
    key, equals, values = text.partition("=")
    try:
        listed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        listed = None
    if not equals or not key.strip() or not listed:
        raise ConfigError(f"--vary must look like a.b=value,value, got {text!r}; name an option and its values")
    return "ablation=" + json.dumps({"vary": {key.strip(): [_number(value) for value in listed]}}, default=str)


def _number(value: Any) -> Any:
    """1e-3 is text to YAML, which wants 1.0e-3."""
    with contextlib.suppress(TypeError, ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def variant_override(text: str) -> str:
    """`NAME: KEY=VALUE KEY=VALUE` of --variant as what --set takes. Raises ConfigError where it is not that."""
    name, colon, rest = text.partition(":")
    try:
        pairs = [word.partition("=") for word in shlex.split(rest)]
        changes = {key: yaml.safe_load(value) for key, _, value in pairs}
    except (ValueError, yaml.YAMLError):
        pairs = []
    if not colon or not name.strip() or not pairs or not all(key and equals for key, equals, _ in pairs):
        raise ConfigError(
            f"--variant must look like 'NAME: a.b=value c.d=value', got {text!r}; name it, and what it changes"
        )
    return "ablation=" + json.dumps({"variants": {name.strip(): changes}}, default=str)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to vary, and how often to train."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    vary = "an option of model, training or classifier and its values; another --vary for another (ablation.vary)"
    variant = "options that change together, under a name; may be repeated (ablation.variants)"
    for flag, override, form, meaning in (
        ("--vary", vary_override, "KEY=V1,V2", vary),
        ("--variant", variant_override, "'NAME: KEY=V …'", variant),
    ):
        parser.add_argument(
            flag,
            dest="set",
            action="append",
            type=override,
            default=argparse.SUPPRESS,
            metavar=form,
            help=meaning,
        )
    add_shorthand(parser, "--seeds", "ablation.seeds", "N", "trainings of each variant")
    add_shorthand(parser, "--train-shards", "ablation.train_shards", "N", "train on so many shards alone")


def needed(config: Config) -> tuple[str, ...]:
    """Image records for classifiers; for towers what they are trained and measured on."""
    if config.ablation.of_classifiers:
        return ("image_records",)
    factors = any(needs_factors(variant.config) for variant in variants_of(config))
    return ("records", "examples", "clean", *(("factors",) if factors else ()))


JOB = Job(
    name="ablate",
    dataset="ablation",
    parents=(),
    sections=("ablation", "classifier", *SECTIONS),
    run=run,
    needs=needed,
    depends=backend,
    arguments=arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
