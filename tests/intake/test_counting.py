"""The counts that advice goes by are those of the files."""

from tests.factory import write_rows

from limbeck.intake import collect, read_counts
from limbeck.recipe import Recipe
from limbeck.storage.workspace import Workspace


def test_rows_repeats_contradictions_labels_and_unseen_words_are_counted(tmp_path):
    rows = [{"prompt": f"my kettle number {i} leaks"} for i in range(20)]
    rows += [{"prompt": "my washer leaks", "completion": answer} for answer in ("leak", "leak", "noise")]
    system = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "and my hob"}]}
    examined = [{"prompt": "my kettle explodes", "completion": "leak"}]
    watched = [{"prompt": f"watched {i}", "completion": "leak"} for i in range(3)]
    source = {
        "prompts": str(write_rows(tmp_path / "p.jsonl", [*rows, system])),
        "held_out": str(write_rows(tmp_path / "t.jsonl", examined)),
        "validation": [str(write_rows(tmp_path / "v.jsonl", watched))],
        "golden": str(write_rows(tmp_path / "g.jsonl", [{"prompt": "a", "completion": "b"}])),
        "minimum": 5,
    }
    values = {"kind": "distillation", "name": "a", "source": source, "teacher": {"model": "t"}}
    collect(Recipe.build(values), Workspace(tmp_path / "job"))
    found = read_counts(tmp_path / "job" / "1-intake")
    assert (found.rows, found.prompts, found.labelled, found.contradictions) == (24, 22, 1, 1)
    assert (found.training, found.validation, found.held_out, found.golden) == (22, 3, 1, 1)
    assert (found.systems, found.without_system) == (1, 26)  # the golden pair among them: it is learned too
    assert found.unseen_words == 1 / 3
