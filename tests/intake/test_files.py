"""What files are called, and which cannot be opened."""

from pathlib import Path

import pytest

from limbeck.intake import names_of, unreadable


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a.jsonl", "/x/b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["/x/a/p.jsonl", "/x/b/p.jsonl", "/x/q.jsonl"], ["a/p.jsonl", "b/p.jsonl", "q.jsonl"]),
        (["/x/a/p.jsonl", "/y/a/p.jsonl", "/y/b/p.jsonl"], ["x/a/p.jsonl", "y/a/p.jsonl", "b/p.jsonl"]),
        (["a/p.jsonl", "/x/a/p.jsonl", "p.jsonl"], ["a/p.jsonl", "x/a/p.jsonl", "p.jsonl"]),
        (["/x/p.jsonl", "/x/p.jsonl"], ["p.jsonl"]),
        ([], []),
    ],
)
def test_a_file_is_called_by_as_much_of_its_path_as_parts_it_from_others(paths, names):
    assert list(names_of(map(Path, paths)).values()) == names


def test_each_file_that_cannot_be_opened_is_told_once(tmp_path):
    (tmp_path / "there.jsonl").write_text("")
    paths = [tmp_path / "there.jsonl", tmp_path / "not.jsonl", tmp_path, tmp_path / "not.jsonl"]
    assert unreadable(paths) == [
        f"{tmp_path}/not.jsonl: No such file or directory; expected a file of rows",
        f"{tmp_path}: Is a directory; expected a file of rows",
    ]
