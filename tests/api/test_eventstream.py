"""Our framing, read by botocore's own reader."""

import json

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from limbeck.api.eventstream import event, exception, frame

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
values = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.lists(st.tuples(st.dictionaries(names, values, max_size=4), st.binary(max_size=300)), max_size=5), st.data())
@examples(max_examples=100, deadline=None)
def test_botocore_reads_what_was_framed_however_it_arrives(messages, data):
    whole = b"".join(frame(headers, payload) for headers, payload in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    buffer, found = EventStreamBuffer(), []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        buffer.add_data(whole[begin:end])
        found += [(message.headers, message.payload) for message in buffer]
    assert found == messages


def test_events_and_exceptions_say_which_they_are():
    buffer = EventStreamBuffer()
    buffer.add_data(
        event("messageStart", b'{"role":"assistant"}') + exception("throttlingException", b'{"message":"x"}')
    )
    first, second = list(buffer)
    assert (first.headers[":message-type"], first.headers[":event-type"]) == ("event", "messageStart")
    assert (second.headers[":message-type"], second.headers[":exception-type"]) == ("exception", "throttlingException")
    assert json.loads(first.payload) == {"role": "assistant"}
    assert first.to_response_dict()["status_code"] == 200
    assert second.to_response_dict()["status_code"] == 400
