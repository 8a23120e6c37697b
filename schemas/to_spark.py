"""Table contracts as Spark schemas. The only file here that imports pyspark."""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from schemas.columns import ColumnType, Table

_TYPES: dict[ColumnType, T.DataType] = {
    "string": T.StringType(),
    "int64": T.LongType(),
    "float64": T.DoubleType(),
    "float32": T.FloatType(),
    "bool": T.BooleanType(),
    # Elements are never null, but Spark refuses to narrow what Parquet and most functions declare: nullable.
    "list<string>": T.ArrayType(T.StringType()),
    "list<int64>": T.ArrayType(T.LongType()),
    "list<float32>": T.ArrayType(T.FloatType()),
}


def spark_type(column_type: ColumnType) -> T.DataType:
    """The Spark type of a column type."""
    return _TYPES[column_type]


def spark_schema(table: Table) -> T.StructType:
    """The table's Spark schema. All fields nullable: Spark's own nullability is a hint, the gate is the check."""
    return T.StructType([T.StructField(c.name, _TYPES[c.type], True) for c in table])


def select_contract(frame: DataFrame, table: Table) -> DataFrame:
    """`frame` with exactly the contract's columns, in order, cast to its types: the last line of a transform."""
    chosen: list[SparkColumn] = [F.col(c.name).cast(_TYPES[c.type]).alias(c.name) for c in table]
    return frame.select(*chosen)
