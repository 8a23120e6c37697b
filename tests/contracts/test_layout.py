"""The layout shows the architecture, configurations are valid, and the docs name what exists."""

import re
from pathlib import Path

import pytest

from jobs.launch import ABLATE, CHAIN, CLASSIFIER_JOBS, FACTORS, IMAGE_JOBS, REGISTRY_COMMANDS, SEARCH
from pipelines.config import load_config

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "conf").glob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]


def test_each_job_is_one_file() -> None:
    others = {"__init__", "cli", "decided", "launch", "processes", "run", "snapshots", "trials"}
    files = {path.stem for path in (ROOT / "jobs").glob("*.py")} - others
    assert files == {*CHAIN, FACTORS, ABLATE, SEARCH, *IMAGE_JOBS, *CLASSIFIER_JOBS, *REGISTRY_COMMANDS}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_configuration_is_valid_alone_and_with_each_environment(path) -> None:
    assert load_config([path]).name == path.stem
    for environment in (ROOT / "conf" / "env").glob("*.yaml"):
        load_config([path, environment])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_configuration_opens_with_what_it_is_and_how_to_run_it(path) -> None:
    head = path.read_text(encoding="utf-8").partition("\nname:")[0]
    assert head.startswith("# ")
    assert "thaw run" in head or "thaw write_image_records" in head


@pytest.mark.parametrize("way", sorted((ROOT / "conf" / "train").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_way_of_training_goes_with_each_source_and_says_how_to_run_it(way) -> None:
    of_logs = [path for path in SOURCES if "write_image_records" not in path.read_text(encoding="utf-8")]
    assert len(of_logs) > 2
    for path in of_logs:
        assert load_config([path, way]).name == path.stem
    assert f"--config conf/train/{way.name}" in way.read_text(encoding="utf-8").partition("\n\n")[0]


def test_no_configuration_names_a_folder_of_real_data() -> None:
    assert [
        p.name for p in SOURCES if re.search(r"(^|\s)(\.\./|/)", p.read_text(encoding="utf-8").split("name:", 1)[1])
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_of_the_docs_lead_somewhere(page) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]
    assert broken == []


def test_tables_of_the_docs_name_the_commit_that_made_them() -> None:
    assert [page.name for page in PAGES if re.search(r"\bCOMMIT\b", page.read_text(encoding="utf-8"))] == []


def test_locks_carry_no_addresses() -> None:
    for lock in ("requirements.lock", "requirements-airflow.lock"):
        assert "://" not in (ROOT / lock).read_text(encoding="utf-8")
