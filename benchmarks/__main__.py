"""Run one benchmark, or all: `python -m benchmarks [name]`."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Run what was asked for."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    asked = sys.argv[1:] or names
    unknown = [name for name in asked if name not in names]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    for name in asked:
        try:
            importlib.import_module(f"benchmarks.{name}").main()
        except SystemExit as lacking:
            if asked != names:
                raise
            print(f"{name}: left out, {lacking}", file=sys.stderr)
    return 0


sys.exit(main())
