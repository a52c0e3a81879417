"""Bodies of responses that are XML, parsed strictly."""

import re
from collections.abc import Collection
from xml.etree import ElementTree as ET

from lakery_cloud.http.exchange import UnsupportedResponse

_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<(?:\w+:)?(\w+)")


def root_of(body: bytes) -> str:
    """The name of the element that a body consists of; empty if it is no XML in an encoding like ASCII."""
    found = _ROOT.match(body)
    return found[1].decode() if found else ""


def parse(body: bytes, root: str | None = None) -> ET.Element:
    """The element that a body consists of.

    Args:
        body: The body.
        root: Its name, unless fields of it prove enough.

    Raises:
        UnsupportedResponse: It is another element, or no XML, or has a document type, which could define entities.
    """
    if b"<!DOCTYPE" in body:
        raise UnsupportedResponse("a response with a document type")
    found = root_of(body)
    if not found or (root is not None and found != root):
        raise UnsupportedResponse(f"a response without {root or 'XML'}")
    # UTF-8 whatever it declares, as all stores send: another encoding could hide a document type from the search above.
    parser = ET.XMLParser(encoding="utf-8")  # noqa: S314, without a document type it has no entities
    try:
        return ET.fromstring(body.lstrip(), parser)  # noqa: S314, by the same parser
    except ET.ParseError as error:
        raise UnsupportedResponse("a response that is no XML") from error


def space_of(element: ET.Element) -> str:
    """The namespace of an element, as it precedes names of its children in searches; empty if it has none."""
    return element.tag[: element.tag.rfind("}") + 1]


def fields_of(element: ET.Element, read: Collection[str]) -> dict[str, str | None]:
    """The texts of an element's children, without their namespace.

    Args:
        element: The element.
        read: Names of the children that are read, of which there may be one each.

    Raises:
        UnsupportedResponse: One of them is there twice.
    """
    space = space_of(element)
    names = [child.tag.removeprefix(space) for child in element]
    fields = dict(zip(names, [child.text for child in element], strict=True))
    if len(fields) < len(names):
        for name in read:
            if names.count(name) > 1:
                raise UnsupportedResponse(f"a response with a malformed {name}")
    return fields
