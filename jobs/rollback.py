"""Give the crown back to the champion before, at once and without a gate.

`thaw rollback --config FILE --out OUT`. Run again, it goes back one further. What it passes over is not promoted again,
unless `--to VERSION`, which may be any version that was champion once, brings it back.
"""

import argparse
import sys
from collections.abc import Sequence

from jobs.launch import add_configuration, guarded, settle_registry
from pipelines.tracking.champions import roll_back
from pipelines.tracking.store import model_name, visit


def main(argv: Sequence[str] | None = None) -> int:
    """`thaw rollback`."""
    parser = argparse.ArgumentParser(prog="thaw rollback", description=__doc__)
    parser.add_argument("--to", metavar="VERSION", help="the version to make champion (default: the champion before)")
    parser.add_argument(
        "--model", metavar="NAME", help="registered model (default: the configuration's; classifiers: NAME_classifier)"
    )
    add_configuration(parser)

    def action() -> int:
        arguments = parser.parse_args(argv)
        config, root = settle_registry(arguments)
        name = arguments.model or model_name(config)
        before, now = roll_back(visit(config, root), name, arguments.to)
        if before == now:
            sys.stdout.write(f"{name}: version {now} is champion already, nothing was done\n")
        else:
            sys.stdout.write(
                f"{name}: version {now} is champion again, in place of version {before}; `thaw recommend` serves by it "
                f"from now on. `thaw lineage {name}@champion` tells what it is made of, `thaw rollback --to {before}` "
                "undoes this\n"
            )
        return 0

    return guarded(action)


if __name__ == "__main__":
    sys.exit(main())
