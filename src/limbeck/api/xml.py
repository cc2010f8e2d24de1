"""XML for the protocols that speak it: elements from names and texts, documents from elements, and documents read."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from limbeck.errors import InvalidInput

__all__ = ["Element", "document", "element", "read"]

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, *inside: Element | str | None, **attributes: str) -> Element:
    """An element with elements or a text inside; None stands for nothing, U+FFFD for what XML cannot say."""
    made = Element(name, attributes)
    for one in inside:
        if isinstance(one, str):
            made.text = _UNFIT.sub("\ufffd", one)
        elif one is not None:
            made.append(one)
    return made


def document(root: Element) -> bytes:
    """The whole of ``root``, encoded."""
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def read(body: bytes) -> Element:
    """The root of a document, its names without their namespace. Raises `InvalidInput` for what is none."""
    try:
        root: Element = fromstring(body)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise InvalidInput(f"the request's body is not XML: {error}") from None
    for one in root.iter():
        one.tag = one.tag.rpartition("}")[2]
    return root
