"""Manifests: what their digest covers, and that an altered one is noticed."""

import json

import pytest

from schemas.manifest import Manifest, Shard, TableEntry, canonical_json


def manifest(**changes):
    shard = Shard(path="t/part-00000.parquet", rows=3, bytes=10, sha256="ab" * 32)
    fields = {"dataset": "clean", "tables": {"t": TableEntry(format="parquet", shards=(shard,))}, "seed": 1}
    return Manifest(**{**fields, **changes})


def test_the_digest_ignores_when_where_and_how_it_was_made() -> None:
    one = manifest(made_at="monday", code_version="a", key="k1", notes={"host": "a"}, parents={"p": "1"}, seconds=1.0)
    other = manifest(made_at="friday", code_version="b", key="k2", config={"x": 1})
    assert one.content_digest == other.content_digest


@pytest.mark.parametrize("change", [{"seed": 2}, {"facts": {"rows": 1}}, {"as_of": {"end": 1}}, {"dataset": "other"}])
def test_the_digest_covers_content(change) -> None:
    assert manifest().content_digest != manifest(**change).content_digest


def test_json_round_trip_keeps_everything() -> None:
    original = manifest(facts={"ä": [1, None]}, notes={"run_id": "r"})
    assert Manifest.from_json(original.to_json()) == original


def test_an_altered_manifest_is_refused() -> None:
    raw = json.loads(manifest(facts={"rows": 3}).to_json())
    raw["facts"]["rows"] = 4
    with pytest.raises(ValueError, match="altered"):
        Manifest.from_json(json.dumps(raw))


def test_another_format_is_refused_with_the_remedy() -> None:
    raw = json.loads(manifest().to_json())
    raw["format"] = 99
    with pytest.raises(ValueError, match="rebuild"):
        Manifest.from_json(json.dumps(raw))


def test_canonical_json_has_one_spelling_and_no_nan() -> None:
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
