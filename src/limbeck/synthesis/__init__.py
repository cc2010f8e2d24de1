"""Stage 2: examples in, examples with answers out, and with the teacher's distributions over them.

`respond` asks the teacher, or takes the labels as they are, and writes what came of it.
"""

from limbeck.synthesis.respond import answer, labels, read_answers

__all__ = ["answer", "labels", "read_answers"]
