import json

from pipelines.config import InteractionSource, QualityOptions, TimeColumn
from pipelines.quality.duplicates import mark_copies
from pipelines.quality.parse import parse_interactions
from pipelines.quality.read import read_source

SOURCE = InteractionSource(
    path="log.csv",
    user_id="user",
    item_id="item",
    event_time=TimeColumn(column="time", unit="s"),
    available_time=TimeColumn(column="seen", unit="s"),
    action="action",
    weight="stars",
)
OPTIONS = QualityOptions(actions=("click", "rating"), weight_range=(0, 5))
GOOD = "u,i,1700000000,1700000001,click,5"


def parsed(spark, folder, lines, source=SOURCE, options=OPTIONS):
    (folder / "log.csv").write_text("\n".join(["user,item,time,seen,action,stars", *lines]))
    (raw,) = read_source(spark, str(folder), "interactions[0]", source)
    return parse_interactions(raw, source, options)


def test_each_row_that_breaks_a_rule_says_which_and_keeps_its_text(spark, tmp_path) -> None:
    rows = {
        GOOD: None,
        ",i,1700000000,1700000001,click,5": "user_id: empty",
        "u, ,1700000000,1700000001,click,5": "item_id: empty",
        "u,i,soon,1700000001,click,5": "event_time: not a time in s",
        "u,i,,1700000001,click,5": "event_time: empty",
        "u,i,1700000000000,1700000000000,click,5": "event_time: after 2100-01-01; is unit: s right?",
        "u,i,1700000,1700000001,click,5": "event_time: before 1990-01-01; is unit: s right?",
        "u,i,1700000000,,click,5": "available_time: empty",
        "u,i,1700000000,1699999999,click,5": "available_time: earlier than event_time",
        "u,i,1700000000,1700000001,,5": "action: empty",
        "u,i,1700000000,1700000001,view,5": "action: not among quality.actions",
        "u,i,1700000000,1700000001,click,": "weight: empty",
        "u,i,1700000000,1700000001,click,many": "weight: not a number",
        "u,i,1700000000,1700000001,click,NaN": "weight: NaN or infinite",
        "u,i,1700000000,1700000001,click,-Infinity": "weight: NaN or infinite",
        "u,i,1700000000,1700000001,click,1e999": "weight: NaN or infinite",
        "u,i,1700000000,1700000001,click,6": "weight: outside quality.weight_range 0 to 5",
        "u,i,1700000000": "row: not 6 columns at separator ','",
    }
    found = parsed(spark, tmp_path, rows).collect()
    assert sorted(str(row["reason"]) for row in found) == sorted(str(reason) for reason in rows.values())
    for row in found:
        assert (row["row"] is None, row["file"]) == ((False, "log.csv") if row["reason"] else (True, None))
        if row["row"]:
            line = json.loads(row["row"])
            assert rows[line.get("line") or ",".join(value or "" for value in line.values())] == row["reason"]
    good = next(row for row in found if row["reason"] is None).asDict()
    assert good == {
        "source": "interactions[0]",
        "file": None,
        "reason": None,
        "row": None,
        "user_id": "u",
        "item_id": "i",
        "event_time": 1_700_000_000_000_000,
        "available_time": 1_700_000_001_000_000,
        "action": "click",
        "weight": 5.0,
    }


def test_what_a_log_does_not_have_comes_from_the_configuration(spark, tmp_path) -> None:
    bare = {"available_time": None, "availability_lag": "2h", "action": None, "action_value": "click", "weight": None}
    (row,) = parsed(spark, tmp_path, [GOOD], SOURCE.model_copy(update=bare)).collect()
    assert (row["available_time"] - row["event_time"], row["action"], row["weight"]) == (7_200_000_000, "click", 1.0)


def test_of_several_copies_the_one_available_first_stays_in_any_order_of_rows(spark, tmp_path) -> None:
    lines = [
        "u,i,1700000000,1700000009,click,5",
        "u,i,1700000000,1700000002,click,1",
        "u,i,1700000000,1700000002,click,3",
        "u,i,1700000000,1700000002,click,1",
        "u,i,1700000000,1700000001,rating,4",
        "u,i,soon,1700000001,click,4",
        "u,i,soon,1700000001,click,4",
    ]
    kept = []
    for order in (lines, lines[::-1]):
        marked = mark_copies(parsed(spark, tmp_path, order).repartition(3), OPTIONS.event_key)
        rows = [(r["reason"], r["action"], r["weight"], r["copy"]) for r in marked.collect()]
        assert len(rows) == 7 and sum(row[3] for row in rows) == 3
        kept.append(sorted((row[1], row[2]) for row in rows if row[0] is None and not row[3]))
    assert kept == [[("click", 1.0), ("rating", 4.0)]] * 2
