"""A request's body on its way in: counted, hashed, written to a file, never whole in memory.

S3's clients may send it in chunks of their own (``content-encoding: aws-chunked``), with a signature on each and with
checksums behind the last:

    10000;chunk-signature=…    the size, in hexadecimal
    …                          so many bytes
    0;chunk-signature=…
    x-amz-checksum-crc32:…
    x-amz-trailer-signature:…
                               an empty line
"""

from __future__ import annotations

import hashlib
import re
from typing import IO

from limbeck.api.auth import Seal
from limbeck.errors import InvalidInput

__all__ = ["Body", "ChunkedBody"]

LINE_BYTES = 1000
"""The longest line between two chunks."""

TRAILERS = 10
"""The most lines behind the last chunk."""

CHECKSUM = "x-amz-checksum-"
"""The only headers that are taken from behind a body: it is too late for any other."""

_SIZE = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER = re.compile(rb"([a-z0-9-]{1,60}):[ \t]*([\x21-\x7e]{0,400})[ \t]*")


class Body:
    """A body as it is, written to ``file``; over ``most`` bytes it is refused."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self._most = file, most
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._sha256.hexdigest()

    def check_size(self, size: int) -> None:
        """Raise `InvalidInput` if ``size`` is more than is taken."""
        if size > self._most:
            raise InvalidInput(f"the request's body is over {self._most:,} bytes; send less")

    def feed(self, piece: bytes) -> None:
        """Take the next bytes that came."""
        self.size += len(piece)
        self.check_size(self.size)
        self._sha256.update(piece)
        self.file.write(piece)

    def end(self) -> dict[str, str]:
        """There is no more; gives the headers that came behind the body."""
        self.file.seek(0)
        return {}


class ChunkedBody(Body):
    """A body in chunks of ``length`` bytes together, written to ``file`` without what frames them.

    ``seal`` checks their signatures, where they have any.
    """

    def __init__(self, file: IO[bytes], most: int, length: int, seal: Seal | None) -> None:
        super().__init__(file, most)
        self._length, self._seal = length, seal
        self._pending = bytearray()
        self._left = 0
        """Bytes the chunk we are in still has."""
        self._chunk = hashlib.sha256()
        self._said = ""
        self._state = "size"
        self._trailers: dict[str, str] = {}

    def feed(self, piece: bytes) -> None:
        """See `Body.feed`."""
        self._pending += piece
        while self._take_data() if self._state == "data" else self._take_line():
            pass

    def end(self) -> dict[str, str]:
        """See `Body.end`. Raises `InvalidInput` if the last chunk did not come."""
        if self._state != "done" or self.size != self._length:
            raise InvalidInput(f"{self.size} of {self._length} bytes came, or no last chunk; send it again")
        return {**super().end(), **{name: text for name, text in self._trailers.items() if name.startswith(CHECKSUM)}}

    def _take_data(self) -> bool:
        taken = bytes(self._pending[: self._left])
        del self._pending[: self._left]
        super().feed(taken)
        self._chunk.update(taken)
        self._left -= len(taken)
        if not self._left:
            self._close_chunk()
            self._state = "end of data"
        return not self._left

    def _take_line(self) -> bool:
        if self._state == "done":
            if self._pending:
                raise InvalidInput("the body's chunks are not as aws-chunked has them: more after the last")
            return False
        line, cut, rest = self._pending.partition(b"\r\n")
        if len(line) > LINE_BYTES:
            raise InvalidInput("the body's chunks are not as aws-chunked has them: a line without end")
        if not cut:
            return False
        self._pending = rest
        if self._state == "end of data":
            if line:
                raise InvalidInput("the body's chunks are not as aws-chunked has them: a chunk longer than it says")
            self._state = "size"
        elif self._state == "size":
            self._open_chunk(bytes(line))
        elif line:
            self._add_trailer(bytes(line))
        else:
            self._check_trailers()
            self._state = "done"
        return True

    def _open_chunk(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise InvalidInput(f"the body's chunks are not as aws-chunked has them: size {line[:40]!r}")
        self._left, self._said = int(found[1], 16), (found[2] or b"").decode()
        self._chunk = hashlib.sha256()
        self._state = "data" if self._left else "trailers"
        if not self._left:
            self._close_chunk()

    def _close_chunk(self) -> None:
        if self._seal:
            self._seal.check_chunk(self._chunk.hexdigest(), self._said)

    def _add_trailer(self, line: bytes) -> None:
        found = _TRAILER.fullmatch(line)
        if found is None or len(self._trailers) == TRAILERS:
            raise InvalidInput(
                f"behind the body's last chunk stands {line[:40]!r}; expected NAME:VALUE, at most {TRAILERS}"
            )
        self._trailers[found[1].decode()] = found[2].decode()

    def _check_trailers(self) -> None:
        said = self._trailers.pop("x-amz-trailer-signature", None)
        if self._seal and (self._trailers or said is not None):
            text = "".join(f"{name}:{value}\n" for name, value in self._trailers.items())
            self._seal.check_trailer(hashlib.sha256(text.encode()).hexdigest(), said or "")
