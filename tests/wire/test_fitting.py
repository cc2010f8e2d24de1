"""What is found to fit in one go is what the closer look finds without a fault, and JSON holds it as it is."""

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from botocore.model import ShapeResolver, StructureShape
from pydantic_core import to_json
from tests.fuzz import Fuzzer

from limbeck.wire import shapes
from limbeck.wire.fitting import fitting
from limbeck.wire.operations import Service
from limbeck.wire.shapes import Faults, writer

SERVICE = Service("bedrock", "bedrock-runtime")


def told(part, value):
    faults = Faults()
    return part(value, (None, "it"), faults), list(faults)


def of_texts_alone(shape):
    return fitting(shape) if shape.type_name == "string" else lambda value: False


def test_the_quick_look_and_the_closer_one_say_the_same_of_every_answer(monkeypatch):
    fuzzer, count = Fuzzer([], seed=11), Counter()
    for operation in SERVICE.operations.values():
        shape = operation.model.output_shape
        if shape is None or operation.model.has_event_stream_output:
            continue
        quick, fits = writer(shape), fitting(shape)
        with monkeypatch.context() as patched:
            patched.setattr(shapes, "fitting", of_texts_alone)
            slow = writer(shape)
            for value in fuzzer.values(shape, 12):
                expected, faults = told(slow, value)
                found, same_faults = told(quick, value)
                assert same_faults == faults, (operation.name, value)
                if fits(value):
                    assert (faults, found is value, to_json(expected)) == ([], True, to_json(value)), operation.name
                count[fits(value), not faults] += 1
    assert count[True, False] == 0
    assert min(count[True, True], count[False, False]) > 300, count


def shape(members, **more):
    described = {"It": {"type": "structure", "members": {"m": {"shape": "M"}}, **more}, "M": members}
    return ShapeResolver(described).get_shape_by_name("It")


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), "2026-01-02T03:04:05.678000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05Z"),
        ("2026-01-02T03:04:05.678000+00:00", "2026-01-02T03:04:05.678000Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
    ],
)
def test_times_are_taken_as_moments_and_as_text_and_written_as_aws_writes_them(moment, written):
    found, faults = told(writer(shape({"type": "timestamp"})), {"m": moment})
    assert (faults, to_json(found)) == ([], to_json({"m": written}))


@pytest.mark.parametrize(
    "moment", ["2026-02-30T03:04:05Z", "2026-01-02T25:04:05Z", "1767323045", "soon", True, [], b"2026"]
)
def test_what_is_no_time_is_a_fault(moment):
    _, faults = told(writer(shape({"type": "timestamp"})), {"m": moment})
    assert len(faults) == 1 and "be a time in ISO 8601" in faults[0]


def test_what_must_be_changed_or_told_apart_never_fits_in_one_go():
    assert not fitting(shape({"type": "blob"}))({"m": b"x"})
    assert not fitting(shape({"type": "string"}, union=True))({"m": "x"})
    assert fitting(shape({"type": "string"}))({"m": "x"})
    assert not fitting(shape({"type": "string"}))({"m": None})
    renamed = shape({"type": "string"})
    assert isinstance(renamed, StructureShape)
    renamed.members["m"].serialization["name"] = "other"
    assert not fitting(renamed)({"m": "x"})
    assert told(writer(renamed), {"m": "x"}) == ({"other": "x"}, [])
