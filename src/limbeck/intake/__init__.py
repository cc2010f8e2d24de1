"""Stage 1: files of prompts and pairs in, `Example`s out. Knows nothing of models; opens without torch.

`rows` tells the three shapes of a row apart and says what is wrong with it, `logs` makes rows of logged requests,
`split` divides prompts by their content, `collect` does the stage, `counting` says in numbers what came of it. Every
row of the file ends in exactly one place: an example (alone or folded with its equals), or a line of `refused.jsonl`
with the reason. `documents` is the same for plain text.
"""

from limbeck.intake.collect import Census, HeldOut, check, collect, golden_pairs, held_out_rows, read_examples, survey
from limbeck.intake.counting import read_counts
from limbeck.intake.documents import TEXT_SUFFIXES, check_documents, collect_documents, read_documents
from limbeck.intake.files import names_of, unreadable
from limbeck.intake.logs import bring_logs, extract_logs
from limbeck.intake.rows import Row, parse_row, read_rows
from limbeck.intake.split import split_of
from limbeck.intake.tables import TABLES

__all__ = [
    "TABLES",
    "TEXT_SUFFIXES",
    "Census",
    "HeldOut",
    "Row",
    "bring_logs",
    "check",
    "check_documents",
    "collect",
    "collect_documents",
    "extract_logs",
    "golden_pairs",
    "held_out_rows",
    "names_of",
    "parse_row",
    "read_counts",
    "read_documents",
    "read_examples",
    "read_rows",
    "split_of",
    "survey",
    "unreadable",
]
