"""The framing of AWS's event streams: each event is a message with a length, headers and two checksums.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html. Only string headers are written; no others are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

__all__ = ["CONTENT_TYPE", "event", "exception", "frame"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"

STRING = 7
"""The type of a header's value."""


def event(name: str, payload: bytes) -> bytes:
    """One event, its payload JSON."""
    return frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(name: str, payload: bytes) -> bytes:
    """An error that ends the stream, its payload JSON."""
    return frame({":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}, payload)


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A message: total and header length, their CRC-32, headers, payload, CRC-32 of all before it; big-endian."""
    told = b""
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        told += struct.pack(f">B{len(key)}sBH", len(key), key, STRING, len(text)) + text
    prelude = struct.pack(">II", 16 + len(told) + len(payload), len(told))
    message = prelude + struct.pack(">I", crc32(prelude)) + told + payload
    return message + struct.pack(">I", crc32(message))
