"""The gate: a failed audit publishes nothing and ends with exit code 3; what it can be asked for and do without."""

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace

import pytest

from jobs import audit_leakage, check_quality, launch
from jobs.launch import DEFAULT_CONFIG, ROOT, Context, Draft
from pipelines.config import load_config
from pipelines.errors import InputError, LeakageError
from pipelines.examples.audit.report import AuditReport, Check, Skipped
from pipelines.storage import Workspace
from schemas.manifest import Manifest, TableEntry

FITTED = {"cuts": {"validation_start": 1, "test_start": 2, "end": 3}, "priors": {}}


@pytest.fixture
def context(tmp_path, monkeypatch) -> Context:
    """A context whose tables are not looked at."""
    monkeypatch.setattr(audit_leakage, "spark_session", lambda options: None)
    for reader in ("read_table", "clean_tables"):
        monkeypatch.setattr(audit_leakage, reader, lambda *args: None)
    parent = SimpleNamespace(read_json=lambda name: FITTED, manifest=SimpleNamespace(tables={}))
    parents = dict.fromkeys(("clean", "examples", "preferences"), parent)
    return Context(load_config([DEFAULT_CONFIG]), None, None, parents, str(tmp_path))


def test_a_passed_audit_publishes_its_checks(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        audit_leakage, "audit", lambda *args, **kwargs: AuditReport((Check("clock", "rows", 3, 0, "fine"),))
    )
    draft = audit_leakage.run(context)
    assert draft.facts["audit"]["passed"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_failed_audit_publishes_nothing(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        audit_leakage, "audit", lambda *args, **kwargs: AuditReport((Check("clock", "rows", 3, 1, "example ab12, …"),))
    )
    with pytest.raises(LeakageError, match="example ab12") as caught:
        audit_leakage.run(context)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_could_not_be_made_is_told(context, monkeypatch, capsys) -> None:
    report = AuditReport((Check("clock", "rows", 3, 0, "fine"),), skipped=(Skipped("raw rows", "raw", "no data"),))
    monkeypatch.setattr(audit_leakage, "audit", lambda *args, **kwargs: report)
    assert audit_leakage.run(context).facts["audit"]["skipped"] == [
        {"name": "raw rows", "kind": "raw", "why": "no data"}
    ]
    assert "not checked: raw rows; no data" in capsys.readouterr().err


def test_a_catalogue_is_audited_where_the_examples_have_one_whatever_the_configuration_asks_for(
    context, monkeypatch
) -> None:
    seen = []

    def look(built, *args, **kwargs):
        seen.append(built.catalogue)
        return AuditReport((Check("clock", "rows", 3, 0, "fine"),))

    monkeypatch.setattr(audit_leakage, "read_table", lambda spark, dataset, table, contract: table)
    monkeypatch.setattr(audit_leakage, "audit", look)
    for tables in ({}, {"catalogue": None}):
        context.parents["examples"].manifest.tables = tables
        audit_leakage.run(context)
    assert seen == [None, "catalogue"]


def test_thorough_is_a_flag_of_the_audit_alone(tmp_path, monkeypatch) -> None:
    asked = []

    def execute(job, config, *args, **kwargs):
        asked.append(config.audit)
        raise InputError("enough")

    monkeypatch.setattr(launch, "execute", execute)
    arguments = ["--out", str(tmp_path / "out"), "--set", "audit.sample=3"]
    launch.main(audit_leakage.JOB, arguments)
    launch.main(audit_leakage.JOB, [*arguments, "--thorough"])
    assert [(options.thorough, options.sample) for options in asked] == [(False, 3), (True, 3)]
    with pytest.raises(SystemExit):
        launch.main(check_quality.JOB, [*arguments, "--thorough"])


def test_the_audit_does_without_raw_data_and_is_made_again_once_it_is_there(tmp_path) -> None:
    folders = []

    def run(context) -> Draft:
        folders.append(context.data)
        return Draft({})

    job = replace(audit_leakage.JOB, parents=(), run=run)
    config, workspace = load_config([ROOT / "conf" / "movielens.yaml"]), Workspace.open(str(tmp_path / "out"))
    for data in (None, None, str(tmp_path)):
        launch.execute(job, config, workspace, data)
    assert folders == [None, str(tmp_path)]
    with pytest.raises(InputError, match="say where it is with --data"):
        launch.execute(replace(job, data_optional=False), config, workspace, None)


def test_raw_files_are_those_that_were_there_when_reading_began() -> None:
    clean = Manifest(dataset="clean", tables={}, seed=7, made_at="2025-01-01T00:10:00+00:00", seconds=60.0)
    assert audit_leakage.read_at(clean) == dt.datetime(2025, 1, 1, 0, 9, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(("until", "passes"), [(1, True), (2, False), (None, False)])
def test_vectors_of_an_encoder_that_learned_beyond_the_training_period_are_refused(
    context, monkeypatch, until, passes
) -> None:
    report = AuditReport((Check("clock", "rows", 3, 0, "fine"),))
    monkeypatch.setattr(audit_leakage, "audit", lambda *args, **kwargs: report)
    as_of = {} if until is None else {"learns_until": until}
    tables = {"vectors": TableEntry(format="parquet"), "encoder": TableEntry(format="file")}
    vectors = Manifest(dataset="content_vectors", tables=tables, seed=7, as_of=as_of)
    context.parents["content_vectors"] = SimpleNamespace(manifest=vectors)
    assert audit_leakage.JOB.needs(context.config) == ("content_vectors",)
    if passes:
        assert audit_leakage.run(context).facts["audit"]["checks"][-1]["passed"]
    else:
        with pytest.raises(
            LeakageError, match=rf"image encoder: .*learns_until: published {until}, should be 'at most 1"
        ):
            audit_leakage.run(context)
    # Of a model that was trained elsewhere nobody here knows.
    del vectors.tables["encoder"]
    assert len(audit_leakage.run(context).facts["audit"]["checks"]) == 1
