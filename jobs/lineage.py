"""Tell what a registered model was made from, who judged it and when it was champion, from MLflow alone.

`thaw lineage demo@champion --out out/demo`, `thaw lineage demo/3 --json --config FILE`. Nothing is made or changed.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from jobs.launch import add_configuration, guarded, settle_registry
from pipelines.tracking.lineage import lineage_lines, lineage_of
from pipelines.tracking.registered import registered
from pipelines.tracking.store import visit


def main(argv: Sequence[str] | None = None) -> int:
    """`thaw lineage`."""
    parser = argparse.ArgumentParser(prog="thaw lineage", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="NAME@ALIAS or NAME/VERSION, with models:/ before it or without")
    parser.add_argument("--json", action="store_true", help="all of it, for machines")
    add_configuration(parser)

    def action() -> int:
        arguments = parser.parse_args(argv)
        client = visit(*settle_registry(arguments))
        told = lineage_of(client, registered(client, arguments.model))
        text = json.dumps(told, indent=1, ensure_ascii=False) if arguments.json else "\n".join(lineage_lines(told))
        sys.stdout.write(text + "\n")
        return 0

    return guarded(action)


if __name__ == "__main__":
    sys.exit(main())
