"""Users who have just acted: their rows with what they touched since, for a scorer to read without training anew.

After DropoutNet's user transform (Volkovs, Yu and Poutanen, NIPS 2017, section 3.3): a partly cold user is embedded by
what is known of the items touched. [Arrow]
"""

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError

NEW_ITEMS = "user_new_items"
"""Column of a user's row, list<string>: items with a positive since the row was made, the latest first."""
_BAG = "user_recent_"


def with_new_items(users: pa.Table, new_items: pa.Array, items: pa.Table | None = None) -> pa.Table:
    """`users` with the column NEW_ITEMS, and with the values of those items at the front of their bags.

    `new_items` is list<string> (rows,), null or empty for none. `items` has `item_id` and the columns `item_COLUMN` of
    the bags `user_recent_COLUMN`; a bag whose column it lacks stays as it was, `user_recent_item_id` needs none. Raises
    InputError where the lengths differ.
    """
    if len(new_items) != users.num_rows:
        raise InputError(
            f"`new_items` must have a list for each user, got {len(new_items)} for {users.num_rows}; give [] for none"
        )
    lists = pa.array(new_items.to_pylist(), pa.list_(pa.string()))
    result = users.drop_columns([NEW_ITEMS]) if NEW_ITEMS in users.column_names else users
    for name in users.column_names:
        column = name.removeprefix(_BAG)
        known = items is not None and f"item_{column}" in items.column_names
        if not name.startswith(_BAG) or not (known or column == "item_id"):
            continue
        values = None
        if items is not None and known:
            values = dict(zip(items["item_id"].to_pylist(), items[f"item_{column}"].to_pylist(), strict=True))
        bags = [_bag(new, old, values) for new, old in zip(lists.to_pylist(), users[name].to_pylist(), strict=True)]
        place = result.schema.get_field_index(name)
        result = result.set_column(place, name, pa.array(bags, pa.list_(pa.string())))
    return result.append_column(NEW_ITEMS, lists)


def new_items_of(table: pa.Table) -> pa.Array | None:
    """The column NEW_ITEMS where a table has it, empty lists for null."""
    if NEW_ITEMS not in table.column_names:
        return None
    column = table[NEW_ITEMS].combine_chunks().cast(pa.list_(pa.string()))
    return pc.fill_null(column, pa.scalar([], pa.list_(pa.string())))


def _bag(new: list[str] | None, old: list[str] | None, values: dict[str, str | list[str] | None] | None) -> object:
    """New values before the old ones; None where there is neither."""
    front: list[str] = []
    for item in new or ():
        found = item if values is None else values.get(item)
        front += [found] if isinstance(found, str) else found or []
    return [*front, *(old or [])] or None
