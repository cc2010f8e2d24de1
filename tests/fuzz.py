"""Requests built from botocore's shapes: good ones, and ones that are wrong in one of many ways; seeded.

A value that fits a shape is drawn from words of which some name what there is, so that good requests reach the
functions behind the wire. Knows nothing of what an operation does, nor of how a request is sent.
"""

import binascii
import json
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, urlencode

import regex
from botocore.model import ListShape, MapShape, StructureShape

ROLE = "arn:aws:iam::000000000000:role/Limbeck"
WORDS = (
    "desk", "Desk-1", "s3://desk/pairs.jsonl", "s3://desk/out/", "s3://nobody/nothing", ROLE, "2", "0.00001", "General",
    "arn:aws:bedrock:us-east-1:000000000000:custom-model/test.front-v1/abcdef012345", "test.front-v1:0",
    "arn:aws:bedrock:us-east-1:000000000000:custom-model-deployment/abcdef012345", "abcdefghijkl", "Builtin.Accuracy",
    "arn:aws:bedrock:us-east-1:000000000000:provisioned-model/abcdef012345", "subnet-0123456789abcdef0", "us-east-1",
    "arn:aws:bedrock:us-east-1:000000000000:model-customization-job/test.front-v1:0/abcdef012345", "sg-0123456789abcdef0",
    "arn:aws:bedrock:us-east-1:000000000000:evaluation-job/abcdef012345", "arn:aws:kms:us-east-1:000000000000:key/k",
    "arn:aws:bedrock:us-east-1:000000000000:model-import-job/abcdef012345", "000000000000", "hello there", "application/json",
    "arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/abcdef012345", "arn:aws:lambda:us-east-1:000000000000:function:f",
    "arn:aws:bedrock:us-east-1:000000000000:imported-model/abcdef012345", "{{prompt}} {{prediction}}", "arn:aws:s3:::desk",
)  # fmt: skip
ODD_TEXT = ("", " ", "\0", "é", "𝄞" * 5, "‮", "a" * 3000, "x\r\ny: z", "../../etc/passwd", "%s%n", "-", "null", "\ud800")
OVER_LONG = ("a-" * 700 + "!", "a" * 40 + "!", "arn:aws:" + ":" * 500, "0" * 2000 + "_", "A." * 900)
ODD_VALUES = (None, True, 0, -1, 10**30, 1e308, float("nan"), [], {}, [[]], {"": ""}, "x", "1", [None], {"a": None})
ODD_PATHS = (
    "/",
    "//",
    "/%00",
    "/%ff%fe",
    "/..%2f..",
    "/" + "a" * 5000,
    "/a/" * 200,
    "/model/%2F/converse",
    "/model//invoke",
    "*",
)
ODD_METHODS = ("HEAD", "OPTIONS", "TRACE", "PATCH", "DELETE", "PUT", "LINK", "GET", "POST")
ODD_HEADERS = (
    "Content-Type",
    "Accept",
    "X-Amzn-Bedrock-Accept",
    "X-Amzn-Bedrock-Trace",
    "X-Amzn-Bedrock-Request-Metadata",
)
LONGEST_ADDRESS = 60_000
"""A longer one is refused by the parser of HTTP, before anything of ours."""
SPOILED = ("missing", "extra", "wrong type", "huge", "odd text", "wrong word", "over-long")
WAYS = (
    "good", "good", "good", *SPOILED, "broken JSON", "bytes", "deep", "odd path", "odd method", "odd query", "odd header",
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One request, and in what way it is wrong."""

    operation: object
    way: str
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def is_odd(self):
        """Whether it may be for another operation, or for none."""
        return self.way in ("odd path", "odd method")


class Fuzzer:
    """The same seed gives the same requests: each of ``operations`` in turn.

    ``words`` name what there is besides; ``known`` has good requests by operation, from which half of that operation's
    begin, each NAME in them another.
    """

    def __init__(self, operations, seed, words=(), known=()):
        self._operations, self._words, self._known = list(operations), (*words, *WORDS), dict(known)
        self._dice = random.Random(seed)

    def requests(self, count):
        for number in range(count):
            yield self._request(self._operations[number % len(self._operations)])

    def values(self, shape, count):
        """Values of a structure, as JSON has them; half of them wrong in one place."""
        for _ in range(count):
            found = {name: value for name, value in self._good(shape, 0).items() if value is not None}
            yield self._spoiled(found, self._dice.choice(SPOILED)) if self._dice.random() < 0.5 else found

    def _request(self, operation):
        dice, way = self._dice, self._dice.choice(WAYS)
        shape, model = operation.model.input_shape, operation.model
        if operation.name in self._known and dice.random() < 0.5:
            text = json.dumps(self._known[operation.name])
            values = json.loads(text.replace("NAME", f"desk-{dice.randrange(10**6)}"))
        else:
            values = self._good(shape, 0) if shape is not None else {}
        values = {name: value for name, value in values.items() if value is not None}
        if way in SPOILED:
            values = self._spoiled(values, way)
        labels, query, headers, document, raw = {}, [], {}, {}, None
        members = shape.members if shape is not None else {}
        for name, value in values.items():
            member = members.get(name)
            place = member.serialization.get("location") if member is not None else None
            wire = member.serialization.get("name", name) if member is not None else name
            if place == "uri":
                labels[wire] = _text(value)
            elif place == "querystring":
                query.extend((wire, _text(one)) for one in (value if isinstance(value, list) else [value]))
            elif place == "header":
                headers[wire] = quote(_text(value)[:2000], safe="/:;=., ", errors="replace")
            elif member is not None and name == shape.serialization.get("payload") and member.type_name == "blob":
                raw = _bytes(value)
            else:
                document[wire] = value
        path = "/" + "/".join(
            quote(labels.get(part.strip("{}+"), ""), safe="", errors="replace") if part.startswith("{") else part
            for part in operation.segments
        )
        method, body = model.http["method"], b""
        if method != "GET":
            body = json.dumps(document).encode() if raw is None else raw
        if way == "broken JSON":
            body = body[: dice.randrange(len(body) + 1)] + dice.choice((b"", b"}", b"\\", b",,", b'"'))
        elif way == "bytes":
            body = dice.randbytes(dice.choice((1, 30, 3000)))
        elif way == "deep":
            body = dice.choice((b"[", b'{"a":')) * dice.choice((50, 5000, 100_000))
        elif way == "odd path":
            path = dice.choice((*ODD_PATHS, path + "/", path + "/x/y", path[:-1] or "/", path.upper()))
        elif way == "odd method":
            method = dice.choice(ODD_METHODS)
        elif way == "odd query":
            query.append((dice.choice(("maxResults", "nextToken", "sortBy", "x")), dice.choice(ODD_TEXT)))
        elif way == "odd header":
            odd = quote(dice.choice((*ODD_TEXT, '{"a": 1}', "[]", '{"a": "b"}')), safe='{}":, ', errors="replace")
            headers[dice.choice(ODD_HEADERS)] = odd
        if query:
            path = f"{path}?{urlencode(query, errors='replace')}"[:LONGEST_ADDRESS]
        return Sent(operation, way, method, path, headers, body)

    def _good(self, shape, depth):
        """A value that fits ``shape``, as JSON has it; optional members come or not, and seldom when deep."""
        dice = self._dice
        if getattr(shape, "is_document_type", False):
            return dice.choice(({}, {"type": "object"}, {"a": [1, "b", None]}))
        if isinstance(shape, StructureShape):
            if shape.is_tagged_union:
                names = [dice.choice(list(shape.members))]
            else:
                optional = 0.4 / (1 + depth)
                names = [name for name in shape.members if name in shape.required_members or dice.random() < optional]
            return {name: self._good(shape.members[name], depth + 1) for name in names} if depth < 12 else {}
        least = shape.metadata.get("min", 0)
        if isinstance(shape, ListShape):
            return (
                [self._good(shape.member, depth + 1) for _ in range(max(least, dice.choice((0, 1, 1, 2))))]
                if depth < 12
                else []
            )
        if isinstance(shape, MapShape):
            return {self._good(shape.key, depth + 1): self._good(shape.value, depth + 1) for _ in range(max(least, 1))}
        if shape.type_name == "string":
            return dice.choice(shape.metadata.get("enum") or self._fitting(shape))
        if shape.type_name == "blob":
            body = json.dumps(
                dice.choice(
                    ({"prompt": "hi", "max_gen_len": 3}, {"messages": [{"role": "user", "content": [{"text": "hi"}]}]})
                )
            )
            return b64encode(body.encode()).decode()
        if shape.type_name == "boolean":
            return dice.random() < 0.5
        if shape.type_name == "timestamp":
            return dice.choice(("2026-01-02T03:04:05Z", "2126-01-02T03:04:05.678Z"))
        number = dice.choice((least, shape.metadata.get("max", least + 5), least + 1))
        return number if shape.type_name in ("integer", "long") else float(number)

    def _fitting(self, shape):
        """The words that fit, those that name something if there are; where none does, all: a refusal is tried then."""
        known = shape.metadata
        limits = known.get("pattern"), known.get("min", 0), known.get("max", 10**9)
        fit = [word for word in self._words if _fits(*limits, word)]
        return fit[:3] if fit and self._dice.random() < 0.5 else fit or self._words

    def _spoiled(self, values, way):
        """A copy of ``values``, wrong in one place."""
        spoiled = json.loads(json.dumps(values))
        places = list(_places(spoiled))
        if not places:
            return {"unheard-of": 1} if way == "extra" else {}
        holder, key = self._dice.choice(places)
        match way:
            case "missing":
                del holder[key]
            case "extra":
                (holder if isinstance(holder, dict) else spoiled)["unheardOf"] = self._dice.choice(ODD_VALUES)
            case "wrong type":
                holder[key] = self._dice.choice(ODD_VALUES)
            case "huge":
                holder[key] = self._dice.choice(("x" * 300_000, [holder[key]] * 3000, 10**400))
            case "odd text":
                holder[key] = self._dice.choice(ODD_TEXT)
            case "wrong word":
                holder[key] = self._dice.choice(("NO_SUCH_WORD", "Completed", "completed", *WORDS))
            case "over-long":
                holder[key] = self._dice.choice(OVER_LONG)
        return spoiled


@cache
def _fits(pattern, least, most, word):
    if not least <= len(word) <= most:
        return False
    try:
        return pattern is None or regex.fullmatch(pattern, word, timeout=0.5) is not None
    except TimeoutError:
        return False


def _places(value):
    """Every place in a tree of JSON values."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner):
        yield value, key
        yield from _places(one)


def _text(value):
    """As a path or a query has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value[:4000] if isinstance(value, str) else str(value)[:4000]


def _bytes(value):
    """A body, from how JSON would have it; what cannot be one goes as it is written."""
    try:
        return b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return json.dumps(value).encode()
