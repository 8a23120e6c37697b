"""Class folders, archives, tables and IDX files become one listing; what cannot be is one clear message."""

import gzip
import io
import os
import struct
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import ConfigError, parse_config
from pipelines.errors import SourceError
from pipelines.images.listing import image_files, list_images
from pipelines.images.plan import plan_records
from pipelines.images.read import read_bytes

FOLDERS = {"train": "train", "test": "test"}
silent = lambda line: None  # noqa: E731


def listed(data: Path, options, *sources, **changes) -> pa.Table:
    scratch = data.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return list_images(str(data), options(sources=list(sources), **changes), str(scratch), silent)


def refusal(data: Path, options, *sources, **changes) -> str:
    with pytest.raises(SourceError) as caught:
        listed(data, options, *sources, **changes)
    return str(caught.value)


def contents(listing: pa.Table) -> list[bytes]:
    return list(read_bytes(*(listing[name].to_pylist() for name in ("file", "offset", "size"))))


def test_class_folders_are_listed_with_split_and_class(pictures, options) -> None:
    found = listed(pictures, options, {"path": "pictures", "folders": FOLDERS})
    assert found.num_rows == 24
    said = {row["name"]: (row["split"], row["label"]) for row in found.to_pylist()}
    assert said["pictures/train/cat/0000.png"] == ("train", "cat")
    assert said["pictures/test/dog/0005.png"] == ("test", "dog")
    assert "pictures/train/dog/größe ✓.jpg" in found["name"].to_pylist()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_an_archive_is_listed_as_the_folder_it_holds(pictures, options, ending) -> None:
    with tarfile.open(pictures / f"pictures{ending}", "w:gz" if ending.endswith("gz") else "w") as archive:
        archive.add(pictures / "pictures", arcname=".")
    folder = listed(pictures, options, {"path": "pictures", "folders": FOLDERS})
    packed = listed(pictures, options, {"path": f"pictures{ending}", "folders": FOLDERS})
    same = ["name", "label", "split"]
    assert packed.select(same).to_pylist() == folder.select(same).to_pylist()
    assert contents(packed) == contents(folder)


def test_files_are_listed_however_deep_and_of_no_class_in_a_folder_or_an_archive(pictures, options) -> None:
    (pictures / "pictures" / ".hidden").write_bytes(b"")
    (pictures / "pictures" / "loop").symlink_to(pictures / "pictures" / "test")
    with tarfile.open(pictures / "pictures.tar", "w") as archive:
        archive.add(pictures / "pictures" / "train", arcname="train")
    found = listed(pictures, options, {"path": ".", "format": "files"})
    said = {row["name"]: (row["label"], row["problem"]) for row in found.to_pylist()}
    assert said.pop("pictures/loop") == (None, "image: a link to a folder")
    assert len(said) == 24 + 1  # the archive itself is no image, but a file
    assert set(said.values()) == {(None, None)}
    packed = listed(pictures, options, {"path": "pictures.tar", "format": "files"})
    folder = listed(pictures, options, {"path": "pictures/train", "format": "files"})
    assert contents(packed) == contents(folder)
    assert image_files(str(pictures), options(sources=[{"path": "pictures/train", "format": "files"}])) == sorted(
        f"file://{path}" for path in (pictures / "pictures" / "train").rglob("*.*")
    )
    with pytest.raises(ConfigError, match=r"sources\[0\]\.format must not be files where records are written"):
        plan_records(folder, options(sources=[{"path": "pictures/train", "format": "files"}]), 7, 1)


def test_a_class_without_images_is_named(pictures, options) -> None:
    (pictures / "pictures" / "train" / "bird").mkdir()
    assert "train/bird has none" in refusal(pictures, options, {"path": "pictures", "folders": FOLDERS})


def test_no_class_folder_no_folder_and_no_data_are_told(pictures, options) -> None:
    (pictures / "empty").mkdir()
    assert "a folder for each class" in refusal(pictures, options, {"path": "empty"})
    assert "is not; correct its path" in refusal(pictures, options, {"path": "nowhere"})
    assert "must name a file that is there" in refusal(pictures, options, {"path": "nowhere.tar.gz"})
    assert "a folder for each class" in refusal(pictures, options, {"path": "pictures", "folders": {"train": "trein"}})


def test_a_path_out_of_the_data_folder_is_refused(pictures, options) -> None:
    assert "must stay within the data folder" in refusal(pictures, options, {"path": "../else"})
    assert "must stay within the data folder" in refusal(pictures, options, {"path": "/etc"})


def test_a_tar_that_leads_out_is_refused_and_a_link_in_it_is_set_aside(pictures, options) -> None:
    def packed(name: str, kind: bytes) -> dict[str, str]:
        with tarfile.open(pictures / "a.tar", "w") as archive:
            archive.add(pictures / "pictures" / "train", arcname="train")
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        return {"path": "a.tar", "folders": {"train": "train"}}

    assert "must stay within the archive" in refusal(pictures, options, packed("train/cat/../../../x", tarfile.REGTYPE))
    found = listed(pictures, options, packed("train/cat/x.jpg", tarfile.SYMTYPE)).to_pylist()
    assert [row["problem"] for row in found if row["name"].endswith("x.jpg")] == ["image: a link, not a file"]


@pytest.mark.parametrize("cut", [0.5, 0.97])
def test_a_cut_off_archive_is_told(pictures, options, cut) -> None:
    for name, mode in (("a.tar.gz", "w:gz"), ("b.tar", "w")):
        with tarfile.open(pictures / name, mode) as archive:
            archive.add(pictures / "pictures", arcname=".")
        whole = (pictures / name).read_bytes().rstrip(b"\0")
        (pictures / name).write_bytes(whole[: int(len(whole) * cut)])
    assert "must be a whole gzip file" in refusal(pictures, options, {"path": "a.tar.gz", "folders": FOLDERS})
    assert "must be a whole tar archive" in refusal(pictures, options, {"path": "b.tar", "folders": FOLDERS})


def test_hidden_files_are_left_out_and_loose_ones_told(pictures, options) -> None:
    (pictures / "pictures" / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (pictures / "pictures" / "__MACOSX").mkdir()
    (pictures / "pictures" / "train" / "__MACOSX").mkdir()
    (pictures / "pictures" / "train" / "__MACOSX" / "0000.png").write_bytes(b"x")
    (pictures / "pictures" / "train" / "README.md").write_bytes(b"x")
    said: list[str] = []
    chosen = options(sources=[{"path": "pictures", "folders": FOLDERS}])
    found = list_images(str(pictures), chosen, "", said.append)
    assert found.num_rows == 24
    assert said == ["note: 1 files of pictures lie beside the class folders and are of no class"]


def test_a_cameras_name_that_begins_with_an_underscore_is_no_hidden_one(pictures, options) -> None:
    (pictures / "pictures" / "train" / "cat" / "_DSC1234.JPG").write_bytes(b"x")
    names = listed(pictures, options, {"path": "pictures", "folders": FOLDERS})["name"].to_pylist()
    assert "pictures/train/cat/_DSC1234.JPG" in names


def test_a_linked_image_is_one_and_a_linked_folder_is_refused(pictures, options) -> None:
    folder = pictures / "pictures" / "train" / "cat"
    (folder / "linked.png").symlink_to(folder / "0000.png")
    (folder / "astray.png").symlink_to(folder / "nowhere.png")
    source = {"path": "pictures", "folders": FOLDERS}
    found = {row["name"].split("/")[-1]: row for row in listed(pictures, options, source).to_pylist()}
    assert (found["linked.png"]["problem"], found["astray.png"]["problem"]) == (None, "image: not a file")
    assert (
        len([file for file in image_files(str(pictures), options(sources=[source])) if file.endswith("linked.png")])
        == 1
    )
    (pictures / "pictures" / "train" / "lion").symlink_to(folder)
    assert "a folder of images must be no link, pictures/train/lion is one" in refusal(pictures, options, source)


def test_of_one_path_twice_in_an_archive_the_last_applies(pictures, options) -> None:
    with tarfile.open(pictures / "a.tar", "w") as archive:
        for data in (b"first", b"other", b"last!"):
            member = tarfile.TarInfo("cat/b.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    plan = plan_records(listed(pictures, options, {"path": "a.tar"}), options(), 7, 1)
    assert (contents(plan.rows), plan.duplicates) == ([b"last!"], 2)


def test_files_of_one_name_are_unpacked_apart(pictures, options) -> None:
    sources = []
    for folder in ("a", "b"):
        (pictures / folder).mkdir()
        images = idx(0x803, (1, 1, 1), folder.encode())
        labels = idx(0x801, (1,), b"\0")
        (pictures / folder / "i.gz").write_bytes(gzip.compress(images))
        (pictures / folder / "l").mkdir()
        (pictures / folder / "l" / "i.gz").write_bytes(gzip.compress(labels))
        sources.append({"path": f"{folder}/i.gz", "format": "idx", "labels": f"{folder}/l/i.gz"})
    assert contents(listed(pictures, options, *sources)) == [b"a", b"b"]


def test_a_pipe_among_the_images_is_set_aside(pictures, options) -> None:
    os.mkfifo(pictures / "pictures" / "train" / "cat" / "pipe.jpg")
    found = listed(pictures, options, {"path": "pictures", "folders": FOLDERS}).to_pylist()
    assert [row["problem"] for row in found if row["name"].endswith("pipe.jpg")] == ["image: not a file"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_not_utf_8_is_set_aside(pictures, options) -> None:
    folder = os.fsencode(pictures / "pictures" / "train" / "cat")
    Path(os.fsdecode(folder + b"/caf\xe9.jpg")).write_bytes(b"x")
    found = listed(pictures, options, {"path": "pictures", "folders": FOLDERS}).to_pylist()
    assert [row["problem"] for row in found if "caf" in row["name"]] == ["name: not UTF-8"]


CSV = """file,class,part,sku,shot
cat/a.jpg,cat,train,s1,2024-01-01T00:00:00Z
"dog/b,1.jpg",dog,test,s2,2024-01-02T00:00:00+01:00
cat/c.jpg,,train,s3,2024-01-01T00:00:00Z
,cat,train,s4,2024-01-01T00:00:00Z
cat/d.jpg,cat,dev,s5,2024-01-01T00:00:00Z
cat/e.jpg,cat,train,s6,2024-01-01T00:00:00
"""
TABLE = {
    "path": "t/list.csv", "format": "table", "image": "file", "label": "class", "split_column": "part",
    "item_id": "sku", "valid_from": {"column": "shot"},
}  # fmt: skip


def test_a_csv_gives_path_class_split_item_and_time_and_bad_rows_a_reason(pictures, options) -> None:
    (pictures / "t").mkdir()
    (pictures / "t" / "list.csv").write_text(CSV)
    rows = listed(pictures, options, TABLE).to_pylist()
    assert rows[1]["name"] == "t/dog/b,1.jpg"
    assert (rows[1]["label"], rows[1]["split"], rows[1]["item_id"]) == ("dog", "test", "s2")
    assert rows[1]["valid_from"] - rows[0]["valid_from"] == 23 * 3_600_000_000
    assert [row["problem"] for row in rows[2:]] == [
        "label: empty",
        "image: empty",
        "split: must be among train, validation, test, got dev",
        "valid_from: a time without a zone",
    ]


def test_where_no_label_is_needed_an_empty_one_is_no_problem(pictures, options) -> None:
    (pictures / "t").mkdir()
    (pictures / "t" / "list.csv").write_text(CSV)
    found = list_images(str(pictures), options(sources=[TABLE]), "", silent, labelled=False)
    problems = [row["problem"] for row in found.to_pylist()]
    assert problems == [None, None, None, "image: empty", None, "valid_from: a time without a zone"]


@pytest.mark.parametrize(
    ("unit", "value"), [("s", "1704067200"), ("ms", "1704067200000.5"), ("ns", "1704067200000000999")]
)
def test_epochs_are_exact(pictures, options, unit, value) -> None:
    (pictures / "list.csv").write_text(f"file,at\na.jpg,{value}\n")
    source = {"path": "list.csv", "format": "table", "image": "file", "valid_from": {"column": "at", "unit": unit}}
    assert listed(pictures, options, source)["valid_from"].to_pylist()[0] // 1000 == 1_704_067_200_000


def test_parquet_is_read_as_csv_is_and_times_may_be_timestamps(pictures, options) -> None:
    import datetime as dt

    table = {"file": ["a.jpg"], "class": [3], "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]}
    pq.write_table(pa.table(table), pictures / "list.parquet")
    source = {"path": "list.parquet", "format": "table", "image": "file", "label": "class", "root": "pictures"}
    (row,) = listed(pictures, options, {**source, "valid_from": {"column": "at"}}).to_pylist()
    assert (row["name"], row["label"], row["valid_from"]) == ("pictures/a.jpg", "3", 1_704_067_200_000_000)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_table_may_name_members_of_an_archive(pictures, options, ending) -> None:
    packed = pictures / f"pictures{ending}"
    with tarfile.open(packed, "w:gz" if ending.endswith("gz") else "w") as archive:
        archive.add(pictures / "pictures", arcname=".")
    (pictures / "list.csv").write_text("file,sku\ntrain/cat/0000.png,s1\ntrain/dog/0003.jpg,s2\ngone.jpg,s3\n,s4\n")
    source = {"path": "list.csv", "format": "table", "image": "file", "item_id": "sku"}
    folder = listed(pictures, options, {**source, "root": "pictures"})
    found = listed(pictures, options, {**source, "root": packed.name})
    same = ["name", "item_id"]
    assert found.select(same).to_pylist() == folder.select(same).to_pylist()
    assert contents(found.slice(0, 2)) == contents(folder.slice(0, 2))
    assert found["problem"].to_pylist() == [None, None, "image: not in the archive", "image: empty"]
    files = image_files(str(pictures), options(sources=[{**source, "root": packed.name}]))
    assert sorted(Path(file).name for file in files) == ["list.csv", packed.name]


def test_a_missing_column_is_told_with_the_nearest(pictures, options) -> None:
    (pictures / "list.csv").write_text("file,classes\na.jpg,cat\n")
    source = {"path": "list.csv", "format": "table", "image": "file", "label": "class"}
    message = refusal(pictures, options, source)
    assert "images.sources[0].label names column 'class'" in message
    assert "did you mean 'classes'?" in message


@pytest.mark.parametrize("path", ["../../x.jpg", "/etc/x.jpg", "s3://bucket/x.jpg"])
def test_a_row_that_leads_out_of_the_data_folder_stops_the_job(pictures, options, path) -> None:
    (pictures / "list.csv").write_text(f"file\n{path}\n")
    source = {"path": "list.csv", "format": "table", "image": "file"}
    assert "image, row 1: a path must stay within the data folder" in refusal(pictures, options, source)


def test_a_table_of_another_kind_or_without_rows_is_told(pictures, options) -> None:
    (pictures / "list.xlsx").write_bytes(b"x")
    (pictures / "list.parquet").write_bytes(b"x")
    (pictures / "list.csv").write_text("file\n")
    source = {"format": "table", "image": "file"}
    assert "must be .csv or .parquet" in refusal(pictures, options, {**source, "path": "list.xlsx"})
    assert "cannot be read as a table" in refusal(pictures, options, {**source, "path": "list.parquet"})
    assert "must hold images" in refusal(pictures, options, {**source, "path": "list.csv"})


def idx(magic: int, sizes: tuple[int, ...], data: bytes) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + data


def idx_source(folder: Path, images: bytes, labels: bytes) -> dict[str, str]:
    (folder / "i.gz").write_bytes(gzip.compress(images))
    (folder / "l").write_bytes(labels)
    return {"path": "i.gz", "format": "idx", "labels": "l", "split": "test"}


def test_idx_files_are_grey_pixels_and_labels(pictures, options) -> None:
    source = idx_source(pictures, idx(0x803, (3, 2, 2), bytes(range(12))), idx(0x801, (3,), bytes([1, 0, 9])))
    found = listed(pictures, options, source, classes=["no", "yes"])
    assert found["label"].to_pylist() == ["yes", "no", "9"]
    assert found["name"].to_pylist()[2] == "i#00000002"
    assert contents(found) == [bytes(range(4)), bytes(range(4, 8)), bytes(range(8, 12))]


def test_idx_files_that_are_none_are_told(pictures, options) -> None:
    good, labels = idx(0x803, (1, 2, 2), bytes(4)), idx(0x801, (1,), b"\0")
    cases = {
        "must begin with 00000803, i.gz begins with 00000d03": (idx(0xD03, (1, 2, 2), bytes(16)), labels),
        "must begin with 00000801, l begins with 00000803": (good, good),
        "must have 20 bytes": (good[:-1], labels),
        "got 2 labels and 1 images": (good, idx(0x801, (2,), b"\0\0")),
    }
    for expected, (images, of) in cases.items():
        assert expected in refusal(pictures, options, idx_source(pictures, images, of))
    source = idx_source(pictures, good, labels)
    whole = (pictures / "i.gz").read_bytes()
    (pictures / "i.gz").write_bytes(whole[:-9])
    assert "must be a whole gzip file" in refusal(pictures, options, source)


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        ({"height": 0}, "greater than or equal to 1"),
        ({"channels": 2}, "1 or 3"),
        ({"sources": []}, "at least 1"),
        ({"sources": [{"path": "p", "format": "zip"}]}, "'folders', 'files', 'table' or 'idx'"),
        ({"sources": [{"path": "p", "labels": "l"}]}, "labels belongs to format: idx"),
        ({"sources": [{"path": "p", "format": "table"}]}, "set image"),
        ({"sources": [{"path": "p", "split": "test", "folders": {"train": "t"}}]}, "split is that of all"),
        ({"classes": ["a", "a"]}, "must differ"),
        ({"validation_share": 0.6, "test_share": 0.4}, "must leave something to train on"),
        ({"hight": 3}, "did you mean `height`?"),
    ],
)
def test_options_that_cannot_be_are_one_message(images, rule) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(
            {"name": "x", "seed": 1, "images": {"sources": [{"path": "p"}], "height": 2, "width": 2, **images}}
        )
    assert rule in str(caught.value)


def test_images_need_no_labels_of_events_but_a_log_does() -> None:
    images = {"sources": [{"path": "p"}], "height": 2, "width": 2}
    assert parse_config({"name": "x", "seed": 1, "images": images}).images is not None
    with pytest.raises(ConfigError, match="`labels` must be set"):
        parse_config({"name": "x", "seed": 1, "images": images, "source": {}})


def test_the_fingerprint_covers_every_file_an_image_comes_from(pictures, options) -> None:
    (pictures / "list.csv").write_text("file\npictures/train/cat/0000.png\ngone.jpg\n")
    chosen = options(sources=[{"path": "pictures"}, {"path": "list.csv", "format": "table", "image": "file"}])
    files = [Path(file).name for file in image_files(str(pictures), chosen)]
    assert len(files) == 25
    assert "list.csv" in files


def test_bytes_of_another_file_system_are_read_likewise(pictures, options) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/shelf/pictures/cat/a.jpg", b"whole")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("dog/b.jpg")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"part"))
    memory.pipe_file("/shelf/p.tar", out.getvalue())
    chosen = options(sources=[{"path": "pictures"}, {"path": "p.tar"}])
    listing = list_images("memory://shelf", chosen, "memory://shelf/scratch", silent)
    assert listing["name"].to_pylist() == ["pictures/cat/a.jpg", "p/dog/b.jpg"]
    assert contents(listing) == [b"whole", b"part"]
