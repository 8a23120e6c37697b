"""The gate: Great Expectations on real frames, and the share of rows that were set aside.

It refuses with QualityGateError (exit code 3), naming the rule and example rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.errors import QualityGateError, SourceError, ThawError
from pipelines.quality.times import NO_ZONE

_EXAMPLES = 3


@dataclass(frozen=True)
class Tally:
    """What became of one source's rows."""

    rows_in: int = 0
    out: int = 0
    quarantined: int = 0
    duplicates: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Sum, field by field."""
        return Tally(
            self.rows_in + other.rows_in,
            self.out + other.out,
            self.quarantined + other.quarantined,
            self.duplicates + other.duplicates,
        )

    def facts(self) -> dict[str, int]:
        """As in a manifest."""
        return {"in": self.rows_in, "out": self.out, "quarantined": self.quarantined, "duplicates": self.duplicates}

    def line(self, name: str) -> str:
        """For people."""
        return (
            f"{name}: {self.rows_in:,} rows in = {self.out:,} out + {self.quarantined:,} quarantined "
            f"+ {self.duplicates:,} duplicates"
        )

    def check(self, name: str) -> None:
        """Raises ThawError where a row was lost or made up."""
        if self.rows_in != self.out + self.quarantined + self.duplicates:
            raise ThawError(f"rows in must equal out + quarantined + duplicates, got {self.line(name)}")


@dataclass(frozen=True)
class Reason:
    """One rule that rows of a source broke: how many, and up to two of them as (file, row)."""

    reason: str
    rows: int
    examples: tuple[tuple[str, str], ...]


def tally(marked: DataFrame, read: Mapping[str, Callable[[], int]]) -> tuple[dict[str, Tally], dict[str, list[Reason]]]:
    """Count judged and marked rows (columns source, file, reason, row, copy) by source, in one pass.

    `read` says, once the rows were computed, how many were read of each source: rows in are not counted by what
    became of them. Reasons come commonest first.
    """
    example = F.when(F.col("reason").isNotNull(), F.struct("file", "row"))
    counted = marked.groupBy("source", "reason", "copy").agg(
        F.count(F.lit(1)).alias("rows"), F.min(example).alias("first"), F.max(example).alias("last")
    )
    rows = counted.collect()
    tallies = {label: Tally(rows_in=count()) for label, count in read.items()}
    reasons: dict[str, list[Reason]] = {label: [] for label in read}
    for row in rows:
        n = row["rows"]
        if row["reason"] is None:
            tallies[row["source"]] += Tally(duplicates=n) if row["copy"] else Tally(out=n)
            continue
        tallies[row["source"]] += Tally(quarantined=n)
        examples = dict.fromkeys((found["file"], found["row"]) for found in (row["first"], row["last"]))
        reasons[row["source"]].append(Reason(row["reason"], n, tuple(examples)))
    return tallies, {label: sorted(found, key=lambda r: (-r.rows, r.reason)) for label, found in reasons.items()}


def check_shares(tallies: Mapping[str, Tally], reasons: Mapping[str, Sequence[Reason]], limit: float) -> None:
    """Raises QualityGateError where a source has too large a share of quarantined rows.

    A log most of whose times lack a zone is not bad data but a configuration that leaves a question open: SourceError.
    """
    for label, count in tallies.items():
        for found in reasons[label]:
            if found.reason.endswith(NO_ZONE) and found.rows * 2 > count.rows_in:
                column = found.reason.partition(":")[0]
                raise SourceError(
                    f"source.{label}.{column}: times without a zone need one, and guessing would move every event; "
                    f"set source.{label}.{column}.zone, such as zone: UTC. An example: {found.examples[0][1]}"
                )
    broken = []
    for label, count in tallies.items():
        if count.rows_in and count.quarantined / count.rows_in > limit:
            share = count.quarantined / count.rows_in
            head = (
                f"source.{label}: {count.quarantined:,} of {count.rows_in:,} rows ({share:.1%}) "
                f"broke a rule, at most {limit:.1%} may (quality.max_quarantine_share):"
            )
            broken += [head, *_reason_lines(reasons[label])]
    if broken:
        raise QualityGateError("\n".join(broken))


def _reason_lines(reasons: Sequence[Reason]) -> list[str]:
    lines = []
    for found in reasons[:_EXAMPLES]:
        lines.append(f"  {found.reason} ({found.rows:,} rows)")
        lines += [f"    {file}: {row[:300]}" for file, row in found.examples]
    if len(reasons) > _EXAMPLES:
        lines.append(f"  and {len(reasons) - _EXAMPLES} other rules")
    return lines


def validate(frame: DataFrame | pd.DataFrame, suite: Any, result_format: str) -> tuple[Any, Any]:
    """Hold a frame against a Great Expectations suite: (its batch, its validation result, in the suite's order)."""
    options = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    sources = gx.get_context(project_config=options, mode="ephemeral").data_sources
    source = (
        sources.add_pandas("pandas") if isinstance(frame, pd.DataFrame) else sources.add_spark("spark", persist=False)
    )
    asset = source.add_dataframe_asset(suite.name)
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    outcome = batch.validate(suite, result_format=result_format)
    order = {_name(rule.configuration): place for place, rule in enumerate(suite.expectations)}
    outcome.results.sort(key=lambda result: order[_name(result.expectation_config)])
    return batch, outcome


def expect(frame: DataFrame, suite: Any) -> Any:
    """Hold a (persisted) Spark frame against a suite: its validation result.

    Booleans first; only an expectation that fails is looked at again, for its rows.
    Raises QualityGateError naming each failed expectation and example values.
    """
    batch, outcome = validate(frame, suite, "BOOLEAN_ONLY")
    failed = [rule for rule, result in zip(suite.expectations, outcome.results, strict=True) if not result.success]
    if failed:
        raise QualityGateError("\n".join(_drill_down(batch, rule, suite.name) for rule in failed))
    return outcome


def verdicts(outcome: Any) -> list[dict[str, Any]]:
    """A validation result as plain data, in the suite's order."""
    return [
        {"expectation": _name(result.expectation_config), "success": bool(result.success)} for result in outcome.results
    ]


def _drill_down(batch: Any, rule: Any, table: str) -> str:
    detail = batch.validate(rule, result_format={"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES})
    if detail.exception_info and detail.exception_info.get("raised_exception"):
        return (
            f"{table}: {_name(rule.configuration)} could not be checked: {detail.exception_info['exception_message']}"
        )
    result = detail.result
    if "unexpected_count" in result:
        found = f"{result['unexpected_count']:,} of {result['element_count']:,} rows break it"
        found += f", such as {result.get('partial_unexpected_list')}"
    else:
        found = f"observed {result.get('observed_value')}"
    return f"{table}: {_name(rule.configuration)} failed: {found}"


def _name(configuration: Any) -> str:
    """`expect_column_values_to_be_between(column=weight, min_value=0, …)`."""
    named = {k: v for k, v in sorted(configuration.kwargs.items()) if k != "batch_id" and v is not None}
    return f"{configuration.type}({', '.join(f'{key}={value}' for key, value in named.items())})"
