"""`make bench`: every benchmark, or those named. They report; they never decide whether the code is right.

python -m tests.bench [NAME ...]
"""

import argparse
import pkgutil
import subprocess
import sys

import tests.bench


def main() -> int:
    """Run each in a process of its own; the exit code of the first that fails."""
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(tests.bench.__path__)
        if module.name != "__main__" and not module.ispkg
    )
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(names)}; none: all of them")
    wanted = parser.parse_args().name or names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)} (there is {', '.join(names)})")
    for name in wanted:
        print(f"\n== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"tests.bench.{name}"]).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
