"""The baseline, the timing, the table and the page."""

import re
import time
import xml.etree.ElementTree as ElementTree

import pytest
from tests.factory import message

from limbeck.evaluation.baseline import answers_are_labels, fit
from limbeck.evaluation.latency import time_requests
from limbeck.evaluation.page import page
from limbeck.evaluation.table import table
from limbeck.records import Report


def score(value):
    return {"value": value, "low": value - 0.05, "high": min(1.0, value + 0.05), "rows": 200}


def timed(p50):
    return {"p50": p50, "p95": 2 * p50, "tokens_per_second": 3 / p50, "requests": 40}


@pytest.fixture
def report():
    def measured(seconds, quality, **more):
        return {"latency": timed(seconds), "exact_match": score(quality), "token_f1": score(quality), **more}

    models = {
        "teacher": measured(0.4, 0.9, parameters=134_515_008, cost_per_1000_requests=0.0021),
        "student after": measured(0.1, 0.88, parameters=49_000_000, agreement=score(0.9)),
        "baseline": measured(0.0008, 0.7, agreement=score(0.7)),
    }
    curve = {"training": [[i, 2.0 / (i + 1)] for i in range(20)], "validation": [[9, 0.4], [19, 0.2]]}
    return Report(
        models, 200, "ship: <good> & fast.", True, {"metric": "exact_match", "tolerance": 0.05, "loss_curve": curve}
    )


def test_labels_are_told_from_prose():
    assert answers_are_labels(["leak", "noise", "leak", "noise"])
    assert not answers_are_labels(["leak"] * 9)
    assert not answers_are_labels([f"answer {i}" for i in range(50)])
    assert not answers_are_labels(["a b c d e f g h i", "leak"] * 9)


def test_the_baseline_learns_labels():
    classical = fit(*zip(*(message(i) for i in range(80)), strict=True))
    prompts, labels = zip(*(message(i) for i in range(100, 120)), strict=True)
    assert list(classical.predict(prompts)) == list(labels)


def test_the_baseline_learns_from_prompts_without_a_word():
    classical = fit(["1 + 2", "3 + 4", "1 - 2", "3 - 4"] * 5, ["sum", "sum", "difference", "difference"] * 5)
    assert list(classical.predict(["5 + 6", "5 - 6"])) == ["sum", "difference"]


def test_models_take_turns_and_are_warmed_up_first():
    calls = []

    def model(name, seconds):
        def answer(prompt):
            calls.append((name, prompt))
            time.sleep(seconds)
            return 2

        return answer

    each = []
    found = time_requests(
        {"slow": model("slow", 0.02), "fast": model("fast", 0.001)}, ["a", "b", "c"], lambda: each.append(1)
    )
    assert calls[4:] == [(name, prompt) for prompt in "abc" for name in ("slow", "fast")]
    assert found["slow"].p50 >= 0.02 > found["fast"].p50
    assert found["slow"].tokens_per_second == pytest.approx(2 / 0.02, rel=0.3)
    assert len(each) == 3


@pytest.mark.row(60)
def test_the_table_has_a_row_a_model_and_columns_that_line_up(report):
    lines = table(report).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("teacher") and "90.0% (85.0–95.0)" in lines[2] and "134.5 M" in lines[2]
    at = lines[0].index("exact match")
    assert all(line[at - 2 : at].strip() == "" or line[at - 1] == " " for line in lines)


def test_the_page_is_whole_by_itself_and_escapes_what_it_is_told(report):
    html = page("job <1>", report)
    assert "job &lt;1&gt;" in html and "&lt;good&gt; &amp; fast" in html
    assert not re.search(r"<script|src=|href=|https?://|@import|url\(", html)
    drawn = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(drawn) == 2
    for one in drawn:
        ElementTree.fromstring(one)
    quality = ElementTree.fromstring(drawn[0])
    assert sum(element.tag == "circle" for element in quality.iter()) == 3
    for circle in quality.iter("circle"):
        assert 0 < float(circle.get("cx")) < 640 and 0 < float(circle.get("cy")) < 320


def test_a_report_without_a_loss_curve_still_draws(report):
    bare = Report(report.models, 200, report.verdict, True, {"metric": "exact_match", "tolerance": 0.05})
    assert page("job", bare).count("<svg") == 1
