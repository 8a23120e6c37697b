"""Which arrays the model gets, and which embedding table each of them looks up. [plain data]"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pipelines.config import ContentOptions
from pipelines.content.encoder import FIRST_KNOWN
from pipelines.errors import ConfigError
from schemas.content import Side
from schemas.examples import FeatureSet, SideFeatures
from schemas.fitted import InputSpec


def columns_of_kind(features: FeatureSet, *kinds: str) -> list[str]:
    """Content columns of these kinds, user side first."""
    sides = (features.user, features.item)
    return [name for side in sides for name, kind in side.content.items() if kind in kinds]


def float_columns(features: FeatureSet) -> list[str]:
    """Columns that are normalised: numbers and statistics of both sides."""
    return [*columns_of_kind(features, "number"), *features.user.statistic_names, *features.item.statistic_names]


def embedding_tables(features: FeatureSet) -> dict[str, str]:
    """Column of ids -> its embedding table.

    An item column's table has the raw name, and the user's bags of that column share it; a user column's table has the
    feature's name. Raises ConfigError where that would make unrelated columns share one.
    """
    kinds = ("category", "categories", "text")
    user = {name: name for name, kind in features.user.content.items() if kind in kinds}
    item = {name: name.removeprefix("item_") for name, kind in features.item.content.items() if kind in kinds}
    if shared := sorted(set(user.values()) & set(item.values())):
        raise ConfigError(f"an item column must not have the name of a user feature, {shared} do; rename them")
    return user | item | {name: name.removeprefix("user_recent_") for name in features.user.bags}


def vocabulary_tables(features: FeatureSet) -> dict[str, tuple[str, ...]]:
    """Embedding table -> its columns, of those that have a vocabulary; text is hashed and has none."""
    text = columns_of_kind(features, "text")
    result: dict[str, tuple[str, ...]] = {}
    for column, table in embedding_tables(features).items():
        if column not in text:
            result[table] = (*result.get(table, ()), column)
    return result


def factor_inputs(rank: int) -> tuple[InputSpec, ...]:
    """What a model that reads reference factors gets besides.

    A part of its own, with a coin of its own: an item that came after the fit has statistics and no factor.
    """
    sides: tuple[Side, Side] = ("user", "item")
    return tuple(
        InputSpec(
            name=f"{side}_factor",
            side=side,
            part="preference",
            kind="floats",
            length=rank,
            entity=f"{side}_factor",
            columns=(f"{side}_factor",),
        )
        for side in sides
    )


def without(inputs: Sequence[InputSpec], names: Sequence[str]) -> tuple[InputSpec, ...]:
    """`inputs` but those of these names. Raises ConfigError where a name is none of theirs."""
    known = [spec.name for spec in inputs]
    if strange := [name for name in names if name not in known]:
        near = difflib.get_close_matches(strange[0], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "name one of them"
        raise ConfigError(f"model.leave_out must name inputs of the records, {known}, got {strange[0]!r}; {hint}")
    return tuple(spec for spec in inputs if spec.name not in names)


def model_inputs(
    features: FeatureSet,
    vocabulary_sizes: Mapping[str, int],
    vector_lengths: Mapping[str, int],
    options: ContentOptions,
) -> tuple[InputSpec, ...]:
    """Every input: user side first; in a side content ids, numbers, vectors, then preference.

    Raises ConfigError where two inputs would have one name.
    """
    tables = embedding_tables(features)
    lengths = {"category": 1, "categories": options.max_values, "text": options.max_words}

    def ids(side: SideFeatures, column: str, length: int) -> InputSpec:
        table = tables[column]
        return InputSpec(
            name=column,
            side=side.side,
            part="preference" if column in side.bags else "content",
            entity=side.side if column in side.bags else "",
            kind="ids",
            length=length,
            table=table,
            # Text: padding and the buckets. Others: padding, unknown and the vocabulary.
            table_size=vocabulary_sizes[table] + FIRST_KNOWN if table in vocabulary_sizes else options.text_buckets + 1,
            columns=(column,),
        )

    def floats(side: SideFeatures, name: str, columns: Sequence[str], length: int, entity: str = "") -> InputSpec:
        part: Literal["preference", "content"] = "preference" if entity else "content"
        return InputSpec(
            name=name, side=side.side, part=part, kind="floats", length=length, entity=entity, columns=tuple(columns)
        )

    def of_side(side: SideFeatures) -> Iterator[InputSpec]:
        for name, kind in side.content.items():
            if kind in lengths:
                yield ids(side, name, lengths[kind])
        if numbers := [name for name, kind in side.content.items() if kind == "number"]:
            yield floats(side, f"{side.side}_numbers", numbers, len(numbers))
        for name in (name for name, kind in side.content.items() if kind == "vector"):
            yield floats(side, name, [name], vector_lengths[name])
        for entity, statistics in side.statistics.items():
            yield floats(side, f"{entity.replace('.', '_')}_statistics", statistics, len(statistics), entity)
        for name in side.bags:
            yield ids(side, name, options.max_values)

    inputs = (*of_side(features.user), *of_side(features.item))
    names = [spec.name for spec in inputs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"a content column must not have the name of another model input, {twice} do; rename them")
    return inputs
