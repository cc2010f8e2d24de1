"""What users of Amazon Bedrock's distillation can do here, row by row, and the tests that prove it.

    python -m tests.compatibility [flags of pytest]    runs the tests marked with rows, writes docs/compatibility.md

A test says which rows it proves: ``@pytest.mark.row(3, 5)``. A row works if a test proves it and none that should
fails; for one that does not the table says why.
"""

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
HEAD = """\
# Compatibility

What users of Amazon Bedrock's model distillation do, and whether it can be done here. Written by `make compatibility`
from a run of the tests that prove each row; a row is "beyond" where Bedrock has no such thing.

"""
TEXT_ONLY = "models here take text only"
SYNTHESIS = "comes with data synthesis"


@dataclass(frozen=True)
class Row:
    """Something a user can do; ``beyond`` what Bedrock does; ``missing`` is why it cannot be done yet."""

    title: str
    beyond: bool = False
    missing: str = ""


ROWS = {
    1: Row("The catalog: base models listed, filtered, described"),
    2: Row("Converse"),
    3: Row("ConverseStream: the same text in order, the first delta before the last token"),
    4: Row("InvokeModel with Nova's body"),
    5: Row("InvokeModelWithResponseStream, metrics in the last chunk"),
    6: Row("InvokeModel with Llama's body and the three of imported models"),
    7: Row("CountTokens equals the usage of the same request"),
    8: Row("Stop reasons, stop sequences, over-long prompts"),
    9: Row("Tools, streamed or not, and their results"),
    10: Row("Images in a request", missing=TEXT_ONLY),
    11: Row("The runtime's errors in the words users know"),
    12: Row("Signature Version 4 and bearer keys, checked"),
    13: Row("aws-cli as it is"),
    14: Row("Invocation logging put, got, deleted"),
    15: Row("Log records where and as Bedrock writes them, large bodies aside"),
    16: Row("Request metadata on InvokeModel by its header"),
    17: Row("A distillation from prompts in S3, its sub-tasks in order"),
    18: Row("Fewer than 100 prompts refused at once, with their number and the reason of each faulty row", beyond=True),
    19: Row("More than 15,000 prompts refused"),
    20: Row("Golden examples: demonstrations for the teacher, their labels kept"),
    21: Row("Labels kept, improved or ignored, as one wishes", True),
    22: Row("Prompts made from prompts"),
    23: Row("A distillation from logs: prompts of any model, answered anew"),
    24: Row("A distillation from logs: the teacher's responses reused, no other model's"),
    25: Row("Filters of request metadata: equals, notEquals, andAll, orAll"),
    26: Row("maxResponseLengthForInference bounds the teacher's answers"),
    27: Row("The whole synthetic data published, with origin and teacher", beyond=True),
    28: Row("The report of prompts accepted and rejected, with the count that decides", beyond=True),
    29: Row("Metrics of training and validation, step by step, at the paths notebooks read"),
    30: Row("Metrics in the API equal to those in the files"),
    31: Row("Fine-tuning on text, from 8 rows"),
    32: Row("Fine-tuning on images", missing=TEXT_ONLY),
    33: Row("Rows of prompt and completion"),
    34: Row("Continued pre-training: held-out perplexity before and after, and what was forgotten", beyond=True),
    35: Row("A custom model trained further"),
    36: Row("Hyperparameters: defaults, ranges, notations, unknown names"),
    37: Row("Advice on data and hyperparameters", beyond=True),
    38: Row("Datasets checked: every fault at once, with its line"),
    39: Row("Several validation sets, a loss for each"),
    40: Row("A request repeated with its token makes one job"),
    41: Row("Names that are taken are refused"),
    42: Row("A job stopped, and not twice"),
    43: Row("A stopped job gone on with, to the same weights", beyond=True),
    44: Row("Jobs survive a server that is killed", beyond=True),
    45: Row("Progress to be seen while a job runs", beyond=True),
    46: Row("Failures that say what failed, never a bare 500", beyond=True),
    47: Row("Lists: pages, filters, both orders"),
    48: Row("Custom models listed, described, deleted unless in use"),
    49: Row("Deployments on demand: created, asked, updated in place, deleted"),
    50: Row("Any student deployed on demand", beyond=True),
    51: Row("Provisioned throughput: created, committed, moved, deleted"),
    52: Row("A custom model's ARN as modelId", beyond=True),
    53: Row("Models imported from a folder of weights"),
    54: Row("Weights published, loading in transformers", beyond=True),
    55: Row("Batch inference: output in order, counts, errors line by line"),
    56: Row("Batch inference on a deployment", beyond=True),
    57: Row("Evaluation by program"),
    58: Row("Evaluation by a judge, with explanations; task General"),
    59: Row("Evaluation of responses brought along"),
    60: Row("A deployment evaluated; teacher, student and base compared with intervals", beyond=True),
    61: Row("A published run on a RAG set: 5x faster or 75% cheaper, under 2% lost", True, "no such run is published"),
    62: Row("A student above its teacher by golden examples", True, "not measured"),
    63: Row("Function calling distilled to within 2 points", missing=f"not measured; toolConfig in a row is refused, {SYNTHESIS}"),
    64: Row("A custom model as teacher", beyond=True),
    65: Row("Teacher and student of different families", beyond=True),
    66: Row("Learning from the teacher's distribution, not only its text", beyond=True),
    67: Row("Conversations of several turns, every answer learned"),
    68: Row("Distillation on images", True, TEXT_ONLY),
    69: Row("Bad answers of the teacher filtered by a judge, a vote or a schema, and counted", True),
    70: Row("Determinism, a dry run, an estimate of cost", beyond=True),
    71: Row("Tags on jobs, models, deployments; 50 at most"),
    72: Row("S3, STS and IAM without AWS, enough for AWS's notebooks", beyond=True),
    73: Row("The lifecycle of base models: a legacy one says so", beyond=True),
    74: Row("Reinforcement fine-tuning read and refused with the reason"),
    75: Row("Operations that are not here named in a modelled error"),
}  # fmt: skip


def marked():
    """The rows, and the tests marked with them, as ``tests/file.py::test``."""
    found = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.row":
                    for number in mark.args:
                        found[number.value].add(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def page(proofs):
    """The page, from the rows and the tests that prove them."""
    works = [number for number in ROWS if proofs.get(number)]
    lines = ["| | what | | proved by, or why not |", "|---|---|---|---|"]
    for number, row in ROWS.items():
        how = ("works beyond" if row.beyond else "works") if number in works else "not yet"
        files = sorted({test.split("::")[0] for test in proofs.get(number, ())})
        why = ", ".join(f"[{Path(file).stem}](../{file})" for file in files) if files else row.missing
        lines.append(f"| {number} | {row.title} | {how} | {why} |")
    return f"{HEAD}{len(works)} of {len(ROWS)} rows work.\n\n" + "\n".join(lines) + "\n"


class _Outcomes:
    """What became of the tests of a run; one that is not right in every one of its cases proves nothing."""

    def __init__(self):
        self.passed, self.failed = set(), set()

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.split("[")[0]
        if report.failed:
            self.failed.add(name)
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def main():
    outcomes = _Outcomes()
    status = pytest.main(["-q", "-m", "row", *sys.argv[1:]], plugins=[outcomes])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(status)
    proving = outcomes.passed - outcomes.failed
    PAGE.write_text(page({number: tests & proving for number, tests in marked().items()}))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
