"""The main job: raw logs to a registered model, one command. A stage whose inputs have not changed is not run again."""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import fsspec

from jobs.launch import (
    CHAIN,
    OPTIONAL,
    RUN_ID,
    SPARK_JOBS,
    STAGES,
    add_arguments,
    execute,
    guarded,
    job_named,
    outcome_line,
    say,
    settle,
)
from pipelines.config import Config
from pipelines.errors import ConfigError, PromotionError, ThawError
from pipelines.storage import Workspace

AFTER_EVALUATION = ("promote_model", "recommend")


def run_chain(
    config: Config, workspace: Workspace, data: str | None, *, until: str = CHAIN[-1], force: bool = False
) -> int:
    """Run the jobs up to `until`; after the last, write summary.json and report.html. Returns the exit code."""
    if not config.source.interactions:
        # Said now, and not when Spark has started.
        instead = "; of images alone make `thaw write_image_records`, `thaw train_classifier` or `thaw search`"
        raise ConfigError(
            "source.interactions must name at least one log where `thaw run` ranks items, got none; add one to the "
            f"configuration{instead if config.images else ''}"
        )
    needless = {name for name, asked in OPTIONAL.items() if not asked(config)}
    if not config.demo or data is not None:
        needless.add("generate_demo")
    names = [name for name in STAGES[: STAGES.index(until) + 1] if name not in needless]
    if {"train_classifier", "train_dropoutnet"} & set(names) and "://" in workspace.root:
        # Said now, and not after hours of Spark.
        importlib.import_module("pipelines.tracking.store").tracking_uri(config, workspace.root)
    seconds: dict[str, float] = {}
    refusal: ThawError | None = None
    if set(names) & set(SPARK_JOBS) and workspace.current("clean") is None:
        # A first run needs Spark for certain: it starts while the demo is made and the first job's libraries load.
        importlib.import_module("pipelines.spark")
        threading.Thread(target=_start_spark, args=[config], daemon=True).start()
    for position, name in enumerate(names, start=1):
        say(f"[{position}/{len(names)}] {name}")
        started = time.monotonic()
        try:
            outcome = execute(job_named(name), config, workspace, data, force=force)
            say(outcome_line(name, outcome))
        except ThawError as error:
            if name not in AFTER_EVALUATION:
                raise
            # What was measured still deserves its report; the exit code says the rest.
            refusal = refusal or error
            say(f"thaw: {error}")
        seconds[name] = round(time.monotonic() - started, 2)
        if name in SPARK_JOBS and not set(names[position:]) & set(SPARK_JOBS):
            # Training needs the memory that the Spark session holds.
            importlib.import_module("pipelines.spark").stop_spark()
    if until == CHAIN[-1]:
        conclude(config, workspace, seconds)
    return refusal.exit_code if refusal else 0


def _start_spark(config: Config) -> None:
    """What goes wrong here goes wrong again where Spark is needed, and is told then."""
    with suppress(Exception):
        importlib.import_module("pipelines.spark").warm_up(config.spark)


def conclude(config: Config, workspace: Workspace, seconds: dict[str, float]) -> None:
    """Write `summary.json` and `report.html`, log both, and print the table."""
    # Imported here: a chain that ends early needs none of the plotting.
    from pipelines.evaluation.report import write_report
    from pipelines.evaluation.summary import summarise, terminal_table
    from pipelines.tracking.runs import log_files

    summary = summarise(workspace, config, seconds)
    fs, root = fsspec.core.url_to_fs(workspace.root)
    fs.pipe_file(f"{root}/summary.json", json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False).encode())
    write_report(workspace, config, summary, f"{root}/report.html")
    model = workspace.current("model")
    if model is not None and RUN_ID in model.manifest.notes:
        with tempfile.TemporaryDirectory() as folder:  # MLflow takes files of this machine
            local = [f"{folder}/{name}" for name in ("summary.json", "report.html")]
            for path in local:
                fs.get_file(f"{root}/{Path(path).name}", path)
            log_files(config, workspace.root, model.manifest.notes[RUN_ID], local)
    sys.stdout.write(terminal_table(summary) + "\n")
    say(f"report: {workspace.root}/report.html\nsummary: {workspace.root}/summary.json")


def run_seeds(config: Config, root: str, count: int, arguments: Sequence[str]) -> int:
    """Run the chain once a seed, from the configured one on, each in a process and a folder of its own.

    Writes `seeds.json` and prints means and standard deviations. A refused promotion ends nothing, a failed run all.
    """
    from pipelines.evaluation.seeds import over_seeds, seeds_table

    if count < 2:
        raise ConfigError(f"--seeds must be at least 2, got {count}; leave it out for one run")
    fs, folder = fsspec.core.url_to_fs(root)
    seeds, summaries = list(range(config.seed, config.seed + count)), []
    for seed in seeds:
        say(f"seed {seed}: {root}/seed-{seed}")
        chosen = ["--set", f"seed={seed}", "--out", f"{root}/seed-{seed}"]
        summary = f"{folder}/seed-{seed}/summary.json"
        if fs.exists(summary):  # of an earlier run: it is no result of this one
            fs.rm(summary)
        done = subprocess.run([sys.executable, "-m", "jobs.cli", "run", *arguments, *chosen], check=False)
        # Other gates refuse with the same code, but before there is a summary.
        if done.returncode not in (0, PromotionError.exit_code) or not fs.exists(summary):
            return done.returncode
        summaries.append(json.loads(fs.cat_file(summary)))
    found = {split: over_seeds(summaries, split) for split in ("validation", "test")}
    told = {"seeds": seeds, **found}
    fs.pipe_file(f"{folder}/seeds.json", json.dumps(told, indent=1, allow_nan=False).encode())
    sys.stdout.write(seeds_table(found["test"], seeds, "test") + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`thaw run`."""
    parser = argparse.ArgumentParser(prog="thaw run", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--until", choices=CHAIN, default=CHAIN[-1], help="stop after this job (default: recommend)")

    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="run N times, with the configured seed and those after it, each in OUT/seed-S; means in OUT/seeds.json",
    )

    def action() -> int:
        arguments = parser.parse_args(argv)
        config, workspace, data = settle(arguments)
        if arguments.seeds is not None:
            if arguments.until != CHAIN[-1]:
                raise ConfigError(f"--seeds compares whole runs, got --until {arguments.until}; leave one of them out")
            told = [word for file in arguments.config or [] for word in ("--config", file)]
            told += [word for value in arguments.set for word in ("--set", value)]
            told += [*(["--data", data] if data else []), *(["--force"] if arguments.force else [])]
            return run_seeds(config, workspace.root, arguments.seeds, told)
        return run_chain(config, workspace, data, until=arguments.until, force=arguments.force)

    return guarded(action)


if __name__ == "__main__":
    sys.exit(main())
