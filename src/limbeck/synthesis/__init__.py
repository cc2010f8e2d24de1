"""Stage 2: examples in, examples with answers out, and with the teacher's distributions over them.

`augment` goes before it: the teacher writes prompts like those given, asked by `methods`, let in by `admission`, and
measured by `diversity`.

`respond` is the stage: it asks the teacher, or takes the labels as they are, and writes what came of it. `framing` says
what a teacher sees, `golden` which demonstrations it is shown, `session` asks it, `policy` decides what becomes of
labels, and `refine` has texts mended, with the words of `instructions`. `trial` finds the best of several teachers, by
labels or by the `marks` of a judge.
"""

from limbeck.synthesis.augment import augment
from limbeck.synthesis.earlier import read_earlier
from limbeck.synthesis.framing import Framing
from limbeck.synthesis.golden import Golden
from limbeck.synthesis.marks import judging
from limbeck.synthesis.refine import mend
from limbeck.synthesis.respond import answer, labels, read_answers, remarks
from limbeck.synthesis.session import Session
from limbeck.synthesis.trial import choose_teacher

__all__ = [
    "Framing",
    "Golden",
    "Session",
    "answer",
    "augment",
    "choose_teacher",
    "judging",
    "labels",
    "mend",
    "read_answers",
    "read_earlier",
    "remarks",
]
