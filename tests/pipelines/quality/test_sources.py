import gzip

import pytest

from pipelines.config import InteractionSource, TimeColumn
from pipelines.errors import SourceError
from pipelines.quality.sources import check_columns, first_row, sample_keys, source_files


def log(path="log.csv", **more):
    return InteractionSource(
        path=path, user_id="user", item_id="item", event_time=TimeColumn(column="time", unit="s"), **more
    )


def names(folder, source):
    return [file.removeprefix(f"file://{folder}/") for file in source_files(str(folder), "interactions[0]", source)]


def test_a_file_a_folder_and_a_glob_name_their_files_and_leave_hidden_ones_out(tmp_path) -> None:
    for name in ("logs/b.csv.gz", "logs/a.csv", "logs/deep/c.csv", "logs/_SUCCESS", "logs/.c.csv", "logs/_tmp/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(tmp_path, log("logs/a.csv")) == ["logs/a.csv"]
    assert names(tmp_path, log("logs")) == ["logs/a.csv", "logs/b.csv.gz", "logs/deep/c.csv"]
    assert names(tmp_path, log("logs/*.csv")) == ["logs/a.csv"]


def test_a_hidden_file_is_refused_because_spark_would_read_nothing_of_it(tmp_path) -> None:
    (tmp_path / "_log.csv").write_text("x")
    with pytest.raises(SourceError, match=r"must not name a hidden file .*_log\.csv; rename it"):
        source_files(str(tmp_path), "interactions[0]", log("_log.csv"))


def test_a_file_name_with_glob_marks_is_itself(tmp_path) -> None:
    (tmp_path / "log[1].csv").write_text("x")
    assert names(tmp_path, log("log[1].csv")) == ["log[1].csv"]


def test_a_missing_file_is_an_error_that_names_path_and_remedy(tmp_path) -> None:
    with pytest.raises(SourceError, match=r"interactions\[0\].path .*nowhere.csv; correct the path, or --data"):
        source_files(str(tmp_path), "interactions[0]", log("nowhere.csv"))


def test_an_archive_that_spark_would_read_as_garbage_is_refused(tmp_path) -> None:
    (tmp_path / "log.zip").write_text("x")
    with pytest.raises(SourceError, match=r"must be .gz or .bz2, got .*log.zip"):
        source_files(str(tmp_path), "interactions[0]", log("log.zip"))


def test_an_unknown_column_is_an_error_that_names_it_the_ones_there_and_the_nearest() -> None:
    with pytest.raises(
        SourceError, match=r"item_id names column 'item', .* has \['user', 'Items', 'time'\]; did you mean 'Items'"
    ):
        check_columns("interactions[0]", log(), ["user", "Items", "time"], "log.csv")
    with pytest.raises(SourceError, match="several columns named 'user'"):
        check_columns("interactions[0]", log(), ["user", "item", "time", "user"], "log.csv")


def test_a_header_is_read_through_compression_quotes_and_byte_order_marks(tmp_path) -> None:
    file = tmp_path / "log.csv.gz"
    file.write_bytes(gzip.compress('\ufeff"user";item\r\n1;2\r\n'.encode()))
    assert first_row(str(file), ";", "UTF-8") == ["user", "item"]
    file.write_bytes(gzip.compress(b"\n\nuser::item\n1::2\n"))
    assert first_row(str(file), "::", "UTF-8") == ["user", "item"]


def test_keys_of_json_lines_are_gathered_past_lines_that_are_no_objects(tmp_path) -> None:
    (tmp_path / "a").write_text('oops\n{"a": 1}\n\n[1]\n{"b": {"c": 1}}\n')
    assert sample_keys([str(tmp_path / "a")]) == (["a", "b"], 4)
