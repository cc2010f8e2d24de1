"""Batch inference: every line of the input is answered, or told why not; a line of output for each, in their order.

    <output>/<job id>/<name>.jsonl.out      {"recordId", "modelInput", "modelOutput"} or {…, "error"}
    <output>/<job id>/manifest.json.out     the counts

Lines answered are on disk as they come, so a job that was broken off asks only for the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput, LimbeckError
from limbeck.records import digest
from limbeck.storage.database import Resource
from limbeck.storage.ledger import now
from limbeck.storage.objects import Found, parse_uri
from limbeck.wire.bodies import understand
from limbeck.wire.operations import Service, read
from limbeck.worker.answering import Answering, answering
from limbeck.worker.labor import Bench

__all__ = ["answer_batch"]

EXPIRES_HOURS = 24
"""Where the request does not say."""


def answer_batch(row: Resource, bench: Bench) -> tuple[str, Mapping[str, Any], None]:
    """Answer the job's files; gives the status and the counts."""
    ledger, arn = bench.ledger, row.arn
    ledger.change(arn, "Validating", ("Submitted",))
    uri = row.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
    files = [found for found in bench.objects.find(uri) if found.key.endswith((".jsonl", ".json"))]
    if not files:
        raise InvalidInput(f"{uri}: no .jsonl object is there")
    ledger.change(arn, "InProgress", ("Submitted", "Validating", "Scheduled"))
    batch = Batch(row, bench)
    with asyncio.Runner() as runner:
        runner.run(batch.run(files))
    counts = batch.publish(files)
    if batch.expired:
        return "Expired", {**counts, "failureMessage": "the job's time ran out; what was answered is published"}, None
    failed_whole = counts["totalRecordCount"] and counts["errorRecordCount"] == counts["totalRecordCount"]
    return "Failed" if failed_whole else "Completed", counts, None


class Batch:
    """One job's records, on their way."""

    def __init__(self, row: Resource, bench: Bench) -> None:
        self._row, self._bench = row, bench
        self._service = Service("bedrock-runtime")
        self._folder = bench.settings.jobs / f"batch-{row.arn.rsplit('/', 1)[-1]}"
        hours = row.request.get("timeoutDurationInHours", EXPIRES_HOURS)
        self._until = row.created + timedelta(hours=hours)
        self.expired = False

    async def run(self, files: Sequence[Found]) -> None:
        """Answer what is not answered yet. Raises `Stopped` when asked to stop."""
        async with answering(self._bench.settings) as models:
            for found in files:
                path = self._out(found)
                path.parent.mkdir(parents=True, exist_ok=True)
                done = _whole_lines(path)
                lines = self._lines(found)
                for _ in range(done):
                    next(lines, None)
                with path.open("a", encoding="utf-8") as out:
                    while some := [line for _, line in zip(range(2 * self._bench.settings.slots), lines, strict=False)]:
                        self._bench.stop.check()
                        if now() > self._until:
                            self.expired = True
                            return
                        answered = await asyncio.gather(*(self._answer(line, models) for line in some))
                        out.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in answered)
                        out.flush()
                        self._count(files)

    def publish(self, files: Sequence[Found]) -> dict[str, int]:
        """Put the output where it was wanted; gives the counts."""
        place = self._row.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        target = f"{place}/{self._row.arn.rsplit('/', 1)[-1]}"
        for found in files:
            if self._out(found).exists():
                self._bench.objects.publish(self._out(found), f"{target}/{found.key.rsplit('/', 1)[-1]}.out")
        counts = self._count(files)
        tokens = {f"{name}TokenCount": self._tokens(files, name) for name in ("input", "output")}
        told = {**counts, **tokens}
        self._bench.objects.put(*parse_uri(f"{target}/manifest.json.out"), json.dumps(told).encode())
        return counts

    async def _answer(self, line: bytes, models: Answering) -> dict[str, Any]:
        record: Any = {}
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("modelInput"), dict):
                raise InvalidInput('expected {"recordId": …, "modelInput": {…}}')
            told = {"recordId": record.get("recordId") or digest(record)[:12], "modelInput": record["modelInput"]}
            body = record["modelInput"]
            converse = self._service.operations["bedrock-runtime", "Converse"]
            if self._row.request.get("modelInvocationType") == "Converse":
                read(converse, {"modelId": self._row.request["modelId"]}, body=json.dumps(body).encode())
                body = {"schemaVersion": "messages-v1", **body}
            asked = understand(body, self._row.request["modelId"], self._row.facts["imported"], converse)
            found = await models.ask(self._row.facts["hosts"], asked.question)
            return {**told, "modelOutput": asked.whole(found)}
        except (LimbeckError, ValueError, RecursionError) as error:
            status = error.status if isinstance(error, LimbeckError) else 400
            shown = record if isinstance(record, dict) else {}
            told = {key: shown[key] for key in ("recordId", "modelInput") if key in shown}
            return {**told, "error": {"errorCode": status, "errorMessage": str(error)}}

    def _lines(self, found: Found) -> Iterator[bytes]:
        rest = b""
        for chunk in self._bench.objects.read(found.bucket, found.key):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line.strip())
        if rest.strip():
            yield rest

    def _out(self, found: Found) -> Path:
        return self._folder / f"{digest(found.uri)[:12]}.jsonl.out"

    def _count(self, files: Sequence[Found]) -> dict[str, int]:
        """Count what is on disk, and write it into the row."""
        total = failed = 0
        for found in files:
            if self._out(found).exists():
                with self._out(found).open(encoding="utf-8") as file:
                    for line in file:
                        total += 1
                        failed += '"error": {"errorCode"' in line
        counts = {
            "totalRecordCount": sum(1 for found in files for _ in self._lines(found)),
            "processedRecordCount": total,
            "successRecordCount": total - failed,
            "errorRecordCount": failed,
        }
        self._bench.ledger.change(self._row.arn, facts=counts)
        return counts

    def _tokens(self, files: Sequence[Found], name: str) -> int:
        total = 0
        for found in files:
            if self._out(found).exists():
                with self._out(found).open(encoding="utf-8") as file:
                    for line in file:
                        usage = json.loads(line).get("modelOutput", {}).get("usage", {})
                        total += usage.get(f"{name}Tokens", 0)
        return total


def _whole_lines(path: Path) -> int:
    """How many lines of a file are whole; half a line, left by a crash, is cut off."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        file.truncate(end)
    return data[:end].count(b"\n")
