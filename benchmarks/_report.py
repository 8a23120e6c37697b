"""How every benchmark reports: a table for people, then one JSON line for machines."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence


def report(name: str, header: Sequence[str], rows: Sequence[Sequence[object]], **results: Mapping[str, float]) -> None:
    """Print `rows` under `header`, then one JSON line. A ratio above 1 means we are better."""
    cells = [list(map(str, header)), *[[_text(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    line = {
        "bench": name,
        "ratios": results.get("ratios", {}),
        "figures": results.get("figures", {}),
        "commit": commit(),
    }
    print(json.dumps(line))


def commit() -> str:
    """The commit that is measured, marked where the tree differs from it; empty where there is no git."""
    if shutil.which("git") is None:
        return ""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _text(cell: object) -> str:
    return f"{cell:,.2f}" if isinstance(cell, float) else str(cell)
