"""What is sent back: XML, the pieces of an object, and faults under S3's names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import IO

from limbeck.api import xml
from limbeck.api.xml import Element, element
from limbeck.storage.objects.base import pieces
from limbeck.wire.exchange import Request, Response

__all__ = ["Fault", "Pieces", "absent", "answer", "iso"]

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Fault(Exception):
    """A fault under a name of S3's own."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Pieces:
    """The next ``size`` bytes of an open file, in pieces; closed when they are read or nobody wants them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._pieces = file, pieces(file, size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def absent(request: Request, what: str) -> Fault:
    """The fault of a request for what S3 does and we do not."""
    return Fault("NotImplemented", 501, f'{request.method} of "{what[:100]}" is not done here')


def iso(moment: datetime) -> str:
    """A time as S3 writes it in XML."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


def answer(name: str, *inside: Element | str | None) -> Response:
    """A document whose root is called ``name``."""
    body = xml.document(element(name, *inside, xmlns=NAMESPACE))
    return Response(200, body, {"content-type": "application/xml"})
