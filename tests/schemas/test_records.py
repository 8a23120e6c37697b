import pytest

from schemas.fitted import InputSpec
from schemas.records import HEADER, record_columns, varint_width


def spec(name: str, kind: str = "floats", **more) -> InputSpec:
    return InputSpec(name=name, side="item", part="content", kind=kind, length=2, **more)


def test_inputs_follow_the_header_by_name_each_as_wide_as_its_table() -> None:
    columns = record_columns([spec("item_tags", "ids", table_size=129), spec("item_numbers")])
    assert columns[: len(HEADER)] == HEADER
    assert [(c.name, c.type, c.length, c.width) for c in columns[len(HEADER) :]] == [
        ("item_numbers", "list<float32>", 2, 0),
        ("item_tags", "list<int64>", 2, 2),
    ]


@pytest.mark.parametrize("largest", [0, 1, 127, 128, 16_383, 16_384, 2**63 - 1])
def test_a_varint_is_just_wide_enough(largest: int) -> None:
    width = varint_width(largest)
    assert largest < 1 << 7 * width and (width == 1 or largest >= 1 << 7 * (width - 1))


def test_an_input_must_not_take_a_name_of_the_header() -> None:
    with pytest.raises(ValueError, match=r"distinct names, got \['item_key'\]"):
        record_columns([spec("item_key")])
