"""Rows as a caller of MLflow sends them, to Arrow columns of the types that an encoder takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.storage import ARROW_TYPES
from schemas.columns import ColumnType


def as_table(frame: pd.DataFrame, columns: Mapping[str, ColumnType]) -> pa.Table:
    """The columns by name and type; those that the caller left out are all missing."""
    arrays = {}
    for name, kind in columns.items():
        values = [plain(value) for value in frame[name]] if name in frame.columns else [None] * len(frame)
        arrays[name] = pa.array(values, ARROW_TYPES[kind])
    return pa.table(arrays)


def plain(value: Any) -> Any:
    """A pandas cell as Arrow takes it: arrays to lists, NaN to None."""
    if isinstance(value, np.ndarray | list | tuple):
        return list(value)
    return None if pd.isna(value) else value
