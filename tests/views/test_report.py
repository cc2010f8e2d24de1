"""The data report is one page that asks nobody for anything, shows every verdict, and obeys nothing it shows."""

import re
from html.parser import HTMLParser

import pytest

from limbeck.storage.workspace import read_json, write_json
from limbeck.views.figures import bars, histogram, scatter
from limbeck.views.map import chart
from limbeck.views.report import report
from limbeck.views.rows import rows


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.fixture
def page(home) -> str:
    return report(home.jobs / "first", home)


def test_hostile_text_is_shown_and_not_obeyed(page):
    found = Elements(page)
    assert not found.tags & {"script", "img", "iframe", "object", "link", "form", "b:", "base"}
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href")]
    assert "&lt;script&gt;alert(" in page and "prompts&lt;b&gt;.jsonl" in page
    assert ("http-equiv", "Content-Security-Policy") in found.attributes
    assert not re.search(r"https?://|url\(|@import", page)


def test_it_tells_verdicts_refusals_duplicates_and_cost(page):
    assert "refusal" in page and "I&#39;m sorry, but I cannot help with that." in page
    assert "prompts&lt;b&gt;.jsonl line 37: prompt: found 7; expected text" in page
    assert "2 copies" in page and "85% alike" in page and "<b>2</b>masked" in page
    assert re.search(r"scripted gave \d+ answers: [\d,]+ tokens read, [\d,]+ written, \d+\.\d+ USD", page)
    assert "point at one to read it" in page


def test_it_shows_nothing_private_where_privacy_is_asked_for(home):
    job = home.jobs / "first"
    for name in ("examples.jsonl", "refused.jsonl"):
        path = job / "1-intake" / name
        path.write_text(
            path.read_text().replace("found 7", "found ada@example.org").replace("kettle", "ada@example.org")
        )
    shown = report(job, home)
    assert "found [EMAIL-1]" in shown and "ada@example.org" not in shown
    path = job / "1-intake" / "refused.jsonl"
    path.write_text(path.read_text().replace("found ada@example.org", 'found \\"my… ada@exampl…\\"'))
    path.write_text(path.read_text().replace('"field": "prompt"', '"field": "ada@example.org"'))
    path.write_text(path.read_text().replace("37: prompt:", "37: my ada@examp…:"))
    shown = report(job, home)
    assert "[EMAIL-1]: expected text" in shown and "37: my &#34;…&#34;: found" in shown
    assert "found &#34;…&#34;" in shown and "ada@" not in shown


def test_a_label_that_the_teacher_read_is_among_the_tokens_it_read(home, page):
    first = home.jobs / "first"
    found = [row for row in rows(first) if row["prompt_tokens"] is not None]
    written = sum(row["response_tokens"] for row in found if row["origin"] == "teacher")
    read = sum(row["prompt_tokens"] + row["response_tokens"] for row in found) - written
    assert read > sum(row["prompt_tokens"] for row in found)
    assert f"{read:,} tokens read, {written:,} written" in page


def test_a_teacher_whose_files_are_gone_has_no_price(home):
    job = home.jobs / "first"
    recipe = read_json(job / "recipe.json")
    del recipe["teacher"]["prices"]
    write_json(job / "recipe.json", recipe)
    facts = {"name": "scripted", "kind": "distillation", "base": "x", "fingerprint": "0", "lineage": {}, "path": "gone"}
    write_json(home.models / "scripted.json", facts)
    assert "scripted gave" in report(job, home)


def test_the_same_job_has_the_same_page(home, page):
    assert report(home.jobs / "first", home) == page


def test_a_job_that_has_just_begun_has_a_page_too(home):
    for name in ("2-synthesis/answers.jsonl", "3-curation/kept.jsonl", "3-curation/dropped.jsonl"):
        (home.jobs / "first" / name).unlink()
    assert "none yet" in report(home.jobs / "first", home)


def test_the_map_puts_like_texts_together_and_names_what_they_have_in_common():
    texts = [f"the {thing} is broken, number {i}" for thing in ("kettle", "invoice") for i in range(20)]
    places, names = chart([text.replace("broken", "paid") if "invoice" in text else text for text in texts])
    groups = {word: {place.cluster for place in places if word in place.text} for word in ("kettle", "invoice")}
    assert len(places) == 40 and len(names) == 2
    assert all(len(own) == 1 for own in groups.values()) and groups["kettle"] != groups["invoice"]
    assert chart(["", "!", "?"] * 5) == ([], []) == chart([])


def test_the_map_has_no_group_without_a_text():
    signs = ("plus", "minus", "times")
    places, names = chart([f"{i // 10} {sign} {i % 10}" for i in range(100) for sign in signs])
    assert {place.cluster for place in places} == set(range(len(names)))


def test_figures_escape_what_they_show_and_are_nothing_where_there_is_nothing():
    for figure in (
        bars([("<i>", 3)], "<b>"),
        histogram([("<i>", [1, 2, 900])], "<b>"),
        scatter([(0.0, 0.0, 0, "<i>")], ["<i>"], "<b>"),
    ):
        assert "<i>" not in figure and "<b>" not in figure and "&lt;b&gt;" in figure
    assert bars([], "x") == histogram([("a", [])], "x") == scatter([], [], "x") == ""
