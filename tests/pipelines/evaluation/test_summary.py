import pytest

from jobs.launch import STAGES, job_dataset
from pipelines.evaluation.summary import DATASETS, summary_of, terminal_table
from schemas.manifest import Manifest, Shard, TableEntry

KEYS = {"rows", "images", "audit", "examples", "records", "metrics", "baselines", "model", "timings_s"}


def value(v) -> dict:
    return {"value": v, "low": v and v - 0.01, "high": v and v + 0.01, "n": 10 if v is not None else 0}


def measured(level) -> dict:
    metrics = {"recall@10": value(level), "recall@100": value(level * 2), "ndcg@10": value(level), "auc": value(0.5)}
    empty = {name: value(None) for name in metrics}
    return {"test": {"all": metrics, "cold_item": empty}, "validation": {"all": metrics, "cold_item": empty}}


def manifest(dataset, facts=None, notes=None, tables=None) -> Manifest:
    return Manifest(dataset=dataset, tables=tables or {}, facts=facts or {}, notes=notes or {}, seed=1)


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    shard = Shard(path="a", rows=5, bytes=1, sha256="x")
    records = {name: TableEntry(format="tfrecord", shards=(shard, shard)) for name in ("train", "test")}
    return {
        "clean": manifest("clean", {"rows": {"in": 1200, "out": 1000, "quarantined": 150, "duplicates": 50}}),
        "audit": manifest("audit", {"audit": {"passed": True, "checks": [{}, {}]}}),
        "examples": manifest("examples", {"splits": {}, "notes": []}),
        "records": manifest("records", {"splits": {}}, tables={**records, "encoder": TableEntry(format="file")}),
        "model": manifest("model", notes={"name": "thaw", "version": "3"}),
        "evaluation": manifest(
            "evaluation",
            {"metrics": measured(0.3), "baselines": {"random": measured(0.1), "popularity": measured(0.2)}},
        ),
        "promotion": manifest("promotion", notes={"name": "thaw", "version": "3", "alias": "champion"}),
    }


def test_the_summary_has_the_promised_keys_even_of_an_empty_run(manifests) -> None:
    assert set(summary_of(manifests, "shop", {})) >= KEYS
    assert set(summary_of({}, "shop", {})) >= KEYS


def test_shards_are_counted_over_all_splits_and_the_digest_is_the_content_s(manifests) -> None:
    records = summary_of(manifests, "shop", {})["records"]
    assert records["shards"] == 4
    assert records["digest"] == manifests["records"].content_digest


def test_only_the_version_that_was_promoted_is_champion(manifests) -> None:
    model = summary_of(manifests, "shop", {})["model"]
    assert model == {"name": "thaw", "version": "3", "audit": None, "alias": "champion"}
    newer = {**manifests, "model": manifest("model", notes={"name": "thaw", "version": "4"})}
    assert summary_of(newer, "shop", {})["model"]["alias"] == "challenger"


def test_an_audit_of_older_examples_is_not_shown_as_theirs(manifests) -> None:
    def audited(digest):
        audit = manifests["audit"].model_copy(update={"parents": {"examples": digest}})
        return summary_of({**manifests, "audit": audit}, "shop", {})["audit"]

    assert audited(manifests["examples"].content_digest)["passed"] is True
    assert audited("of-yesterday") is None


def test_a_model_of_unaudited_records_is_called_so(manifests) -> None:
    trial = manifest("model", {"audit": "unaudited"}, notes={"name": "thaw", "version": "4"})
    line, *_ = terminal_table(summary_of({**manifests, "model": trial}, "shop", {})).splitlines()
    assert "model thaw version 4 (challenger, unaudited)" in line


def test_the_terminal_table_lists_the_model_above_what_it_must_beat(manifests) -> None:
    lines = terminal_table(summary_of(manifests, "shop", {})).splitlines()
    assert "version 3 (champion)" in lines[0]
    assert "1,200 in = 1,000 out + 150 quarantined + 50 duplicates" in lines[1]
    assert [line.split()[0] for line in lines[-3:]] == ["model", "popularity", "random"]
    assert lines[-3].split()[1:] == ["0.6000", "0.3000", "0.5000", "–", "–", "–"]


def test_the_terminal_table_of_an_unfinished_run_says_what_is_missing() -> None:
    text = terminal_table(summary_of({}, "shop", {}))
    assert "no model yet" in text
    assert "not evaluated" in text


def test_every_dataset_of_the_chain_may_be_summed_up() -> None:
    assert list(DATASETS) == [job_dataset(name) for name in STAGES]
