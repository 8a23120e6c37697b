import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.evaluation.charts import auc_plot, curve_plot, interval_plot, shared_limits
from pipelines.evaluation.line_charts import reliability_plot, trend_plot
from pipelines.evaluation.report import render, write_report
from pipelines.evaluation.showcase import Card, Showcase, showcases
from pipelines.evaluation.summary import summarise, summary_of
from pipelines.storage import Workspace, file_table, write_json
from schemas.manifest import Manifest, Shard, TableEntry

SECTIONS = (
    "run",
    "flow",
    "features",
    "results",
    "differences",
    "calibration",
    "curves",
    "audit",
    "shuffle",
    "examples",
    "timings",
)
CONFIG = load_config(["conf/demo.yaml"], ["tracking.uri=http://me:secret@host/x"])


def entry(value, n=9) -> dict:
    return {"value": value, "low": value and value - 0.02, "high": value and value + 0.02, "n": n}


def table(level) -> dict:
    metrics = {"recall@10": entry(level), "ndcg@10": entry(level / 2), "auc": entry(0.6)}
    return {"all": metrics, "cold_both": {name: entry(None, 0) for name in metrics}}


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    facts = {
        "clean": {"rows": {"in": 120, "out": 100, "quarantined": 15, "duplicates": 5}},
        "examples": {
            "splits": {"train": {"rows": 80, "positives": 8}, "test": {"rows": 20, "positives": 2}},
            "notes": ["odd"],
        },
        "audit": {
            "audit": {
                "passed": False,
                "checks": [{"name": "no_future", "passed": False, "checked": 7, "failed": 1, "detail": "<b>row 3</b>"}],
            }
        },
        "records": {"splits": {"train": {"rows": 80, "serial_correlation": 0.0123}}},
        "evaluation": {
            "metrics": {"test": table(0.4)},
            "baselines": {"popularity": {"test": table(0.2)}},
            "differences": {"popularity": {"test": table(0.2)}, "random": {"test": table(-0.3)}},
            "reliability": {"test": {"model": [{"predicted": 0.1, "observed": 0.2, "n": 5}], "content_only": []}},
            "evaluated": {
                "test": {"clocks": 2, "ranked": 2, "already_seen": 1, "not_in_catalogue": 0, "other_clocks": 0}
            },
        },
    }
    return {
        name: Manifest(dataset=name, tables={}, facts=found, seed=1, as_of={"test_start": 1_735_689_600_000_000})
        for name, found in facts.items()
    }


EPOCHS = [{"epoch": 1, "loss": 2.0, "validation_loss": 2.5}, {"epoch": 2, "loss": 1.0, "validation_loss": 2.25}]
HISTORY = {"best_epoch": 2, "epochs": EPOCHS}
SHOWN = [Showcase("ann", (Card("i1", "Blue", "jazz", False),), (Card("i2", "<Red>", "", True, 1.5),))]


FEATURES = {
    "expectations": [{"expectation": "expect_x", "success": True}] * 7,
    "features": {
        "item_price": {"missing_share": 0.25, "lowest": 1.5, "highest": 99.0, "mean": 12.0},
        "item_text": {"missing_share": 0.0, "lowest": None, "highest": None, "mean": None},
    },
    "drift": [
        {"feature": "item_price", "measure": "mean", "since": 0, "value": 31.0, "usual": 12.5, "score": 40.25},
    ],
}
DOCS = {"clean": {"items": "clean/v1/data_docs/items.html"}, "examples": {"features": "examples/v2/data_docs/f.html"}}


class Outline(HTMLParser):
    """Checks that tags close in order, and collects ids, captions and images without words."""

    VOID = ("meta", "br", "img", "input", "link", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.ids, self.bare = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        if tag == "svg" and not named.get("aria-label"):
            self.bare.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        """`<circle …/>` opens and closes at once."""

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_the_report_has_every_section_and_what_the_manifests_say(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {"check_quality": 3.5}), manifests, HISTORY, SHOWN)
    outline = Outline(page)
    assert outline.ids == list(SECTIONS)
    assert (outline.open, outline.bare) == ([], [])
    for told in ("0.4000", "0.380–0.420", "2025-01-01 00:00 UTC", "no future", "0.0123", "3.5", "(2)", "ann", "Blue"):
        assert told in page
    assert page.count("<caption>") >= 5


def test_the_report_needs_nothing_but_itself(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|<script|@import|url\(', page) == []


def test_features_are_shown_with_their_drift_and_where_great_expectations_says_more(manifests) -> None:
    summary = summary_of(manifests, "shop", {})
    page = render(CONFIG, summary, manifests, HISTORY, SHOWN, FEATURES, DOCS)
    outline = Outline(page)
    assert (outline.open, outline.bare) == ([], [])
    for told in ("met 7 expectations", "25.0 %", "1970-01-01", "31", "12.5", "40.2"):
        assert told in page
    assert re.findall(r'href="([^#"]*)"', page) == [*DOCS["clean"].values(), *DOCS["examples"].values()]


def test_the_audit_is_shown_check_by_check_with_its_kinds_and_what_single_features_tell(manifests) -> None:
    checks = [
        {"name": "clock", "kind": "rows", "passed": True, "checked": 1234, "failed": 0, "detail": "as served"},
        {"name": "labels", "kind": "future", "passed": True, "checked": 80, "failed": 0, "detail": "equal"},
        {"name": "splits", "kind": "rows", "passed": True, "checked": 56, "failed": 0, "detail": "by time"},
    ]
    probe = [{"feature": f"item_f{n}", "auc": auc, "rows": 9} for n, auc in enumerate((0.5, 0.9, 0.2))]
    skipped = [{"name": "raw_rows", "kind": "raw", "why": "no raw data here"}]
    found = {"passed": True, "checks": checks, "probe": probe, "cut": 0, "thorough": True, "skipped": skipped}
    page = render(CONFIG, {**summary_of(manifests, "shop", {}), "audit": found}, manifests, HISTORY, SHOWN)
    assert Outline(page).open == []
    section = page.partition('id="audit"')[2].partition("</section>")[0]
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))
    for told in ("Every check passed: 3 of 3", "1,234", "as served", "after 1970-01-01 00:00 UTC", "thorough"):
        assert told in shown
    places = [shown.index(word) for word in ("rows clock", "splits", "future labels")]
    assert places == sorted(places)  # a kind keeps its checks together
    assert "Not done: raw rows (no raw data here)" in shown
    assert section.index("item_f1") < section.index("item_f2") < section.index("item_f0")  # farthest from 0.5 first


def test_an_audit_without_kinds_or_a_probe_is_shown_all_the_same(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)
    section = page.partition('id="audit"')[2].partition("</section>")[0]
    assert "1 of 1 checks failed" in section and "no future" in section
    assert "<svg" not in section


def test_the_report_of_a_folder_links_to_the_pages_beside_it(tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    staging = workspace.stage("clean", "k" * 64)
    (Path(staging) / "data_docs").mkdir()
    (Path(staging) / "data_docs" / "items.html").write_text("<p>fine</p>")
    docs = file_table(staging, "data_docs/items.html")
    facts = {"rows": {"in": 2, "out": 2, "quarantined": 0, "duplicates": 0}}
    workspace.publish(staging, Manifest(dataset="clean", tables={"data_docs": docs}, facts=facts, seed=1, key="k" * 64))
    report = tmp_path / "out" / "report.html"
    write_report(workspace, CONFIG, summarise(workspace, CONFIG, {}), str(report))
    (address,) = re.findall(r'href="([^#"]*)"', report.read_text())
    assert (report.parent / address).read_text() == "<p>fine</p>"


def test_differences_are_shown_paired_with_their_intervals_and_which_way_they_point(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)
    section = page.partition('id="differences"')[2].partition("</section>")[0]
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))
    assert "popularity +0.2000 [+0.1800, +0.2200] ✓ 9" in shown
    assert "random -0.3000 [-0.3200, -0.2800] ✗ 9" in shown
    assert "model minus other: popularity 0.200 (0.180 to 0.220); random -0.300" in section


def test_the_champion_that_was_met_is_among_the_differences_of_the_model_that_met_it(manifests) -> None:
    met = {"champion": {"version": "3", "differences": table(0.1)}}
    manifests["model"] = Manifest(dataset="model", tables={}, seed=1, notes={"name": "shop", "version": "4"})
    manifests["promotion"] = Manifest(dataset="promotion", tables={}, facts=met, seed=1, notes={"version": "4"})
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)
    assert "champion, version 3" in page and "+0.1000 [+0.0800, +0.1200]" in page
    manifests["promotion"] = manifests["promotion"].model_copy(update={"notes": {"version": "3"}})
    assert "champion, version 3" not in render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)


def ablation():
    """What `thaw ablate` publishes of three rates and a flag: the values fall with the rate."""
    changes = [{}, *({"model.preference_dropout": rate} for rate in (0.0, 0.5, 1.0)), {"model.flag": True}]
    levels = (0.25, 0.3, 0.25, 0.2, 0.4)
    rows = [
        {
            "name": "default" if not change else "=".join(map(str, *change.items())),
            "changes": change,
            "is_default": level == 0.25,
            "best_epochs": [2, 3],
            "metrics": {part: {m: {**e, "sd": 0.01} for m, e in row.items()} for part, row in table(level).items()},
            "differences": table(level - 0.25),
        }
        for change, level in zip(changes, levels, strict=True)
    ]
    return {"split": "validation", "seeds": [7, 8, 9], "train_rows": 1234, "epochs": 4, "variants": rows}


def test_an_ablation_is_shown_where_there_is_one(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN, ablation=ablation())
    outline = Outline(page)
    assert "ablation" in outline.ids and (outline.open, outline.bare) == ([], [])
    section = page.partition('id="ablation"')[2].partition("</section>")[0]
    for told in ("model.preference_dropout", "1,234 rows", "means over 3 seeds", "<polyline", "recall@10, all", "2, 3"):
        assert told in section
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section.partition("<tbody>")[2]))
    assert "model.preference_dropout=1.0 0.2000 ± 0.0100 -0.0500 [-0.0700, -0.0300] ✗" in shown
    assert "model.flag=True 0.4000 ± 0.0100 +0.1500 [+0.1300, +0.1700] ✓" in shown
    assert "preference_dropout=0.5" not in shown  # the default, which stands there once


def pictured(manifests, learns_until=1_735_689_600_000_000, undated=0) -> dict[str, Manifest]:
    """The run, its clean content made of vectors that a classifier of its own made."""
    facts = {"classes": ["a", "b"], "undated": undated}
    shard = Shard(path="a", rows=40, bytes=1, sha256="x")
    tables = {split: TableEntry(format="tfrecord", shards=(shard,)) for split in ("train", "validation", "test")}
    as_of = {"learns_until": learns_until}
    records = Manifest(dataset="image_records", tables=tables, facts=facts, as_of=as_of, seed=1)
    facts = {"parameters": 1234, "best": {"validation_accuracy": 0.875}}
    options = {"classifier": {"family": "two_layer"}}
    classifier = Manifest(dataset="classifier", tables={}, facts=facts, config=options, seed=1)
    facts = {"rows": {"in": 122, "out": 120, "quarantined": 2}, "vector_length": 32}
    parents = {m.dataset: m.content_digest for m in (records, classifier)}
    vectors = Manifest(dataset="content_vectors", tables={}, facts=facts, parents=parents, seed=1)
    clean = manifests["clean"].model_copy(update={"parents": {"content_vectors": vectors.content_digest}})
    return {**manifests, "clean": clean} | {m.dataset: m for m in (records, classifier, vectors)}


def images_section(manifests, **told) -> str:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN, **told)
    outline = Outline(page)
    assert (outline.open, outline.bare) == ([], [])
    return page.partition('id="images"')[2].partition("</section>")[0]


def test_images_say_what_made_their_vectors_and_how_to_see_what_they_add(manifests) -> None:
    said = images_section(pictured(manifests))
    for words in (
        "120 of 122 images",
        "vectors of 32 numbers",
        "1,234 parameters",
        "87.5 % of 40 others",
        "2025-01-01",
    ):
        assert words in said
    assert "thaw ablate --vary model.leave_out=[item_image]" in said
    assert "that have no time" not in said
    assert "the 7 images that have no time (images.learn_undated)" in images_section(pictured(manifests, undated=7))
    assert images_section(manifests) == ""
    # Vectors that the clean content was not made of are not its.
    older = {**pictured(manifests), "clean": manifests["clean"]}
    assert images_section(older) == ""


def test_images_show_what_a_model_loses_without_them(manifests) -> None:
    found = ablation()
    variant = found["variants"][-1]
    without = {**variant, "name": "x", "changes": {"model.leave_out": ["item_image"]}, "is_default": False}
    found["variants"].append(without)
    said = images_section(pictured(manifests), ablation=found)
    assert "item_image</th>" in said and "not measured yet" not in said


def test_an_ablation_of_other_records_is_not_shown(tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    report = tmp_path / "out" / "report.html"
    for seed in (1, 2):
        staging = workspace.stage("records", str(seed) * 64)
        records = workspace.publish(staging, Manifest(dataset="records", tables={}, seed=seed, key=str(seed) * 64))
        if seed == 1:
            staging = workspace.stage("ablation", "a" * 64)
            tables = {"results": write_json(staging, "results.json", ablation())}
            made_from = {"records": records.manifest.content_digest}
            workspace.publish(
                staging, Manifest(dataset="ablation", tables=tables, seed=1, key="a" * 64, parents=made_from)
            )
        write_report(workspace, CONFIG, summarise(workspace, CONFIG, {}), str(report))
        assert ('id="ablation"' in report.read_text()) == (seed == 1)


def test_lines_are_drawn_through_what_was_measured_and_spoken() -> None:
    chart = trend_plot("recall", [(0.0, entry(0.2)), (0.5, entry(None)), (1.0, entry(0.4))], (0.0, 0.5))
    assert chart.count("<circle") == 2
    assert "0: 0.200 (0.180 to 0.220); 1: 0.400" in chart
    curve = reliability_plot("reliability", {"model": [{"predicted": 0.1, "observed": 0.2, "n": 5}]})
    assert "model: 0.100 predicted, 0.200 observed" in curve


def test_text_from_the_data_cannot_become_markup_and_passwords_stay_out(manifests) -> None:
    page = render(CONFIG, summary_of(manifests, "shop", {}), manifests, HISTORY, SHOWN)
    assert "&lt;Red&gt;" in page and "<Red>" not in page
    assert "<b>row 3</b>" not in page
    assert "secret" not in page


def test_a_report_of_nothing_says_what_is_missing(tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    write_report(workspace, CONFIG, summarise(workspace, CONFIG, {}), str(tmp_path / "out" / "report.html"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert Outline(page).ids == list(SECTIONS)
    for job in (
        "check_quality",
        "build_examples",
        "evaluate_model",
        "train_dropoutnet",
        "audit_leakage",
        "write_records",
        "recommend",
    ):
        assert f"thaw {job}" in page


def test_a_chart_leaves_out_what_was_not_measured_and_speaks_the_rest() -> None:
    entries = {"model": entry(0.5), "random": entry(None, 0)}
    chart = interval_plot("recall", entries, shared_limits(list(entries.values())))
    assert chart.count("<circle") == 1
    assert "model 0.500 (0.480 to 0.520)" in chart
    assert shared_limits([]) == (0.0, 1.0)
    assert "tags 0.750; price 0.250" in auc_plot("probe", [("tags", 0.75), ("price", 0.25)])
    assert "<polyline" in curve_plot("loss", {"training": [1.0]}, 1)


def test_showcases_mix_known_and_new_users_and_name_items_by_their_last_title() -> None:
    lists = pa.table(
        {
            "user_id": ["old", "old", "fresh", "fresh"],
            "rank": [2, 1, 1, 2],
            "item_id": ["i1", "i9", "i9", "i1"],
            "score": [0.1, 0.9, 0.8, 0.2],
        }
    )
    items = pa.table(
        {
            "item_id": ["i1", "i1"],
            "valid_from": [5, 1],
            "title": ["New name", "Old name"],
            "tags": [["a", "b"], None],
        }
    )
    log = pa.table({"user_id": ["old", "old"], "item_id": ["i1", "i1"], "event_time": [1, 2]})
    found = {s.user_id: s for s in showcases(lists, items, log, log, {"tags": "categories"}, seed=1, users=2)}
    assert set(found) == {"old", "fresh"}
    assert found["fresh"].liked == ()
    assert found["old"].liked == (Card("i1", "New name", "a, b", False),)
    assert [(c.title, c.new) for c in found["old"].recommended] == [("i9", True), ("New name", False)]
