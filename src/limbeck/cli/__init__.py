"""The verbs at the terminal. Results go to stdout, progress and errors to stderr.

Exit status: 0 done, 1 failed, 2 the input cannot be used, 130 stopped at the user's wish.
"""

from limbeck.cli.app import main

__all__ = ["main"]
