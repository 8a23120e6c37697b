"""Great Expectations' Data Docs as pages that need no server, no network and no script.

What a page says is rendered by Great Expectations; the frame around it is ours, because its own loads styles and
scripts from seven hosts. Without times and random ids, a page is the same to the byte for the same results: so it may
be part of a dataset's content, sealed by its digest like any other file.
"""

import json
import posixpath
import re
from collections.abc import Mapping
from html import escape
from itertools import count
from typing import Any

import fsspec
from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaSectionView

from pipelines.storage import describe_shard
from schemas.manifest import TableEntry

FOLDER = "data_docs"
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 62rem; margin: 0 auto; padding: 2rem 1rem; font: 16px/1.5 system-ui, sans-serif; }
h5, h6 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8885; }
td:first-child { white-space: nowrap; } td:last-child, th:last-child { width: 12rem; }
.badge { border: 1px solid #8888; border-radius: 4px; padding: 0 .3em; font-family: ui-monospace, monospace; }
.text-success { color: #23734a; } .text-danger { color: #b3261e; }
.fa-check-circle::before { content: "✓ passed"; } .fa-times::before { content: "✗ failed"; }
i { font-style: normal; }
"""


def write_docs(path: str, outcomes: Mapping[str, Any]) -> TableEntry:
    """Write a page per validation result under a staged dataset, and describe them as one `file` table."""
    fs, _ = fsspec.core.url_to_fs(path)
    fs.makedirs(posixpath.join(path, FOLDER), exist_ok=True)
    shards = []
    for name, outcome in outcomes.items():
        file = posixpath.join(FOLDER, f"{name}.html")
        fs.pipe_file(posixpath.join(path, file), page(outcome).encode())
        shards.append(describe_shard(path, file, 0))
    return TableEntry(format="file", shards=tuple(shards))


def page(outcome: Any) -> str:
    """One validation result as an HTML page: a function of its suite and of what was observed alone."""
    # Through JSON: the renderers know Python's numbers, not numpy's.
    plain = expectationSuiteValidationResultSchema.load(json.loads(json.dumps(outcome.to_json_dict())))
    for result in plain.results:
        # What a mere "succeeded" leaves out: the columns, whose order the renderer takes from here, and that no row
        # breaks the rule, as none here allows an exception.
        kind = result.expectation_config.type
        if kind == "expect_table_columns_to_match_ordered_list":
            result.result.setdefault("observed_value", result.expectation_config.kwargs["column_list"])
        elif result.success and not kind.startswith("expect_table") and "observed_value" not in result.result:
            result.result.setdefault("unexpected_percent", 0)
    plain.meta = {"batch_spec": {"data_asset_name": outcome.suite_name}}  # and not when and where it was read
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(plain).to_json_dict()
    view, numbers = DefaultJinjaSectionView(), count()
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    # The last section tells of the batch.
    body = "".join(view.render({"section": section, "section_loop": {}}) for section in document["sections"][:-1])
    # Links lead to other pages of a site that is not there; ids repeat from section to section.
    body = re.sub(r'<a [^>]*>(.*?)</a>|\s(?:id|href|aria-[a-z]+)="[^"]*"', r"\1", body, flags=re.DOTALL)
    body = "\n".join(line.strip() for line in body.splitlines() if line.strip())
    title = f"Validation of {escape(outcome.suite_name)}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )
