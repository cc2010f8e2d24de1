"""Stage 5: the teacher, the student before and after, and a classical baseline on the held-out rows; a report.

`compare` does the stage, `metrics` holds the scores, `latency` the timing, `baseline` the classical model,
`verdict` the decision in words, `page` the HTML.
"""

from limbeck.evaluation.compare import Candidate, compare, examine
from limbeck.evaluation.metrics import token_f1
from limbeck.evaluation.table import table

__all__ = ["Candidate", "compare", "examine", "table", "token_f1"]
