"""Invocation logs become rows: every form of body, every filter, damage told and passed over."""

import errno
import gzip
import itertools
import json
import os
import re
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import InvalidInput, StorageFailed
from limbeck.filters import filter_faults, fits
from limbeck.intake import log_files
from limbeck.intake.invocations import turns_in
from limbeck.intake.log_files import LogFiles
from limbeck.intake.log_records import condition, opened
from limbeck.intake.logs import Asked, extract_logs, passed_over_of, read_logs
from limbeck.intake.rows import read_rows
from limbeck.storage.objects import Buckets

FOLDER = "logs/AWSLogs/000000000000/BedrockModelInvocationLogs/us-east-1/2026/01/02/03"


def record(model="m", metadata=None, request=None, response=None, operation="Converse", **more):
    request = request or {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    response = response or {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}}
    found = {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "operation": operation,
        "modelId": model,
        "input": {"inputBodyJson": request},
        "output": {"outputBodyJson": response},
        **more,
    }
    return found | ({"requestMetadata": metadata} if metadata else {})


def asking(text):
    return {"messages": [{"role": "user", "content": [{"text": text}]}]}


@pytest.fixture
def bucket(tmp_path):
    objects = Buckets(tmp_path / "buckets")
    objects.make_bucket("desk")

    def write(records, name="a.json.gz", raw=None):
        lines = "".join(json.dumps(one) + "\n" for one in records).encode()
        objects.put("desk", f"{FOLDER}/{name}", gzip.compress(lines) if raw is None else raw)

    def extract(filters=None, responses_of=None, folder=False):
        path = tmp_path / "rows.jsonl"
        where = str(objects.root / "desk") if folder else "s3://desk/logs/AWSLogs"
        counts = extract_logs(None if folder else objects, where, path, filters, responses_of)
        return [json.loads(line) for line in path.read_bytes().splitlines()], counts, passed_over_of(path)

    @contextmanager
    def read(**asked):
        with read_logs(LogFiles("s3://desk/logs", objects), Asked(**asked), tmp_path / "scratch") as table:
            yield table

    write.extract, write.read, write.objects = extract, read, objects
    return write


def said(row):
    return [(turn["role"], turn["content"]) for turn in row["messages"]]


FORMS = {
    "converse": (None, None),
    "a stream of events": (
        None,
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "h"}, "contentBlockIndex": 0}},
            {"contentBlockDelta": {"delta": {"text": "i"}, "contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "end_turn"}},
        ],
    ),
    "llama": ({"prompt": "hello", "max_gen_len": 5}, {"generation": "hi", "stop_reason": "stop"}),
    "a llama stream": ({"prompt": "hello"}, [{"generation": "h"}, {"generation": "i", "stop_reason": "stop"}]),
    "anthropic": (
        {"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "hello"}]},
        {"content": [{"type": "text", "text": "hi"}]},
    ),
    "openai in blocks": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        {"choices": [{"message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}}]},
    ),
    "openai": (
        {"messages": [{"role": "user", "content": "hello"}]},
        {"choices": [{"message": {"role": "assistant", "content": "hi"}}]},
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.row(23)
def test_every_form_of_body_gives_the_prompt_and_the_answer(bucket, form):
    request, response = FORMS[form]
    bucket([record(request=request, response=response)])
    rows, counts, _ = bucket.extract(responses_of="m")
    assert [said(row) for row in rows] == [[("user", "hello"), ("assistant", "hi")]]
    assert counts == {"taken": 1}
    rows, _, _ = bucket.extract()
    assert [said(row) for row in rows] == [[("user", "hello")]]


def test_system_prompts_and_turns_are_kept(bucket):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    bucket([record(request={"system": [{"text": "be short"}], "messages": messages})])
    rows, _, _ = bucket.extract()
    assert said(rows[0]) == [("system", "be short"), *turns]


SEAMS = [
    '"],["user","',
    '[["system","',
    "]]",
    '"}]',
    "\\",
    '\\"],["assistant","',
    "\n\u00e9\u2028",
    '{"role":"user","content":"',
]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["a", *SEAMS]), min_size=1).map("".join), min_size=5, max_size=5))
def test_no_text_is_taken_for_the_seam_of_two_turns(bucket, texts):
    """Rows are written by their text: whatever stands in a turn stays in it."""
    turns = list(zip(("system", "user", "assistant", "user", "assistant"), (f"x{text}" for text in texts), strict=True))
    messages = [{"role": role, "content": [{"text": text}]} for role, text in turns[1:4]]
    answer = {"output": {"message": {"role": "assistant", "content": [{"text": turns[4][1]}]}}}
    bucket([record(request={"system": [{"text": turns[0][1]}], "messages": messages}, response=answer)])
    rows, _, _ = bucket.extract(responses_of="m")
    assert [said(row) for row in rows] == [turns]


@pytest.mark.row(24)
def test_responses_are_taken_of_exactly_the_teacher_and_prompts_of_any_model(bucket):
    models = ("teacher", "teacher:0", "other")
    bucket([record(model=model, request=asking(f"hello {model}")) for model in models])
    rows, counts, _ = bucket.extract(responses_of="teacher")
    assert [said(row)[0] for row in rows] == [("user", "hello teacher")]
    assert counts == {"taken": 1, "of another model": 2}
    assert len(bucket.extract()[0]) == 3


@pytest.mark.row(25)
def test_large_bodies_lie_aside_and_markers_are_passed_over(bucket):
    aside = f"{FOLDER}/data/1_input.json.gz"
    body = {"messages": [{"role": "user", "content": [{"text": "long " * 30_000}]}]}
    bucket.objects.put("desk", aside, gzip.compress(json.dumps(body).encode()))
    bucket.objects.put(
        "desk", "logs/AWSLogs/000000000000/BedrockModelInvocationLogs/amazon-bedrock-logs-permission-check", b""
    )
    one = record()
    one["input"] = {"inputBodyS3Path": f"s3://desk/{aside}"}
    bucket([one])
    rows, counts, _ = bucket.extract()
    assert (len(said(rows[0])[0][1]), counts) == (150_000, {"taken": 1})


def test_what_is_damaged_or_no_prompt_is_told_with_its_file_and_line(bucket):
    image = {"messages": [{"role": "user", "content": [{"image": {}}]}]}
    bucket([record(errorCode="ThrottlingException"), record(request=image), {"schemaType": "Else"}, record()])
    bucket([], "b.json.gz", raw=gzip.compress(b"no json\n" + json.dumps(record()).encode())[:-20])
    bucket([], "c.json.gz", raw=b"not gzip at all")
    rows, counts, told = bucket.extract()
    assert len(rows) >= 1
    lines = told.read_text().splitlines()
    assert lines[1] == f"{FOLDER}/a.json.gz,1,the invocation failed"
    assert "content that is not text alone" in lines[2]
    assert "no record of an invocation" in lines[3]
    assert any("c.json.gz,1,the file is damaged" in line for line in lines)
    assert counts.total() == len(lines) - 1 + len(rows)


def test_what_is_taken_of_a_log_the_jobs_intake_takes_too(bucket, tmp_path):
    sent = [
        {"n": 5},
        {"n": "5", "on": True},
        {"a": {"b": [1, "é"]}, "none": None},
        {"a": "x\x00", "b\n": ""},
        {"n": 1.5},
    ]
    answers = ["a\x00b", ["a"], 5, [{"type": "text", "text": "fine"}], {"text": "a"}]
    bucket([record(request=asking(f"prompt {at}"), metadata=one) for at, one in enumerate(sent)])
    openai = [{"choices": [{"message": {"content": content}}]} for content in answers]
    others = [{"generation": ["a"]}, {"generation": "a\x00"}, [{"generation": "\x00"}]]
    bucket(
        [record(request=asking(f"answered {at}"), response=one) for at, one in enumerate([*openai, *others])],
        "b.json.gz",
    )
    with bucket.read(responses_of="m") as table:
        taken, counts = list(table.rows()), table.counts
        table.write_rows(tmp_path / "rows.jsonl")
    assert list(read_rows(tmp_path / "rows.jsonl")) == taken
    assert [row.metadata for row in taken[: len(sent)]] == [
        ({"n": "5"},),
        ({"n": "5", "on": "true"},),
        ({"a": '{"b":[1,"é"]}'},),
        ({"a": '"x\\u0000"', "b\n": ""},),
        ({"n": "1.5"},),
    ]
    assert [row.label for row in taken[len(sent) :]] == ["fine"]
    assert counts == {
        "taken": len(sent) + 1,
        "cannot be read: a NUL character": 3,
        "cannot be read: content that is no list of blocks": 4,
    }


def test_a_file_of_no_bytes_is_told_as_damaged(bucket):
    bucket([record()])
    bucket([], "b.json.gz", raw=b"")
    bucket([], "c.json.gz", raw=gzip.compress(b""))
    rows, counts, told = bucket.extract()
    assert (len(rows), counts) == (1, {"taken": 1, "the file is damaged here": 1})
    assert told.read_text().splitlines()[1:] == [f"{FOLDER}/b.json.gz,1,the file is damaged here"]


def test_a_file_that_may_not_be_read_is_not_told_as_damaged(bucket, monkeypatch):
    bucket([record()])
    bucket([], "b.json.gz", raw=b"not gzip, so that it is tried again")

    def closed(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(log_files.gzip, "open", closed)
    with pytest.raises(InvalidInput, match=r"b\.json\.gz: Permission denied; expected a file of the log"):
        bucket.extract()


def test_a_place_without_logs_says_what_was_expected(bucket):
    with pytest.raises(InvalidInput, match=r"no invocation log; expected objects that end in \.json\.gz"):
        bucket.extract()


def test_equal_prompts_are_one_row_whatever_their_bodies_looked_like(bucket):
    bodies = [
        asking("where is it"),
        {"messages": [{"content": [{"text": "where is it"}], "role": "user"}], "inferenceConfig": {"maxTokens": 5}},
        {"anthropic_version": "x", "messages": [{"role": "user", "content": "where is it"}]},
        {"prompt": "where is it", "max_gen_len": 5},
        {"system": [], "messages": [{"role": "user", "content": [{"type": "text", "text": "where is it"}]}]},
    ]
    bucket([record(request=body, metadata={"at": str(at)}) for at, body in enumerate(bodies)])
    with bucket.read() as table:
        (row,) = table.rows()
    assert (row.copies, row.line, row.origin) == (5, 1, "log")
    assert row.metadata == tuple({"at": str(at)} for at in range(5))


def test_the_first_answer_wins_and_a_different_one_is_told(bucket):
    def answering(text):
        return {"output": {"message": {"role": "assistant", "content": [{"text": text}]}}}

    said = ["", "yes", "no", "yes"]
    bucket([record(response=answering(text)) for text in said] + [record(request=asking("b"))] * 2)
    with bucket.read(responses_of="m") as table:
        rows = list(table.rows())
        assert table.counts == {"taken": 2, "no text was answered": 1, "the same prompt as an earlier record": 3}
    assert [(row.label, row.line, row.copies, row.differ) for row in rows] == [("yes", 2, 3, True), ("hi", 5, 2, False)]


def test_a_sample_is_the_same_whatever_else_is_logged(bucket):
    bucket([record(request=asking(f"prompt {at}")) for at in range(60)])
    with bucket.read(most=20) as table:
        first = [row.prompt.id for row in table.rows()]
        assert table.counts == {"taken": 20, "outside the sample": 40}
    bucket([record(request=asking(f"prompt {at}")) for at in range(30, 90)], "0.json.gz")
    with bucket.read(most=20) as table:
        again = [row.prompt.id for row in table.rows()]
    with bucket.read() as table:
        place = {row.prompt.id: row.prompt.messages[0].text for row in table.rows()}
    assert len(again) == 20 and {place[id] for id in again} - {place[id] for id in first} <= {
        f"prompt {at}" for at in range(60, 90)
    }


def test_a_server_that_goes_away_fails_the_reading_and_not_the_record(bucket, monkeypatch):
    """What lies aside is fetched from inside DuckDB, which knows Python's errors only as text."""
    one = record()
    one["input"] = {"inputBodyS3Path": f"s3://desk/{FOLDER}/data/1_input.json.gz"}
    bucket([one, record()])

    def away(*_):
        raise StorageFailed("the server is away")

    monkeypatch.setattr(bucket.objects, "read", away)
    with pytest.raises(StorageFailed, match="the server is away"):
        bucket.extract()


def test_only_what_lies_beside_the_log_is_read(bucket, tmp_path):
    bucket.objects.make_bucket("safe")
    bucket.objects.put("safe", "data/secret.json", b'{"prompt": "secret"}')
    bucket.objects.put("desk", "secret.json", b'{"prompt": "secret"}')
    elsewhere = ["s3://safe/data/secret.json", "s3://desk/secret.json", "s3://desk/data/../secret.json", "/etc/passwd"]
    (tmp_path / "safe" / "data").mkdir(parents=True)
    (tmp_path / "safe" / "data" / "secret.json").write_text('{"prompt": "secret"}')
    elsewhere.append(f"s3://desk/{tmp_path}/safe/data/secret.json")  # two slashes: an absolute path
    bucket([{**record(), "input": {"inputBodyS3Path": place}} for place in [*elsewhere, f"s3://desk/{FOLDER}/data/no"]])
    for rows, counts, told in (bucket.extract(), bucket.extract(folder=True)):
        assert not rows and counts.total() == 6
        assert "secret" not in {line.split(",", 2)[2] for line in told.read_text().splitlines()}


@pytest.mark.parametrize(
    "response",
    [
        {"output": {"message": {"content": [{"text": "cut"}]}}, "stopReason": "max_tokens"},
        {"generation": "cut", "stop_reason": "length"},
        {"content": [{"type": "text", "text": "cut"}], "stop_reason": "max_tokens"},
        {"choices": [{"message": {"content": "cut"}, "finish_reason": "length"}]},
        [{"contentBlockDelta": {"delta": {"text": "cut"}}}, {"messageStop": {"stopReason": "max_tokens"}}],
        [{"type": "content_block_delta", "delta": {"text": "cut"}}, {"delta": {"stop_reason": "max_tokens"}}],
        [{"choices": [{"delta": {"content": "cut"}}]}, {"choices": [{"delta": {}, "finish_reason": "length"}]}],
    ],
)
def test_an_answer_that_was_cut_off_is_not_learned_but_its_prompt_may_be(bucket, response):
    bucket([record(request=asking("why?"), response=response)])
    rows, counts, told = bucket.extract(responses_of="m")
    assert not rows and counts == {"the answer was cut off": 1}
    assert told.read_text().splitlines()[1].endswith("a.json.gz,1,the answer was cut off")
    assert bucket.extract()[1] == {"taken": 1}


@pytest.mark.parametrize(
    "response",
    [
        {
            "output": {"message": {"content": [{"text": "let me look"}, {"toolUse": {"name": "f"}}]}},
            "stopReason": "tool_use",
        },
        {"choices": [{"message": {"content": "let me look", "tool_calls": [{"id": "1"}]}, "finish_reason": "stop"}]},
        [{"contentBlockDelta": {"delta": {"text": "let me look"}}}, {"messageStop": {"stopReason": "tool_use"}}],
        [
            {"type": "content_block_delta", "delta": {"text": "let me look"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        ],
        [{"choices": [{"delta": {"content": "let me look"}}]}, {"choices": [{"delta": {"tool_calls": [{"id": "1"}]}}]}],
        [{"choices": [{"delta": {"content": "let me look"}, "finish_reason": "tool_calls"}]}],
    ],
)
def test_an_answer_that_calls_a_tool_is_not_learned_but_its_prompt_may_be(bucket, response):
    bucket([record(request=asking("why?"), response=response)])
    rows, counts, _ = bucket.extract(responses_of="m")
    assert not rows and "taken" not in counts
    assert bucket.extract()[1] == {"taken": 1}


def test_a_folder_is_read_literally_whatever_its_name(tmp_path):
    lines = [gzip.compress(json.dumps(record(request=asking(text))).encode()) for text in ("own", "another's")]
    for name, raw in zip(("q?", "qq"), lines, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a*[1].json.gz").write_bytes(raw)
    counts = extract_logs(None, str(tmp_path / "q?"), tmp_path / "rows.jsonl")
    assert counts == {"taken": 1}
    assert [said(json.loads(line)) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [
        [("user", "own")]
    ]


def test_a_folder_is_read_as_a_bucket_is(bucket):
    test_large_bodies_lie_aside_and_markers_are_passed_over(bucket)
    near = bucket.extract()
    copied = bucket.extract(folder=True)
    assert near[:2] == copied[:2]


def test_objects_that_are_no_files_are_brought_a_batch_at_a_time(bucket, monkeypatch, tmp_path):
    for at in range(7):
        bucket([record(request=asking(f"prompt {at}"))] * 3, f"{at}.json.gz")
    near = bucket.extract()
    monkeypatch.setattr(type(bucket.objects), "local", lambda *_: None)
    monkeypatch.setattr(log_files, "BATCH_FILES", 2)
    assert bucket.extract()[:2] == near[:2]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["buckets"]


ODD = [
    "text", 5, None, [], {}, [{}], [5], [{"text": 5}], {"message": 5}, [{"role": "user"}], [{"role": 5, "content": "x"}],
    [{"role": "user", "content": [{"text": "x", "image": {}}, {"cachePoint": {"type": "default"}}]}],
    [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], [{"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "\x00"}], [{"role": "user", "content": " \u3000"}], [{"role": "user", "content": "\ud800"}],
]  # fmt: skip


@pytest.mark.parametrize("place", ["messages", "prompt", "system", "body", "input", "output", "response", "metadata"])
def test_no_record_however_odd_breaks_the_reading(bucket, place):
    def odd(value):
        if place == "input":
            return record() | {"input": value}
        if place == "output":
            return record() | {"output": value}
        if place == "body":
            return record() | {"input": {"inputBodyJson": value}}
        if place == "response":
            return record() | {"output": {"outputBodyJson": value}}
        if place == "metadata":
            return record() | {"requestMetadata": value}
        return record(request={**asking("hello"), place: value})

    bucket([odd(value) for value in ODD] + [record(request=asking("the last"))])
    for filters, responses_of in ((None, None), ({"notEquals": {"a": "b"}}, "m")):
        rows, counts, told = bucket.extract(filters, responses_of)
        assert ("user", "the last") in said(rows[-1])
        assert counts.total() == len(ODD) + 1 == len(told.read_text().splitlines()) - 1 + len(rows)


texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a", 'say "x"', "\\", "a\nb", "\x7f", "\u2028x", " a", "á", "é\x01", '"}]', '{"text":"a"}']
)
contents = texts | texts.map(lambda text: [{"text": text}]) | texts.map(lambda text: [{"type": "text", "text": text}])
requests = st.one_of(
    st.fixed_dictionaries({"prompt": texts}),
    st.fixed_dictionaries(
        {
            "messages": st.lists(
                st.fixed_dictionaries({"role": st.just("user"), "content": contents}), min_size=1, max_size=2
            )
        },
        optional={"system": contents},
    ),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests, min_size=40, max_size=60))
def test_what_is_told_by_its_text_is_what_its_reading_gives(bucket, bodies):
    """The commonest shapes are recognized without Python; every text must come out the same either way."""
    expected = {}
    for body in bodies:
        try:
            turns = turns_in(body.get("system"), body.get("messages"), body.get("prompt"))
        except InvalidInput:
            continue
        expected.setdefault(json.dumps([list(turn) for turn in turns]), len(expected))
    bucket([record(request=body) for body in bodies])
    with bucket.read() as table:
        rows = list(table.rows())
    assert [json.dumps([[turn.role, turn.text] for turn in row.prompt.messages]) for row in rows] == list(expected)


# What has every key with every value, and none: the answer to a filter is known without reading.
KEYS, VALUES = ["team", "cost-center", "a.b", "$c", "d/e", "f:g @+="], ["x", "X", "y z", ""]
KNOWN = [dict(zip(KEYS, chosen, strict=False)) for chosen in itertools.product(VALUES, repeat=2)]
KNOWN += [{key: value} for key in KEYS for value in VALUES] + [{}]
KNOWN += [dict.fromkeys(KEYS, value) for value in VALUES]


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """What a filter chooses of the known set, by the condition that reads logs."""
    with opened(tmp_path_factory.mktemp("known"), 1) as database:
        database.execute("create table known (place integer, requestMetadata json)")
        database.executemany("insert into known values (?, ?)", [(at, json.dumps(one)) for at, one in enumerate(KNOWN)])

        def chosen(filters):
            sql, values = condition(filters)
            found = database.execute(f"select place from known where {sql} order by place", values).fetchall()
            return [at for (at,) in found]

        yield chosen


@pytest.mark.row(25)
def test_files_are_filtered_so_in_each_of_the_four_forms(bucket):
    bucket([record(metadata=one, request=asking(str(at))) for at, one in enumerate(KNOWN)])
    parts = [{"equals": {"team": "x"}}, {"notEquals": {"d/e": "y z"}}]
    for filters in (*parts, {"andAll": parts}, {"orAll": parts}):
        expected = [str(at) for at, metadata in enumerate(KNOWN) if plainly(filters, metadata)]
        rows, counts, _ = bucket.extract(filters)
        assert [row["messages"][0]["content"] for row in rows] == expected
        assert counts == {"taken": len(expected), "does not fit the filters": len(KNOWN) - len(expected)}


@pytest.mark.row(25)
def test_the_four_forms_choose_what_they_say(known):
    for key, value in itertools.product(KEYS, VALUES):
        ours = [at for at, metadata in enumerate(KNOWN) if metadata.get(key) == value]
        others = [at for at in range(len(KNOWN)) if at not in ours]
        assert known({"equals": {key: value}}) == ours
        assert known({"notEquals": {key: value}}) == others
    both = [at for at, metadata in enumerate(KNOWN) if metadata.get("team") == "x" and metadata.get("a.b") == "x"]
    assert known({"andAll": [{"equals": {"team": "x"}}, {"equals": {"a.b": "x"}}]}) == both
    either = [at for at, metadata in enumerate(KNOWN) if metadata.get("team") == "x" or metadata.get("a.b") != "x"]
    assert known({"orAll": [{"equals": {"team": "x"}}, {"notEquals": {"a.b": "x"}}]}) == either


def test_not_equals_fits_a_record_that_lacks_the_key():
    assert fits({"notEquals": {"team": "x"}}, {})
    assert not fits({"equals": {"team": "x"}}, {})


pairs = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), min_size=1, max_size=1)
base = pairs.map(lambda pair: {"equals": pair}) | pairs.map(lambda pair: {"notEquals": pair})
lists = st.lists(base, min_size=1, max_size=16)
filters = st.one_of(base, lists.map(lambda some: {"andAll": some}), lists.map(lambda some: {"orAll": some}))


def plainly(asked, metadata):
    """What the API's words say, written once more."""

    def one(form):
        ((kind, pair),) = form.items()
        ((key, value),) = pair.items()
        return metadata.get(key) == value if kind == "equals" else metadata.get(key) != value

    ((form, value),) = asked.items()
    return all(map(one, value)) if form == "andAll" else any(map(one, value)) if form == "orAll" else one(asked)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters)
@pytest.mark.row(25)
def test_filters_agree_with_their_plain_reading(known, asked):
    expected = [at for at, metadata in enumerate(KNOWN) if plainly(asked, metadata)]
    assert [at for at, metadata in enumerate(KNOWN) if fits(asked, metadata)] == expected
    assert known(asked) == expected
    assert filter_faults(asked) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "found nothing; expected exactly one of equals"),
        ({"equals": {"a": "b"}, "notEquals": {"c": "d"}}, "found equals and notEquals; expected exactly one"),
        ({"equals": {"a": "b", "c": "d"}}, "equals: found 2 pairs; expected one pair"),
        ({"equals": {}}, "equals: found 0 pairs"),
        ({"equals": {"a": 5}}, "found 5; expected 0 to 256 letters"),
        ({"equals": {'a"b': "x"}}, "expected 1 to 256 letters"),
        ({"andAll": []}, "andAll: found 0 filters; expected a list of 1 to 16"),
        ({"orAll": [{"equals": {"a": "b"}}] * 17}, "orAll: found 17 filters"),
        (
            {"orAll": [{"andAll": [{"equals": {"a": "b"}}]}]},
            r"orAll\[0\]: found andAll; expected exactly one of equals",
        ),
        ({"andAll": [{"equals": {"a": "b", "c": "d"}}]}, r"andAll\[0\].equals: found 2 pairs"),
    ],
)
def test_a_filter_the_api_has_not_is_told(asked, said):
    assert re.search(said, " ".join(filter_faults(asked)))
