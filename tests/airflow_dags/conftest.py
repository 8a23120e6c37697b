"""A small shop whose days are delivered one by one, and an Airflow home that knows where it is."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipelines.config import DemoOptions, load_config
from pipelines.demo.files import make_demo
from schemas.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "airflow_dags"
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"

SHOP = DemoOptions(users=40, items=50, days=8, impressions=900, duplicates=10, malformed=0, late=20)
SMALL = (
    # Dates would be of another shop; these splits move on with the days.
    "split={validation_start: null, test_start: null, validation_length: 2d, test_length: 2d}",
    # Here it is the tasks that are tried; what they make of every feature, `end_to_end` tries.
    "source.items=[{path: items.csv, separator: ';', id: item, columns: {category: {kind: category}},"
    " valid_from: {column: listed, zone: UTC}, created_at: {column: listed, zone: UTC}}]",
    "preferences.windows=[lifetime]",
    "preferences.entities=[user, item]",
    "preferences.statistics=[{name: click, kind: count, actions: [click]}]",
    "preferences.recent=[]",
    "catalogue.rows=0",
    "training.losses.catalogue_negatives=0",
    "training.epochs=1",
    "evaluation.bootstrap=10",
    "audit.sample=9",
    "storage.parquet_files=1",
    "source.as_of='2025-01-08'",  # of the day that each run says; here so that the splits can be read
)
SPARK_DEFAULTS = """
spark.driver.memory 1g
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:MetaspaceSize=256m -XX:NewSize=256m
spark.sql.adaptive.enabled false
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.ui.enabled false
"""
"""What a cluster's own settings would say: here, that jobs are short."""


@dataclass(frozen=True)
class Shop:
    """A folder of raw data, filled as the days pass, and what the days were made into."""

    folder: Path
    out: Path
    files: Mapping[str, bytes]

    def deliver(self, until: str, suffix: str = "") -> None:
        """Everything that had arrived by the end of a day (UTC date). With a suffix, the logs arrive once more."""
        for path, content in self.files.items():
            name = Path(path)
            is_log = name.parent.name == "interactions"
            if is_log and name.name[:10] > until:
                continue
            if not suffix or is_log:
                target = self.folder / name.parent / f"{suffix}{name.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def digests(self, day: str) -> dict[str, str]:
        """Content digest of each dataset of a day."""
        return {
            pointer.parent.name: self.manifest(day, pointer.parent.name).content_digest
            for pointer in (self.out / "days" / day).glob("*/CURRENT")
        }

    def manifest(self, day: str, dataset: str) -> Manifest:
        """What the current version of a day's dataset says of itself."""
        folder = self.out / "days" / day / dataset
        return Manifest.from_json((folder / (folder / "CURRENT").read_text().strip() / "manifest.json").read_text())


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    """Nothing is delivered yet."""
    folder = tmp_path_factory.mktemp("shop")
    files, _ = make_demo(SHOP, 7)
    return Shop(folder / "raw", folder / "out", {file.path: file.content for file in files})


@pytest.fixture(scope="module")
def airflow(shop, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment of a fresh Airflow home, its database made, whose Variables name the shop."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "spark-defaults.conf").write_text(SPARK_DEFAULTS)
    options = load_config([ROOT / "conf/demo.yaml", ROOT / "tests/end_to_end/small_demo.yaml"], SMALL)
    small = options.model_dump(mode="json")
    small["source"]["as_of"] = None
    small["split"] = {"validation_length": "2d", "test_length": "2d"}
    for section in ("demo", "images"):
        del small[section]
    del small["source"]["truth"]
    (home / "shop.yaml").write_text(yaml.safe_dump(small))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment.pop("THAW_DATA", None)
    yield {
        **environment,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "AIRFLOW_VAR_THAW_CONFIG": str(home / "shop.yaml"),
        "AIRFLOW_VAR_THAW_DATA": str(shop.folder),
        "AIRFLOW_VAR_THAW_OUT": str(shop.out),
        "SPARK_CONF_DIR": str(home),
        # Where Thaw is not installed in the job environment, it is the checkout.
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def database(airflow) -> dict[str, str]:
    """`airflow`, with its database made."""
    subprocess.run([PYTHON, "-m", "airflow", "db", "migrate"], env=airflow, check=True, capture_output=True)
    return airflow
