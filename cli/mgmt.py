"""The management script: `python3 cli/mgmt.py -r server|client -c COMMAND ...`.

It works from a checkout with any Python 3, and from an installed package as
`python -m hstore.cli.mgmt`. It only finds a Python that has hstore; the command itself is in
`spellings.py`. As a script it has no package, so its imports are absolute.
"""

from __future__ import annotations

import os
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
EXIT_USAGE = 2


def main() -> None:
    """Run the command line of this process and exit with its status."""
    # Python puts a script's own folder first in the path, so `config` or `client` would be found
    # here before modules of that name elsewhere. With `-m` the folder is not in the path.
    sys.path[:] = [one for one in sys.path if one != os.path.join(CHECKOUT, "cli")]  # noqa: PTH118
    try:
        from hstore.cli import streams

        streams.secure()
        from hstore.cli import spellings
    except ImportError as error:
        sys.exit(_with_another_python(error))
    sys.exit(spellings.run_mgmt(sys.argv[1:]))


def _with_another_python(error: ImportError) -> int:
    """Run this script again with the checkout's Python; return only where that cannot work."""
    venv = os.path.join(CHECKOUT, ".venv")  # noqa: PTH118
    python = os.path.join(venv, "bin", "python")  # noqa: PTH118
    is_itself = os.path.realpath(sys.prefix) == os.path.realpath(venv)
    if not is_itself and os.access(python, os.X_OK):
        # PYTHONHOME may point to the library of another Python.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
        arguments = [python, os.path.abspath(__file__), *sys.argv[1:]]  # noqa: PTH100
        os.execve(python, arguments, env)  # noqa: S606  # our own file, no shell
    what = f"{python} has" if is_itself else f"there is no {python}, and {sys.executable} has"
    sys.stderr.write(
        f"hstore: {what} no hstore ({error}); make one: make -C {CHECKOUT} .venv/installed\n"
    )
    return EXIT_USAGE


if __name__ == "__main__":
    main()
