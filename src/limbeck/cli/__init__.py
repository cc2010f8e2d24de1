"""The verbs at the terminal. Results go to stdout, progress and errors to stderr.

Exit status: 0 done, 1 failed, 2 the input cannot be used, 130 stopped at the user's wish.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """The program."""
    # Whatever it begins in turn, multiprocessing's processes too, takes no module from the folder it is begun in.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        from limbeck.cli import app  # takes a second, in which somebody may think better of it
    except KeyboardInterrupt:
        sys.exit(130)
    app.main()
