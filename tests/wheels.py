"""Does every dependency have a wheel for each Python that hstore allows? `make wheels` asks the index.

No part of the suite, because it needs the index and says something about others' releases. It reads
the dependencies and the range of `requires-python` in pyproject.toml, and has pip download a wheel
of each, and of all that they need, into a temporary folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def allowed_pythons() -> list[str]:
    """Return the versions of Python that `requires-python` allows, as `3.11`."""
    found = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"])
    assert found is not None
    return [f"3.{minor}" for minor in range(int(found[1]), int(found[2]))]


def main() -> int:
    """Ask for each version; return 1 when one lacks a wheel."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    status = 0
    for python in allowed_pythons():
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
                    *("--quiet", "--dest", folder, "--only-binary=:all:"),
                    *("--python-version", python, *wanted),
                ],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            wheels = len(list(Path(folder).glob("*.whl")))
        if result.returncode:
            status = 1
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            sys.stdout.write(f"Python {python}: not every dependency has a wheel\n")
            sys.stdout.writelines(f"  {line}\n" for line in errors or [result.stderr])
        else:
            sys.stdout.write(f"Python {python}: {wheels} wheels, none missing\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
