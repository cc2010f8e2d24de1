"""Text becomes documents: every row in one place, some held out whatever the shares, none in two parts."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factory import write_rows

from limbeck.errors import InvalidDataset, InvalidInput
from limbeck.intake import check, collect_documents, read_counts, read_documents
from limbeck.intake.documents import PASSAGE_CHARACTERS
from limbeck.recipe import Recipe
from limbeck.records import Document, Fault
from limbeck.storage.workspace import Workspace


def recipe(path, **source):
    values = {"kind": "continued-pre-training", "name": "a", "student": {"model": "m"}}
    return Recipe.build({**values, "source": {"prompts": str(path), **source}})


def rows(path, count, start=0):
    return write_rows(path, [{"input": f"Document number {i} about kettles."} for i in range(start, start + count)])


def test_rows_are_documents_and_every_fault_is_told_with_its_line(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text(
        '{"input": "one"}\n\n{"input": "two", "label": "x"}\n{"prompt": "three"}\nnot json\n{"input": 5}\n'
        '{"input": "  "}\n[1]\n{"input": "a\\u0000b"}\n{"input": "last"}\n'
    )
    found = list(read_documents(path))
    assert [one for one in found if not isinstance(one, Fault)] == [(1, "one"), (10, "last")]
    assert [one.line for one in found if isinstance(one, Fault)] == [3, 4, 5, 6, 7, 8, 9]
    (tmp_path / "bad.jsonl").write_bytes(b'{"input": "\xff"}\n')
    assert "0xff" in str(next(read_documents(tmp_path / "bad.jsonl")))
    (tmp_path / "odd.jsonl").write_bytes(b'{"input": ' + b"1" * 5_000 + b'}\n{"\\ud800": 1}\n{"input": "last"}\n')
    *odd, last = read_documents(tmp_path / "odd.jsonl")
    assert [str(one).encode().split(b": found")[0] for one in odd] == [
        b"odd.jsonl line 1: line",
        b"odd.jsonl line 2: line",
    ]
    assert last == (3, "last")
    with pytest.raises(InvalidInput, match=r"missing\.txt: No such file"):
        list(read_documents(tmp_path / "missing.txt"))


def test_what_is_given_to_be_watched_is_not_examined_on(tmp_path):
    texts = sorted(
        (f"number {i}" for i in range(12)), key=lambda text: Document(text, "train", "", 1).as_prompt.normalized_id
    )
    watched = write_rows(tmp_path / "v.jsonl", [{"input": texts[0]}])
    path = write_rows(tmp_path / "p.jsonl", [{"input": text} for text in texts[1:]])
    found = collect_documents(recipe(path, validation=[str(watched)], held_out_share=0.0), Workspace(tmp_path / "job"))
    assert {one.text: one.split for one in found if one.split != "train"} == {
        texts[0]: "validation",
        texts[1]: "held-out",
    }


def test_documents_go_by_the_name_their_file_has_now(tmp_path):
    path, work = rows(tmp_path / "before.jsonl", 40), Workspace(tmp_path / "job")
    assert {one.file for one in collect_documents(recipe(path), work)} == {"before.jsonl"}
    path = path.rename(tmp_path / "after.jsonl")
    assert {one.file for one in collect_documents(recipe(path), work)} == {"after.jsonl"}


def test_a_passage_has_the_line_that_an_editor_shows(tmp_path):
    (tmp_path / "book.txt").write_bytes(b"\r\n\x0cone" + b" word" * 1000 + "\u2028\x85\r\n \r\n\ntwo\rthree".encode())
    assert [(line, text[:3]) for line, text in read_documents(tmp_path / "book.txt")] == [(2, "one"), (5, "two")]


@given(st.lists(st.text("ab\n", max_size=40).map(lambda part: part * 60), max_size=12))
def test_a_text_is_parted_at_empty_lines_and_no_word_is_lost(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    text = "\n\n".join(parts)
    path.write_text(text)
    passages = list(read_documents(path))
    assert "".join("".join(passage.split()) for _, passage in passages) == "".join(text.split())
    lines = text.splitlines()
    for begun, passage in passages:
        assert passage and passage.splitlines()[0] == lines[begun - 1].strip()


def test_passages_have_a_length_that_can_be_held_out(tmp_path):
    path = tmp_path / "book.md"
    path.write_text("\n\n".join(["A paragraph of some words. " * 20] * 60))
    lengths = [len(passage) for _, passage in read_documents(path)]
    assert len(lengths) > 5
    assert all(PASSAGE_CHARACTERS <= length < PASSAGE_CHARACTERS + 600 for length in lengths[:-1])


def test_documents_are_folded_split_and_counted(tmp_path):
    path = rows(tmp_path / "text.jsonl", 60)
    with path.open("a") as file:
        file.write('{"input": "Document number 0 about kettles."}\n{"wrong": 1}\n')
    work = Workspace(tmp_path / "job")
    documents = collect_documents(recipe(path), work)
    splits = {split: [one for one in documents if one.split == split] for split in ("train", "validation", "held-out")}
    assert len(documents) == 60 and all(splits.values())
    assert next(one for one in documents if one.line == 1).copies == 2
    assert collect_documents(recipe(path), work) == documents
    folder = tmp_path / "job" / "1-intake"
    counts = read_counts(folder)
    assert (counts.rows, counts.prompts, counts.held_out) == (61, 60, len(splits["held-out"]))
    with (folder / "report.csv").open() as file:
        fates = [row["status"] for row in csv.DictReader(file)]
    assert (fates.count("accepted"), fates.count("folded"), fates.count("refused")) == (60, 1, 1)
    assert json.loads((folder / "refused.jsonl").read_text())["line"] == 62


def test_what_is_examined_is_never_learned(tmp_path):
    path, held_out = rows(tmp_path / "text.jsonl", 20), rows(tmp_path / "held.jsonl", 8, start=15)
    documents = collect_documents(recipe(path, held_out=str(held_out)), Workspace(tmp_path / "job"))
    examined = {one.text for one in documents if one.split == "held-out"}
    assert len(examined) == 8 and len(documents) == 23
    assert not examined & {one.text for one in documents if one.split == "train"}


def test_a_held_out_document_is_not_learned_in_another_spelling_either(tmp_path):
    texts = [f"The pump {'is loud ' * at}when it runs." for at in range(1, 9)]
    path = write_rows(tmp_path / "text.jsonl", [{"input": text} for text in texts])
    held_out = write_rows(tmp_path / "held.jsonl", [{"input": f"{texts[at].upper()} \n"} for at in (0, 3)])
    documents = collect_documents(recipe(path, held_out=str(held_out)), Workspace(tmp_path / "job"))
    assert [one.text for one in documents if one.split == "train"] == [texts[at] for at in (1, 2, 4, 5, 6, 7)]
    told = (tmp_path / "job" / "1-intake" / "report.csv").read_text()
    assert told.count('guarded,"a held-out document') == 2


def test_two_documents_are_enough_and_one_is_not(tmp_path):
    documents = collect_documents(recipe(rows(tmp_path / "two.jsonl", 2)), Workspace(tmp_path / "two"))
    assert sorted(one.split for one in documents) == ["held-out", "train"]
    with pytest.raises(InvalidInput, match="1 different document: nothing is left to learn"):
        collect_documents(recipe(rows(tmp_path / "one.jsonl", 1)), Workspace(tmp_path / "one"))


def test_files_of_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows(tmp_path / name / "text.jsonl", 3 if name == "b" else 5)
    held_out = str(tmp_path / "b" / "text.jsonl")
    found = collect_documents(
        recipe(tmp_path / "a" / "text.jsonl", held_out=held_out, minimum=1), Workspace(tmp_path / "job")
    )
    assert {document.file for document in found} == {"a/text.jsonl", "b/text.jsonl"}
    told = (tmp_path / "job" / "1-intake" / "report.csv").read_text()
    assert "a/text.jsonl,1,folded,the same text as b/text.jsonl line 1" in told


def test_all_files_that_cannot_be_read_are_told_at_once(tmp_path):
    with pytest.raises(InvalidInput) as refused:
        check(
            recipe(
                tmp_path / "a.txt", held_out=str(tmp_path / "b.txt"), validation=[str(rows(tmp_path / "c.jsonl", 2))]
            )
        )
    told = str(refused.value).splitlines()
    assert [line.rpartition("/")[2].split(":")[0] for line in told] == ["a.txt", "b.txt"]


def test_a_source_without_documents_is_refused_before_anything_is_written(tmp_path):
    path = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(
        InvalidDataset, match=r'(?s)line 1.*expected \{"input".*pairs\.jsonl: 0 documents; expected at least 1'
    ):
        check(recipe(path))
