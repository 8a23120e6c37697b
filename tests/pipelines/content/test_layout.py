"""Inputs may be left out by name."""

import pytest

from pipelines.config import ConfigError
from pipelines.content.layout import without
from tests.pipelines.conftest import small_state

__all__ = ["small_state"]


def test_what_is_left_out_is_no_input_and_the_others_keep_their_order(small_state) -> None:
    kept = without(small_state.inputs, ["item_numbers", "item_category"])
    assert [spec.name for spec in kept] == ["user_statistics", "item_tags"]
    assert without(small_state.inputs, []) == small_state.inputs


def test_an_input_that_is_not_there_is_told_with_the_nearest(small_state) -> None:
    with pytest.raises(ConfigError, match=r"must name inputs of the records.*'item_tag'; did you mean `item_tags`\?"):
        without(small_state.inputs, ["item_tag"])
