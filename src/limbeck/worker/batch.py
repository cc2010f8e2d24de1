"""Batch inference: every line of the input is answered, or told why not; a line of output for each, in their order.

    <output>/<job id>/<name>.jsonl.out      {"recordId", "modelInput", "modelOutput"} or {…, "error"}
    <output>/<job id>/manifest.json.out     the counts

Lines answered are on disk as they come, so a job that was broken off asks only for the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput, LimbeckError, Stopped, StorageFailed
from limbeck.records import digest
from limbeck.storage.ledger import now
from limbeck.storage.objects import Found, parse_uri
from limbeck.storage.reading import Row
from limbeck.wire.bodies import JSON, Asked, understand
from limbeck.wire.bodies.converse import Converse
from limbeck.wire.operations import Service, json_object, read
from limbeck.worker.answering import Answering, answering
from limbeck.worker.labor import Bench

__all__ = ["answer_batch"]

EXPIRES_HOURS = 24
"""Where the request does not say."""

STOP_SECONDS = 0.2
"""Between two looks whether the job should stop, while answers are under way."""

TOKENS = (
    ("inputTokens", "outputTokens"),
    ("prompt_token_count", "generation_token_count"),
    ("prompt_tokens", "completion_tokens"),
)
"""Tokens read and written, as an answer of each form names them: Converse and Nova, Llama, OpenAI."""


def answer_batch(row: Row, bench: Bench) -> tuple[str, Mapping[str, Any], None]:
    """Answer the job's files; gives the status and the counts. Raises `InvalidInput` where none is answered."""
    ledger, arn = bench.ledger, row.arn
    ledger.change(arn, "Validating", ("Submitted",))
    files = bench.objects.rows_within(row.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
    ledger.change(arn, "InProgress", ("Submitted", "Validating", "Scheduled"))
    batch = Batch(row, bench, files)
    try:
        with asyncio.Runner() as runner:
            runner.run(batch.run())
    except Stopped:
        if bench.is_unwanted(row):  # or its worker ends, and another goes on
            batch.publish()
        raise
    batch.publish()
    counts = batch.counts()
    if batch.expired:
        return "Expired", {**counts, "failureMessage": "the job's time ran out; what was answered is published"}, None
    if counts["totalRecordCount"] and counts["errorRecordCount"] == counts["totalRecordCount"]:
        ledger.change(arn, facts=counts)
        raise InvalidInput(f"no record was answered; the first: {batch.tally.first_fault}")
    return "Completed", counts, None


class Batch:
    """One job's records, on their way."""

    def __init__(self, row: Row, bench: Bench, files: Sequence[Found]) -> None:
        self._row, self._bench, self._files = row, bench, files
        self._uri = row.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        self._converse = Service("bedrock-runtime").operations["bedrock-runtime", "Converse"]
        self._folder = bench.settings.jobs / f"batch-{row.arn.rsplit('/', 1)[-1]}"
        hours = row.request.get("timeoutDurationInHours", EXPIRES_HOURS)
        self._until = row.created + timedelta(hours=hours)
        self._total = sum(1 for found in files for _ in self._lines(found))
        self.tally = Tally()
        self.expired = False

    async def run(self) -> None:
        """Answer what is not answered yet. Raises `Stopped` when asked to stop."""
        async with answering(self._bench.settings) as models:
            for source in self._files:
                path = self._out(source)
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = self._lines(source)
                for told in _whole_lines(path):
                    self.tally.add(json.loads(told))
                    next(lines, None)
                with path.open("a", encoding="utf-8") as out:
                    while some := list(islice(lines, 2 * self._bench.settings.slots)):
                        self._bench.stop.check()
                        if now() > self._until:
                            self.expired = True
                            return
                        found = await self._answer_all(some, models)
                        for one in found:
                            out.write(json.dumps(one, ensure_ascii=False) + "\n")
                            self.tally.add(one)
                        out.flush()
                        self._bench.ledger.change(self._row.arn, facts=self.counts())
                        if len(found) < len(some):
                            self._bench.stop.check()

    def counts(self) -> dict[str, int]:
        """By the names of the API."""
        return {
            "totalRecordCount": self._total,
            "processedRecordCount": self.tally.answered + self.tally.failed,
            "successRecordCount": self.tally.answered,
            "errorRecordCount": self.tally.failed,
        }

    def publish(self) -> None:
        """Put the output where it was wanted. Raises `StorageFailed`, with where it lies, if that cannot be done."""
        try:
            self._publish()
        except LimbeckError as error:
            raise StorageFailed(f"{error}; what was answered lies in {self._folder}") from None

    def _publish(self) -> None:
        place = self._row.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        target = f"{place}/{self._row.arn.rsplit('/', 1)[-1]}"
        for found in self._files:
            if self._out(found).exists():
                self._bench.objects.publish(self._out(found), f"{target}/{found.below(self._uri)}.out")
        tokens = {"inputTokenCount": self.tally.tokens_in, "outputTokenCount": self.tally.tokens_out}
        self._bench.objects.put(*parse_uri(f"{target}/manifest.json.out"), json.dumps(self.counts() | tokens).encode())

    async def _answer_all(self, lines: Sequence[bytes], models: Answering) -> list[dict[str, Any]]:
        """What becomes of some lines, in their order; of a job that should stop, up to the first not answered yet.

        Long answers take minutes, and who does not stop within seconds is killed with all that is not published.
        """
        asked = [asyncio.create_task(self._answer(line, models)) for line in lines]
        while (waiting := [one for one in asked if not one.done()]) and not self._bench.stop.is_set():
            await asyncio.wait(waiting, timeout=STOP_SECONDS)
        for one in asked:
            one.cancel()  # those that are done stay as they are
        await asyncio.wait(asked)
        return [one.result() for one in takewhile(lambda one: not one.cancelled(), asked)]

    async def _answer(self, line: bytes, models: Answering) -> dict[str, Any]:
        record: dict[str, Any] = {}
        try:
            record = json_object(line, "the record")
            if not isinstance(record.get("modelInput"), dict):
                raise InvalidInput('expected {"recordId": …, "modelInput": {…}}')
            told = {"recordId": record.get("recordId") or digest(record)[:12], "modelInput": record["modelInput"]}
            asked = self._understand(record["modelInput"])
            found = await models.ask(self._row.facts["hosts"], asked.question)
            return {**told, "modelOutput": asked.whole(found)}
        except (LimbeckError, ValueError, RecursionError) as error:
            status = error.status if isinstance(error, LimbeckError) else 400
            told = {key: record[key] for key in ("recordId", "modelInput") if key in record}
            return {**told, "error": {"errorCode": status, "errorMessage": str(error)}}

    def _understand(self, body: JSON) -> Asked:
        """A record's input: a request to Converse where the job says so, else a native body."""
        request = self._row.request
        if request.get("modelInvocationType") == "Converse":
            asked = read(self._converse, {"modelId": request["modelId"]}, body=json.dumps(body).encode())
            return Converse(asked)
        return understand(body, request["modelId"], self._row.facts["imported"], self._converse)

    def _lines(self, found: Found) -> Iterator[bytes]:
        rest = b""
        for chunk in self._bench.objects.read(found.bucket, found.key):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line.strip())
        if rest.strip():
            yield rest

    def _out(self, found: Found) -> Path:
        return self._folder / f"{digest(found.uri)[:12]}.jsonl.out"


@dataclass
class Tally:
    """What has come of the records so far."""

    answered: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_fault: str = ""
    """What was wrong with the first record that was not answered."""

    def add(self, told: Mapping[str, Any]) -> None:
        """Count a line of output."""
        if "error" in told:
            self.failed += 1
            self.first_fault = self.first_fault or told["error"]["errorMessage"]
            return
        self.answered += 1
        counts = {**told["modelOutput"], **told["modelOutput"].get("usage", {})}
        for tokens_in, tokens_out in TOKENS:
            self.tokens_in += counts.get(tokens_in, 0)
            self.tokens_out += counts.get(tokens_out, 0)


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that are whole; half a line, left by a crash, is cut off."""
    if not path.exists():
        return []
    with path.open("r+b") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        file.truncate(end)
    return data[:end].splitlines()
