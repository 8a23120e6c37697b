"""What every job shares: arguments, parents, resuming, publishing, exit codes. No arithmetic."""

import argparse
import datetime as dt
import errno
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.cluster import cluster_fault, is_sparks
from pipelines.code import code_version
from pipelines.config import Config, load_config, redacted
from pipelines.errors import InputError, ThawError, TrackingError, WorkspaceError
from pipelines.features import feature_set
from pipelines.images.own_encoder import makes_vectors, trains_encoder
from pipelines.storage import Dataset, Workspace, open_dataset, require_folder
from schemas.manifest import Manifest, TableEntry, digest

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CONFIG = ROOT / "conf" / "demo.yaml"

CHAIN = (
    "generate_demo",
    "check_quality",
    "compute_preferences",
    "build_examples",
    "audit_leakage",
    "write_records",
    "train_dropoutnet",
    "evaluate_model",
    "promote_model",
    "recommend",
)
"""The jobs of every run, in the order data meets them. OPTIONAL ones are in STAGES, all others beside."""

FACTORS = "compute_factors"
"""The job that makes reference factors."""

ABLATE = "ablate"
"""The job beside the chain that trains variants of the model and compares them."""

SEARCH = "search"
"""The job beside the chain that tries classifiers and trains the best."""

IMAGE_JOBS = ("write_image_records", "embed_content")
"""Images to records for a classifier, and to content vectors for the chain."""

CLASSIFIER_JOBS = (
    "train_classifier",
    "evaluate_classifier",
    "promote_classifier",
    "classify",
    "train_content_classifier",
)
"""Jobs beside the chain that make classifiers of image records, and use them; the last makes one of items' content."""

REGISTRY_COMMANDS = ("rollback", "lineage")
"""Commands on the registry alone: they publish nothing, and need no output folder where `tracking.uri` is set."""

JOBS = (*CHAIN, FACTORS, ABLATE, *IMAGE_JOBS, SEARCH, *CLASSIFIER_JOBS)
"""Every job."""

SPARK_JOBS = ("check_quality", "compute_preferences", FACTORS, "build_examples", "audit_leakage", "write_records")
"""Those that need Spark, and may be given to spark-submit."""

OPTIONAL: Mapping[str, Callable[[Config], bool]] = {
    "write_image_records": trains_encoder,
    "train_classifier": trains_encoder,
    "embed_content": makes_vectors,
    FACTORS: lambda config: config.factors is not None,
}
"""The jobs that `thaw run` runs where the configuration asks for them -> whether it does."""

IF_CONFIGURED = "--if-configured"
NOTHING_TO_DO = "{}: the configuration does not ask for it, there is nothing to do"

STAGES = (CHAIN[0], "write_image_records", "train_classifier", "embed_content", *CHAIN[1:3], FACTORS, *CHAIN[3:])
"""CHAIN with the OPTIONAL jobs in their places."""


RUN_ID = "run_id"
"""The note of a dataset that is registered: its MLflow run."""


@dataclass(frozen=True)
class Draft:
    """What a job's `run` returns: the content of the manifest to be published."""

    tables: Mapping[str, TableEntry]
    facts: Mapping[str, Any] = field(default_factory=dict)
    as_of: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a job's `run` gets."""

    config: Config
    workspace: Workspace
    data: str | None
    """Folder of the raw data, where the job reads it."""
    parents: Mapping[str, Dataset]
    staging: str
    """Empty folder that becomes the published dataset."""
    key: str = ""
    """Resume key of the version in the making."""
    raw: str = ""
    """Digest of the raw files, where the job has a `fingerprint`."""

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        say(line)


@dataclass(frozen=True)
class Job:
    """A job: what it reads, what it publishes, what its result depends on, and its function."""

    name: str
    dataset: str
    """The dataset that it publishes."""
    parents: tuple[str, ...]
    """Datasets that it reads."""
    sections: tuple[str, ...]
    """Configuration sections that its result depends on."""
    run: Callable[[Context], Draft]
    optional: Callable[[Config], tuple[str, ...]] | None = None
    """(config) -> parents that it can do without: one that is missing, or was made from other data, is left out."""
    needs: Callable[[Config], tuple[str, ...]] | None = None
    """(config) -> further parents that this configuration asks for."""
    reads_data: bool = False
    """True: it reads raw data, and `fingerprint` says which content."""
    data_optional: bool = False
    """True: it does without raw data, and says what it could not do."""
    fingerprint: Callable[[Config, str], str] | None = None
    """(config, data folder) -> digest of the raw files."""
    pinned: Callable[[Config, Workspace], Config] | None = None
    """(config, workspace) -> the configuration with what may change its meaning resolved, such as an alias of the
    registry to a version. The job, its resume key and its manifest know this one alone."""
    depends: Callable[[Config], str] | None = None
    """(config) -> what its result depends on besides its sections and the workspace's datasets."""
    alone: Callable[[Config], bool] | None = None
    """(config) -> whether one run at a time does it in a workspace, because it counts what others have published."""
    register: Callable[[Context, Dataset], Mapping[str, Any]] | None = None
    """(context, what was published) -> notes of the MLflow run and version that it is from now on. A step of its own,
    after publishing: where the server is away the work is not lost, and the same command only registers."""
    always: bool = False
    """True: not resumed, because it acts on something outside the workspace."""
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    """Adds arguments of its own."""
    instead: Callable[[argparse.Namespace, Config, Workspace], bool] | None = None
    """What its own arguments ask for in place of `run`; False where they do not."""
    after: Callable[[Config, Workspace, "Outcome"], None] | None = None
    """What its command does when the dataset is there, made now or found: a page to write, what others are to know."""
    around: Callable[[], AbstractContextManager[None]] | None = None
    """What its command is done within: others that are to learn how it ended."""
    one_lineage: bool = True
    """True: what it reads must have been made from the same data. False: an older model may serve today's."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    dataset: Dataset
    reused: bool
    seconds: float


def job_named(name: str) -> Job:
    """The job of `jobs/<name>.py`. Imports that file, and its engine with it, only now."""
    logging.getLogger().addFilter(_matters)
    job: Job = importlib.import_module(f"jobs.{name}").JOB
    return job


def _matters(record: logging.LogRecord) -> bool:
    """False for what Beam says at its import where Google's clients, which nothing here needs, are not installed."""
    return not str(record.msg).startswith("apitools not found")


def execute(job: Job, config: Config, workspace: Workspace, data: str | None, *, force: bool = False) -> Outcome:
    """Run a job, or find that the same inputs were already run, and publish.

    The resume key is the digest of the job, the configuration sections that matter, the parents' content, the raw
    files and the code.
    """
    started = time.monotonic()
    needed = job.needs(config) if job.needs else ()
    parents = open_parents(job, (*job.parents, *needed), config, workspace)
    if job.pinned:
        config = job.pinned(config, workspace)
    if job.reads_data:
        demo = workspace.current("demo_data") if data is None and config.demo else None
        folder = demo.path if demo else data
        if folder is None and not job.data_optional:
            raise InputError(f"{job.name} reads raw data; say where it is with --data FOLDER")
        data = folder
    raw = job.fingerprint(config, data) if job.fingerprint and data else ""
    key = digest(
        [
            job.name,
            config.seed,
            relevant(config, job.sections),
            {n: p.manifest.content_digest for n, p in parents.items()},
            raw,
            *([job.depends(config)] if job.depends else []),
            code_version(),
        ]
    )

    def context(folder: str) -> Context:
        return Context(config, workspace, data, parents, folder, key, raw)

    with workspace.claim(job.dataset, "alone", say) if job.alone and job.alone(config) else nullcontext():
        outcome = find_or_make(
            workspace,
            job.dataset,
            key,
            lambda staging: job.run(context(staging)),
            config=config,
            sections=job.sections,
            parents=lineage(parents),
            force=force or job.always,
            started=started,
        )
        return registered(job, context(outcome.dataset.path), outcome) if job.register else outcome


def registered(job: Job, context: Context, outcome: Outcome) -> Outcome:
    """`outcome`, whose dataset notes its MLflow run; one that does not is registered now. Raises TrackingError."""
    if RUN_ID in outcome.dataset.manifest.notes or job.register is None:
        return outcome
    with context.workspace.claim(job.dataset, outcome.dataset.manifest.key, say):
        dataset = open_dataset(outcome.dataset.path)  # another run may have done it while this one waited
        if RUN_ID not in dataset.manifest.notes:
            try:
                notes = job.register(context, dataset)
            except TrackingError:
                say(
                    f"note: what {job.name} made is kept; the same command, without --force, registers it, and does "
                    "nothing else again"
                )
                raise
            dataset = context.workspace.annotate(dataset, notes)
    return replace(outcome, dataset=dataset)


def find_or_make(
    workspace: Workspace,
    dataset: str,
    key: str,
    write: Callable[[str], Draft],
    *,
    config: Config,
    sections: Sequence[str],
    parents: Mapping[str, str],
    force: bool,
    started: float,
) -> Outcome:
    """The published version of this resume key, made current; else what `write` makes in a staging folder, published.

    `parents` is name -> content digest, `started` the monotonic time at which the work began. Of several runs that want
    the same version one makes it; the others wait, say so, and read it. What a failed run had staged is removed.
    """
    found = None if force else workspace.find(dataset, key)
    if found and workspace.is_current(found):
        return Outcome(found, True, time.monotonic() - started)
    with workspace.claim(dataset, key, say) as require_claim:
        found = None if force else workspace.find(dataset, key)
        if found:
            workspace.point(found)
            return Outcome(found, True, time.monotonic() - started)
        staging = workspace.stage(dataset, key)
        try:
            draft = write(staging)
            seconds = round(time.monotonic() - started, 3)
            manifest = Manifest(
                dataset=dataset,
                tables=dict(draft.tables),
                facts=dict(draft.facts),
                seed=config.seed,
                as_of=dict(draft.as_of),
                parents=dict(parents),
                key=key,
                config=redacted(relevant(config, sections)),
                code_version=code_version(),
                made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                seconds=seconds,
                notes=dict(draft.notes),
            )
            require_claim()
            return Outcome(workspace.publish(staging, manifest), False, seconds)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                if not workspace.is_published(staging):
                    workspace.discard(staging)
            raise


def relevant(config: Config, sections: Sequence[str]) -> dict[str, Any]:
    """Sections of the configuration as plain data."""
    return {section: config.model_dump(mode="json")[section] for section in sections}


def open_parents(job: Job, names: Sequence[str], config: Config, workspace: Workspace) -> dict[str, Dataset]:
    """What a job reads. Raises WorkspaceError where one is missing, or they do not belong together."""
    optional = job.optional(config) if job.optional else ()
    parents = {name: _parent(workspace, job, name) for name in names if name not in optional}
    made_from = lineage(parents)
    for name in optional:
        dataset = workspace.current(name)
        if dataset and all(made_from.get(key, value) == value for key, value in dataset.manifest.parents.items()):
            parents[name] = _parent(workspace, job, name)
        elif dataset:
            say(
                f"note: `{name}` was made from other data and is left out; run `thaw {maker_of(name)}` again to have it"
            )
    if job.one_lineage:
        check_lineage(job.name, parents, workspace)
        check_configuration(job.name, parents, config)
    return parents


def _parent(workspace: Workspace, job: Job, name: str) -> Dataset:
    parent = workspace.current(name)
    if parent is None:
        raise WorkspaceError(
            f"{job.name} needs the dataset `{name}`, which is not there; run `thaw {maker_of(name)}` first"
        )
    parent.check_sizes()
    return parent


def lineage(parents: Mapping[str, Dataset]) -> dict[str, str]:
    """Dataset -> content digest of all that something made of `parents` was made from, directly or not."""
    whole: dict[str, str] = {}
    for parent in parents.values():
        whole |= parent.manifest.parents
    return whole | {name: parent.manifest.content_digest for name, parent in parents.items()}


def made_of(dataset: Dataset, parent: Dataset) -> bool:
    """Whether `dataset` was made of this very content of `parent`."""
    return dataset.manifest.parents.get(parent.manifest.dataset) == parent.manifest.content_digest


def check_lineage(name: str, parents: Mapping[str, Dataset], workspace: Workspace) -> None:
    """Raises WorkspaceError where two parents were made from different versions of one dataset.

    Of the two it names the stale one: that which was not made from the current version.
    """
    versions: dict[str, dict[str, str]] = {}
    for parent, dataset in parents.items():
        for ancestor, version in lineage({parent: dataset}).items():
            versions.setdefault(ancestor, {})[parent] = version
    for ancestor, found in versions.items():
        if len(set(found.values())) > 1:
            current = workspace.current(ancestor)
            now = current.manifest.content_digest if current else list(found.values())[-1]
            parent = next(parent for parent, version in found.items() if version != now)
            raise WorkspaceError(
                f"{name} must read datasets of one lineage, but `{parent}` was made from `{ancestor}` "
                f"{found[parent][:12]}, and now there is {now[:12]}; run `thaw {maker_of(parent)}` again, "
                "or `thaw run`, which runs all that is out of date"
            )


def check_configuration(name: str, parents: Mapping[str, Dataset], config: Config) -> None:
    """Raises WorkspaceError where a parent was made with another configuration of what rows and columns mean."""
    now = redacted(config.model_dump(mode="json"))
    for parent, dataset in parents.items():
        for section in ("source", "labels", "split", "preferences", "catalogue", "factors"):
            if dataset.manifest.config.get(section, now[section]) != now[section]:
                raise WorkspaceError(
                    f"{name} must read what its own configuration made, but `{parent}` was made with another "
                    f"`{section}` section; run `thaw {maker_of(parent)}` again, or `thaw run`, which runs all that is "
                    "out of date"
                )


def maker_of(dataset: str) -> str:
    """The job that publishes a dataset; the dataset's own name where none does."""
    return next((job for job in JOBS if job_dataset(job) == dataset), dataset)


def job_dataset(name: str) -> str:
    """The dataset that a job publishes, without importing the job."""
    return {
        "generate_demo": "demo_data",
        "check_quality": "clean",
        "compute_preferences": "preferences",
        "compute_factors": "factors",
        "build_examples": "examples",
        "audit_leakage": "audit",
        "write_records": "records",
        "train_dropoutnet": "model",
        "evaluate_model": "evaluation",
        "promote_model": "promotion",
        "recommend": "recommendations",
        "ablate": "ablation",
        "search": "search",
        "write_image_records": "image_records",
        "embed_content": "content_vectors",
        "train_classifier": "classifier",
        "train_content_classifier": "content_classifier",
        "evaluate_classifier": "classifier_evaluation",
        "promote_classifier": "classifier_promotion",
        "classify": "classes",
    }[name]


def say(line: str) -> None:
    """A line on standard error, at once, without credentials."""
    sys.stderr.write(redacted(line) + "\n")
    sys.stderr.flush()


def add_shorthand(parser: argparse.ArgumentParser, flag: str, key: str, metavar: str, meaning: str) -> None:
    """A flag that is short for `--set KEY=VALUE`."""
    parser.add_argument(
        flag,
        dest="set",
        action="append",
        type=lambda value: f"{key}={json.dumps(value)}",
        default=argparse.SUPPRESS,
        metavar=metavar,
        help=f"{meaning} ({key})",
    )


def add_runner(parser: argparse.ArgumentParser) -> None:
    """`--runner`, of the jobs that run on Beam."""
    add_shorthand(parser, "--runner", "beam.runner", "NAME", "the Beam runner: local, or one such as DataflowRunner")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every job takes."""
    add_configuration(parser)
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=os.environ.get("THAW_DATA"),
        help="folder of the raw data that the configuration's paths are relative to (default: $THAW_DATA)",
    )
    add_shorthand(
        parser, "--as-of", "source.as_of", "DATE", "see only what had come into sight by this boundary: a day's run"
    )
    parser.add_argument("--force", action="store_true", help="run even where nothing has changed since the last run")


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--set` and `--out`: what every command takes."""
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="YAML configuration; may be repeated, later files override earlier ones (default: the generated demo)",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="out", help="output folder, empty or made by Thaw (default: out)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one configuration value, such as training.epochs=3; may be repeated",
    )


def settle_registry(arguments: argparse.Namespace) -> tuple[Config, str]:
    """Arguments to configuration and output folder, which need not be there and is not made."""
    root = arguments.out if "://" in arguments.out else str(Path(arguments.out).absolute())
    return load_config(arguments.config or [DEFAULT_CONFIG], arguments.set), root


def settle(arguments: argparse.Namespace) -> tuple[Config, Workspace, str | None]:
    """Arguments to configuration, workspace and data folder."""
    config = load_config(arguments.config or [DEFAULT_CONFIG], arguments.set)
    feature_set(config)  # names that cannot be are told before anything is made of them
    # The demo brings its own data: only a folder named on purpose replaces it.
    data = arguments.data or None
    if config.demo and data == os.environ.get("THAW_DATA"):
        data = None
    if data is not None:
        require_folder(data)
        if not arguments.config:
            say(f"note: no --config: {DEFAULT_CONFIG.relative_to(ROOT)} says what there is in {data}")
    return config, Workspace.open(arguments.out), data


def guarded(action: Callable[[], int]) -> int:
    """Run: a user's mistake is one message and its exit code, a fault of ours a traceback and 1."""
    logging.getLogger("py4j").setLevel(logging.ERROR)
    try:
        return action()
    except ThawError as error:
        say(f"thaw: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say(f"thaw: interrupted; {_RESUMES}")
        return 130
    except Exception as error:
        # It asks first: what a worker that cannot be started says may be "Permission denied", of its Python.
        if fault := cluster_fault(error):
            say(f"thaw: {fault}; {_RESUMES}")
            return InputError.exit_code
        for numbers, rule, remedy in _OF_THE_DISK:
            if said := what_the_disk_says(error, numbers):
                say(f"thaw: {rule}, the system says: {said}; {remedy}; {_RESUMES}")
                return InputError.exit_code
        say(traceback.format_exc().rstrip())
        say("thaw: this is a fault of ours, not of your data; please report it with the lines above")
        return 1


_RESUMES = "nothing half-done was published, the same command resumes"
_OF_THE_DISK = (
    (
        (errno.ENOSPC, errno.EDQUOT),
        "--out, Spark's scratch folder (spark.local.dir) and TMPDIR must have room",
        "free some, or choose others",
    ),
    (
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "this user must be able to read --data and to write --out, Spark's scratch folder (spark.local.dir) and TMPDIR",
        "mend the permissions, or choose others",
    ),
)
"""What a disk may refuse: the system's numbers, the rule that says so, and the remedy."""


def what_the_disk_says(error: BaseException, numbers: Sequence[int]) -> str:
    """The system's own words where an error is, or comes from, one of these; empty where something else went wrong."""
    said = {number: os.strerror(number) for number in numbers}
    chained: BaseException | None = error
    while chained is not None:
        if isinstance(chained, OSError) and chained.errno in said:
            return f"{said[chained.errno]}: {chained.filename}" if chained.filename else said[chained.errno]
        # What fails in a worker comes back as text, in an error of the engine's own. Others than disks deny permission.
        for number, text in said.items():
            if text in str(chained) and (is_sparks(chained) or number not in (errno.EACCES, errno.EPERM)):
                return text
        chained = chained.__cause__ or chained.__context__
    return ""


def main(job: Job, argv: Sequence[str] | None = None) -> int:
    """Entry point of one job file: `spark-submit jobs/JOB.py --config …` and `thaw JOB --config …`."""
    parser = argparse.ArgumentParser(prog=f"thaw {job.name}", description=sys.modules[job.run.__module__].__doc__)
    add_arguments(parser)
    if job.arguments:
        job.arguments(parser)
    asked = OPTIONAL.get(job.name)
    if asked:
        meaning = "do nothing where `thaw run` would not run it: for schedules that serve any configuration"
        parser.add_argument(IF_CONFIGURED, action="store_true", help=meaning)

    def action() -> int:
        arguments = parser.parse_args(argv)
        config, workspace, data = settle(arguments)
        if asked and arguments.if_configured and not asked(config):
            say(NOTHING_TO_DO.format(job.name))
            return 0
        if job.instead and job.instead(arguments, config, workspace):
            return 0
        with job.around() if job.around else nullcontext():
            outcome = execute(job, config, workspace, data, force=arguments.force)
            say(outcome_line(job.name, outcome))
            if job.after:
                job.after(config, workspace, outcome)
        return 0

    return guarded(action)


def nothing_to_do(name: str, argv: Sequence[str]) -> bool:
    """Whether `--if-configured` ends a job before its engines are loaded, which takes far longer than to see that."""
    asked = OPTIONAL.get(name)
    if asked is None or IF_CONFIGURED not in argv:
        return False
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    add_arguments(parser)
    # What is wrong with the arguments, the job itself tells.
    with suppress(ThawError, argparse.ArgumentError):
        arguments, _ = parser.parse_known_args(argv)
        if not asked(load_config(arguments.config or [DEFAULT_CONFIG], arguments.set)):
            say(NOTHING_TO_DO.format(name))
            return True
    return False


def outcome_line(name: str, outcome: Outcome) -> str:
    """One line a stage: what was made, how large, how long."""
    tables = outcome.dataset.manifest.tables
    rows = ", ".join(f"{table} {entry.rows:,}" for table, entry in tables.items() if entry.format != "file")
    state = "unchanged" if outcome.reused else f"{outcome.seconds:.1f} s"
    return f"{name:<20} {state:>10}  {outcome.dataset.manifest.content_digest[:12]}  {rows}"
