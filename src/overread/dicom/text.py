"""Text of DICOM values: character sets (PS3.5 section 6.1, PS3.3 C.12.1.1.2) to clean unicode.

Never raises and never warns: a hospital's wrong character set must not cost the study. What cannot be decoded as
declared is taken as UTF-8 if it is that, else as Windows-1252, which is what undeclared bytes most often are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

#: Control characters, line breaks, bidirectional overrides, zero width: none belongs into an index or a page.
#: (The joiners U+200C and U+200D stay: Persian and Indic names need them.)
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff0-\ufffb]+")
_SPACES = re.compile(r"\s{2,}")
_ISO_IR = re.compile(r"ISO[ _-]?IR[ _-]?(\d+)")
_ISO_2022 = re.compile(r"ISO[ _-]?2022[ _-]?(?:IR[ _-]?)?(\d+)")
#: After these a new value, component or line begins in the first character set (PS3.5 6.1.2.5.3).
_DELIMITERS = re.compile(rb"[\\^=\r\n\f]")
#: Codecs of Python that want to see the escape sequence.
_NEED_ESCAPE = frozenset({"iso2022_jp", "iso2022_jp_2"})
_UTF8_NAMES = frozenset({"UTF-8", "UTF8", "ISO-10646", "UNICODE"})


def clean(text: str) -> str:
    """`text` without control characters and surrounding or doubled blanks."""
    return _SPACES.sub(" ", _UNWANTED.sub(" ", text)).strip()


def encodings_of(charsets: Sequence[str]) -> tuple[str, ...]:
    """Python's encodings of the values of SpecificCharacterSet (0008,0005); empty if none is declared and known."""
    known = []
    for position, charset in enumerate(charsets):
        name = charset.strip().upper()
        if not name and position > 0:
            continue
        if match := _ISO_IR.fullmatch(name):
            name = f"ISO_IR {match[1]}"
        elif match := _ISO_2022.fullmatch(name):
            name = f"ISO 2022 IR {match[1]}"
        elif name in _UTF8_NAMES:
            name = "ISO_IR 192"
        elif name == "GB2312":
            name = "GB18030"
        encoding = python_encoding.get(name)
        if encoding is not None and not (name in ("", "ISO_IR 6") and len(charsets) == 1):
            known.append(encoding)
    return tuple(known)


def decode(raw: bytes, encodings: Sequence[str]) -> str:
    """The text of `raw`, not yet cleaned nor split at backslashes.

    `encodings` come from `encodings_of`. Splitting has to wait until after it: in GB18030 and in ISO 2022 Japanese a
    backslash can be half a character.
    """
    if b"\x1b" in raw:
        return _decode_escaped(raw, encodings)
    if raw.isascii():
        return raw.decode("ascii")
    return _decode_one(raw, encodings[0]) if encodings else _guess(raw)


def _decode_escaped(raw: bytes, encodings: Sequence[str]) -> str:
    """ISO 2022 code extensions: each escape sequence designates the character set of what follows."""
    first = encodings[0] if encodings else ""
    head, *fragments = raw.split(b"\x1b")
    text = [_decode_one(head, first)]
    for fragment in fragments:
        length = 3 if fragment[:2] in (b"$(", b"$)") else 2
        encoding = CODES_TO_ENCODINGS.get(b"\x1b" + fragment[:length])
        if encoding is None:
            text.append(_decode_one(fragment, first))
        elif encoding in _NEED_ESCAPE:
            text.append(_decode_one(b"\x1b" + fragment, encoding))
        else:
            payload = fragment[length:]
            stop = _DELIMITERS.search(payload)
            end = stop.start() if stop else len(payload)
            text += [_decode_one(payload[:end], encoding), _decode_one(payload[end:], first)]
    return "".join(text)


def _decode_one(raw: bytes, encoding: str) -> str:
    if not encoding:
        return _guess(raw)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return _guess(raw)


def _guess(raw: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")
