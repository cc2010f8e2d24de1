"""The house itself: the README's tree is the disk's, public names are listed, modules introduce themselves."""

import ast
import json
import math
import re
import subprocess
from collections import Counter
from pathlib import Path

from tests import compatibility

import limbeck

ROOT = Path(__file__).parent.parent


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def test_the_readmes_tree_is_the_disks():
    block = re.search(r"```\n(limbeck/\n.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    drawn, stack = set(), []
    for line in block.splitlines()[1:]:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        stack[depth:] = [name.rstrip("/")]
        drawn.add("/".join(stack) + ("/" if name.endswith("/") else ""))
    files = tracked()
    folders = {"/".join(file.split("/")[:i]) + "/" for file in files for i in range(1, file.count("/") + 1)}
    modules = {file for file in files if re.fullmatch(r"src/limbeck/\w+\.py", file) and "__main__" not in file}
    top = {file for file in files if "/" not in file and file not in {".gitignore"}}
    hidden = {folder for folder in folders if folder.startswith("tests/") and folder != "tests/"}
    assert drawn == (folders - hidden) | modules | top


def test_the_public_names_are_these_few():
    assert limbeck.__all__ == [
        "Model",
        "Recipe",
        "__version__",
        "distill",
        "evaluate",
        "export",
        "fine_tune",
        "load",
        "pretrain",
    ]
    assert all(getattr(limbeck, name) is not None for name in limbeck.__all__)


def test_every_module_introduces_itself_and_lists_what_is_its_own():
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        public = [
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        listed = any(
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__" for node in tree.body
        )
        assert listed or not public, path


def test_no_pickle_is_read_and_no_foreign_code_is_run():
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\bimport pickle|torch\.load|trust_remote_code=True|shell=True|(?<!\.)\beval\(|(?<!\.)\bexec\(", text
        ), path


def test_programs_of_ours_are_begun_in_one_way():
    named = {path.name for path in (ROOT / "src").rglob("*.py") if "sys.executable" in path.read_text()}
    assert named == {"child.py"}


def test_the_page_of_compatibility_is_what_the_marked_tests_prove():
    proofs = compatibility.marked()
    assert set(proofs) <= set(compatibility.ROWS)
    for number, row in compatibility.ROWS.items():
        assert bool(proofs.get(number)) != bool(row.missing), (
            f"row {number}: either a test proves it or a reason is given"
        )
    assert compatibility.PAGE.read_text() == compatibility.page(proofs), "`make compatibility` writes it anew"


def test_the_shipped_data_is_what_the_readme_says():
    folder = ROOT / "examples" / "service-desk"

    def read(name):
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    labelled, prompts, test = read("labelled.jsonl"), read("prompts.jsonl"), read("test.jsonl")
    intents = {row["completion"] for row in labelled}
    assert 12 <= len(intents) <= 20
    assert {row["completion"] for row in test} == intents
    assert len(labelled) + len(prompts) >= 900 and len(prompts) > len(labelled) and len(test) >= 200
    assert all("completion" not in row for row in prompts)
    words = [frozenset(re.findall(r"\w+", row["prompt"].lower())) for row in (*labelled, *prompts, *test)]
    # Near-duplicates share more than 60% of their words, hence at least one of either's rarest 40%: only messages
    # that meet there are compared.
    commonness = Counter(word for own in words for word in own)
    holders: dict[str, list[int]] = {}
    for i, own in enumerate(words):
        rarest = sorted(own, key=lambda word: (commonness[word], word))[: len(own) - math.ceil(0.6 * len(own)) + 1]
        for j in {j for word in rarest for j in holders.get(word, [])}:
            assert len(own & words[j]) / len(own | words[j]) <= 0.6, (sorted(own), sorted(words[j]))
        for word in rarest:
            holders.setdefault(word, []).append(i)
