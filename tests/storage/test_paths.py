"""A path is one file, whatever its name looks like."""

import duckdb
import pytest

from limbeck.storage.paths import literally


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]", "a[1]", "]", "{a,b}", "a'b"])
def test_duckdb_reads_the_file_of_that_name_and_no_other(tmp_path, name):
    for other in ("a", "ab", "b", "a1", name):
        (tmp_path / f"{other}.json").write_text(f'{{"said": "{other}"}}\n')
    with duckdb.connect() as database:
        found = database.execute("select said from read_ndjson($1)", [literally(tmp_path / f"{name}.json")]).fetchall()
    assert found == [(name,)]
