"""XML of stores whose declared encoding hides what a reader of bytes looks for."""

import codecs
import encodings
import pkgutil

import pytest

from lakery_cloud.http.exchange import UnsupportedResponse
from lakery_cloud.http.xml import parse

CODECS = [module.name for module in pkgutil.iter_modules(encodings.__path__)]
DOCUMENT_TYPE = "<!DOCTYPE r [<!ENTITY e 'text of an entity'>]>"


def disguises(codec: str) -> list[bytes]:
    """The document type in an encoding, and with each other byte that the encoding has for one of its characters."""
    found = []
    try:
        found.append(DOCUMENT_TYPE.encode(codec))
        table = codecs.decode(bytes(range(256)), codec, "replace")
    except (LookupError, TypeError, UnicodeError):  # no encoding of text, or one of other machines
        return found
    if len(table) == 256:
        for character in "<!DOCTYPE":
            others = [byte for byte in range(256) if table[byte] == character != chr(byte)]
            found += [DOCUMENT_TYPE.encode("ascii").replace(character.encode(), bytes([byte]), 1) for byte in others]
    return found


@pytest.mark.filterwarnings("ignore:.*invalid escape sequence:DeprecationWarning")  # of the codec `unicode_escape`
@pytest.mark.parametrize("codec", CODECS)
def test_no_encoding_hides_a_document_type(codec: str) -> None:
    for disguise in disguises(codec):
        for before in (b"", b"<!-- > <r -->"):  # a comment that looks like the root to a reader of bytes
            body = f'<?xml version="1.0" encoding="{codec}"?>'.encode() + before + disguise + b"<r>&e;</r>"
            with pytest.raises(UnsupportedResponse):
                parse(body, "r")


def test_an_encoding_with_other_bytes_for_markup_is_among_them() -> None:
    assert len(disguises("mac_arabic")) > 1
    assert b"<!DOCTYPE" not in disguises("utf_16")[0]
