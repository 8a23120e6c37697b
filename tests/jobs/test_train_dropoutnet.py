"""The job on small records: both modes, with factors that travel with the scorer, and from a registered model."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from jobs import train_dropoutnet
from jobs.launch import Context
from pipelines.config import parse_config
from pipelines.errors import ConfigError
from pipelines.retrieval.scorer import Calibration, Scorer
from pipelines.storage import Dataset, Workspace, write_arrow, write_json
from pipelines.training import towers
from pipelines.training.history import Epoch, History
from schemas.factors import factor_table
from schemas.manifest import Manifest
from tests.jobs.conftest import publish
from tests.pipelines.conftest import make_records, small_state

__all__ = ["make_records", "small_state"]
SMALL = {"embedding_dim": 2, "content_units": [4], "preference_units": [4], "tower_units": [4, 3]}
RECONSTRUCTION = {"pointwise": 0, "softmax": 0, "reconstruction": 1}


def config(losses, *, start=None, **model):
    training = {"losses": losses, "epochs": 1, "batch_size": 64, "start_from": start}
    labels = {"rule": "sampled", "positive_actions": ["click"]}
    sections = {"model": {**SMALL, **model}, "training": {**training, "allow_unaudited": True}, "factors": {"rank": 3}}
    return parse_config({"name": "small", "seed": 7, "labels": labels, **sections})


@pytest.fixture
def train(make_records, small_state, tmp_path):
    """(configuration, seed of the factors) -> folder of the scorer, draft."""
    records = make_records(60)
    tables = {**records.manifest.tables, "encoder": write_json(str(tmp_path), "encoder.json", small_state.model_dump())}
    manifest = records.manifest.model_copy(update={"tables": tables, "as_of": {"validation_start": 2**60}})

    def run(chosen, folder="model", seed=0):
        parents = {"records": Dataset(records.path, manifest)}
        if "factors" in train_dropoutnet.needed(chosen):
            parents["factors"] = factors(tmp_path / f"factors{seed}", chosen, seed)
        staging = tmp_path / folder
        staging.mkdir()
        context = Context(chosen, Workspace(str(tmp_path)), None, parents, str(staging))
        return str(staging), train_dropoutnet.run(context)

    return run


def factors(folder, chosen, seed):
    """A published `factors` of all users and of half of the items."""
    folder.mkdir(exist_ok=True)
    tables, draw = {}, np.random.default_rng(seed)
    for side, ids in (("user", range(20)), ("item", range(15))):
        rows = {f"{side}_id": [f"{side[0]}{n}" for n in ids], "factor": draw.normal(size=(len(ids), 3)).tolist()}
        contract = factor_table(side)
        tables[contract.name] = write_arrow(str(folder), contract.name, pa.table(rows), contract)
    stated = {"factors": chosen.factors.model_dump(mode="json")}
    return Dataset(
        str(folder), Manifest(dataset="factors", tables=tables, seed=7, config=stated, as_of={"fitted_until": 5})
    )


def test_reconstruction_trains_finds_factors_by_id_and_goes_on_from_what_is_registered(
    train, monkeypatch, capsys
) -> None:
    fit, fitted = towers.fit, []

    def fit_once(*given, warm, **told):
        if not warm:
            fitted.append(fit(*given, **told))
        return fitted[0]

    monkeypatch.setattr(towers, "fit", fit_once)
    found = [Calibration(slope=2.0, intercept=-1.0), None]
    monkeypatch.setattr(towers, "calibrate", lambda model, rows: found.pop(0))
    folder, draft = train(config(RECONSTRUCTION, factors=True, similarity="dot", calibrate=True))
    assert draft.facts["best"]["reconstruction"] > 0
    assert set(draft.tables) == {"factors", "towers", "encoder", "model", "history"}
    scorer = Scorer.load(folder)
    unknown = {name: pa.nulls(3) for name in ("item_category", "item_tags", "item_price", "item_size")}
    rows = scorer.embed("item", pa.table({"item_id": ["i0", "i14", "i15"], **unknown}))
    bare = scorer.embed("item", pa.table(unknown))
    assert np.abs(rows[:2] - bare[:2]).max(axis=1).min() > 1e-4
    np.testing.assert_array_equal(rows[2], bare[2])
    assert scorer.calibration == Calibration(slope=2.0, intercept=-1.0)
    assert draft.facts["calibration"] == {"slope": 2.0, "intercept": -1.0}
    assert "not calibrated" not in capsys.readouterr().err

    registered = SimpleNamespace(uri="models:/small/3", load=lambda: Scorer.load(folder))
    monkeypatch.setattr(train_dropoutnet, "lookup", lambda config, root, asked: registered)
    asked = config(RECONSTRUCTION, factors=True, similarity="dot", calibrate=True, start="models:/small@champion")
    going_on = train_dropoutnet.pinned(asked, Workspace(""))
    assert going_on.training.start_from == registered.uri
    with pytest.raises(ConfigError, match=r"models:/small/3 has others: each fit lies in a space of its own"):
        train(going_on, "other", seed=1)
    later, draft = train(going_on, "later")
    assert draft.facts["from"] == registered.uri
    # Scores that do not tell the labels have no calibration, and that is said.
    assert "calibration" not in draft.facts and Scorer.load(later).calibration is None
    assert "note: scores are not calibrated" in capsys.readouterr().err
    weights = [{w.path: np.asarray(w) for w in Scorer.load(f).model.weights} for f in (folder, later)]
    assert all(np.array_equal(value, weights[1][path]) for path, value in weights[0].items())


def test_what_towers_leave_out_is_asked_of_nobody_who_serves_them(train, monkeypatch) -> None:
    best = Epoch(number=1, metrics={"loss": 1.0}, examples_per_s=1.0, input_share=0.0)
    monkeypatch.setattr(
        towers, "fit", lambda *_, **__: History(epochs=(best,), best_epoch=1, monitor="validation_loss")
    )
    folder, _ = train(config({"pointwise": 1, "softmax": 0}, leave_out=["item_tags", "item_numbers"]))
    assert set(Scorer.load(folder).columns("item")) == {"item_category"}


def test_an_alias_is_a_version_and_one_that_has_come_to_stand_for_the_model_itself_its_own_start(
    tmp_path, monkeypatch
) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    publish(workspace, "records", {})
    made_of = {"records": workspace.current("records").manifest.content_digest}
    notes = {"name": "small", "version": "4"}
    publish(workspace, "model", {}, facts={"from": "models:/small/3"}, notes=notes, parents=made_of)

    def start(asked, stands_for):
        monkeypatch.setattr(train_dropoutnet, "lookup", lambda *_: SimpleNamespace(uri=f"models:/small/{stands_for}"))
        return train_dropoutnet.pinned(config({"softmax": 1}, start=asked), workspace).training.start_from

    assert start("models:/small@champion", 2) == "models:/small/2"
    assert start("models:/small@champion", 4) == "models:/small/3"
    assert start("models:/small/4", 4) == "models:/small/4"  # asked for by name
    publish(workspace, "records", {}, facts={"of": "another day"})
    assert start("models:/small@champion", 4) == "models:/small/4"


def test_factors_are_read_where_the_configuration_needs_them() -> None:
    assert train_dropoutnet.needed(config({"softmax": 1})) == ()
    assert train_dropoutnet.needed(config({"softmax": 1}, factors=True)) == ("factors",)
    assert train_dropoutnet.needed(config(RECONSTRUCTION)) == ("factors",)
