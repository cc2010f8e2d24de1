"""The invocation log: what hosted models were asked and answered, as Amazon Bedrock writes it and intake reads it.

    [keyPrefix/]AWSLogs/<account>/BedrockModelInvocationLogs/<region>/YYYY/MM/DD/HH/
        <name>.json.gz               records, a line each
        data/<id>_input.json.gz      large bodies, a file each

Records are handed over at once and written by a thread in batches, so logging never slows an answer. A clean stop
writes what is left; a crash loses at most what came in the last `FLUSH_SECONDS`, and never more than `MOST_WAITING`.
"""

from __future__ import annotations

import gzip
import json
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from limbeck.arns import Arns
from limbeck.records import Invocation
from limbeck.settings import Settings
from limbeck.storage.objects import Objects

__all__ = ["Logbook", "log_root"]

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""How long a record may wait before it is in the bucket."""

BATCH_RECORDS = 500

MOST_WAITING = 10_000
"""Records that may wait; more come only if the bucket does not take them, and then the newest are dropped and told."""

LARGE_BYTES = 100_000
"""A larger body lies in an object of its own."""

Config = Mapping[str, Any]
"""A logging configuration, as it was put."""


def log_root(prefix: str | None, account: str) -> str:
    """The key under which an account's log begins."""
    before = f"{prefix.strip('/')}/" if prefix else ""
    return f"{before}AWSLogs/{account}/BedrockModelInvocationLogs"


class Logbook:
    """The log of one service; ``configured`` gives what was put as the logging configuration, or None."""

    def __init__(self, settings: Settings, objects: Objects, configured: Callable[[], Config | None]) -> None:
        self._settings, self._objects, self._configured = settings, objects, configured
        self._waiting: queue.Queue[tuple[Invocation, Config] | None] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="invocation log", daemon=True)
        self._thread.start()

    def record(self, invocation: Invocation) -> None:
        """Hand one over, if it is to be logged as things are now; never waits for the bucket."""
        config = self._configured()
        if config is None:
            return
        try:
            self._waiting.put_nowait((invocation, config))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is left, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        over = False
        while not over:
            batch: list[tuple[Invocation, Config]] = []
            until: float | None = None
            while len(batch) < BATCH_RECORDS:
                try:
                    found = self._waiting.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if found is None:
                    over = True
                    break
                batch.append(found)
                until = until or time.monotonic() + FLUSH_SECONDS
            if batch:
                self._write(batch)

    def _write(self, batch: Sequence[tuple[Invocation, Config]]) -> None:
        if self._dropped:
            log.error("the invocation log could not be written in time; %d records are lost", self._dropped)
            self._dropped = 0
        try:
            by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for one, config in batch:
                place = config["s3Config"]
                folder = self._folder(place, one.timestamp)
                by_place.setdefault((place["bucketName"], folder), []).append(self._record(one, config, folder))
            for (bucket, folder), records in by_place.items():
                lines = b"".join(_json(record) + b"\n" for record in records)
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}_{secrets.token_hex(8)}.json.gz"
                self._put(bucket, f"{folder}/{name}", lines)
        except Exception:
            log.exception("%d records of the invocation log could not be written", len(batch))

    def _folder(self, place: Mapping[str, str], moment: datetime) -> str:
        root = log_root(place.get("keyPrefix"), self._settings.account)
        return f"{root}/{self._settings.region}/{moment.astimezone(UTC):%Y/%m/%d/%H}"

    def _record(self, one: Invocation, config: Config, folder: str) -> dict[str, Any]:
        settings = self._settings
        bucket = config["s3Config"]["bucketName"]
        told = config.get("textDataDeliveryEnabled", True)
        record: dict[str, Any] = {
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
            "timestamp": f"{one.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "accountId": settings.account,
            "region": settings.region,
            "requestId": one.request_id,
            "operation": one.operation,
            "modelId": one.model_id,
            "identity": {"arn": Arns(settings.region, settings.account).caller(one.caller)},
        }
        if one.metadata:
            record["requestMetadata"] = dict(one.metadata)
        if one.error is not None:
            record["errorCode"] = one.error
        bodies = (("input", one.input_body, one.input_tokens), ("output", one.output_body, one.output_tokens))
        for name, body, tokens in bodies:
            part: dict[str, Any] = {f"{name}ContentType": "application/json", f"{name}TokenCount": tokens}
            text = _json(body) if told and body is not None else b""
            if len(text) > LARGE_BYTES:
                key = f"{folder}/data/{one.request_id}_{name}.json.gz"
                self._put(bucket, key, text)
                part[f"{name}BodyS3Path"] = f"s3://{bucket}/{key}"
            elif text:
                part[f"{name}BodyJson"] = body
            record[name] = part
        return record

    def _put(self, bucket: str, key: str, text: bytes) -> None:
        self._objects.put(bucket, key, gzip.compress(text, compresslevel=6))


def _json(value: Any) -> bytes:
    """``value`` as JSON; half a surrogate, which no encoding has, as its escape."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
