"""The program that reads words in pictures, in a process of its own: `python -m overread.dicom.deidentify.ocr_child`.

RapidOCR (PP-OCRv4 models on ONNX Runtime, both Apache-2.0) comes with the extra `overread[ocr]`. It gets nothing but
pixels, under a memory limit; requests and replies go over stdin and stdout: see `dicom.pipes`.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.pipes import become_child, read_message, write_message

#: Of address space, threads and models included.
MEMORY_LIMIT = 8 << 30
#: One picture; larger ones come in tiles from this side.
MAX_PICTURE_BYTES = 256 << 20
#: Pixels of a tile's side: the reader shrinks what is larger than 2000, and small letters with it.
_TILE, _OVERLAP = 1600, 200
#: Words of a picture that are told; a page has a few hundred.
_MAX_WORDS = 1500
#: Letters are found from this score on; the reader's own limit is 0.5.
_BOX_SCORE = 0.3


def tiles(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of overlapping tiles that cover a picture, none longer than 1600 pixels."""
    for top in _starts(height):
        for left in _starts(width):
            yield top, min(top + _TILE, height), left, min(left + _TILE, width)


def _starts(side: int) -> range:
    return range(0, max(side - _OVERLAP, 1), _TILE - _OVERLAP)


def words(engine: Any, picture: NDArray[np.uint8]) -> list[list[Any]]:
    """[top, bottom, left, right, text, confidence] of all that looks like text; `picture` is (rows, columns, 3)."""
    found: list[list[Any]] = []
    for top, bottom, left, right in tiles(*picture.shape[:2]):
        tile = np.ascontiguousarray(picture[top:bottom, left:right])
        result, _ = engine(tile, use_cls=False, text_score=0.0, box_thresh=_BOX_SCORE)
        for corners, text, confidence in result or ():
            xs, ys = [corner[0] for corner in corners], [corner[1] for corner in corners]
            box = [top + int(min(ys)), top + int(max(ys)) + 1, left + int(min(xs)), left + int(max(xs)) + 1]
            found.append([*box, str(text)[:200], float(confidence)])
    return found


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Read until the other side is gone."""
    engine = importlib.import_module("rapidocr_onnxruntime").RapidOCR(intra_op_num_threads=2)
    while True:
        try:
            head, body = read_message(requests, MAX_PICTURE_BYTES)
        except EOFError:
            return
        picture = np.frombuffer(body, np.uint8).reshape(head["shape"])
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        # More than are told is a picture full of text: the caller refuses it.
        found = words(engine, picture[..., ::-1])
        write_message(replies, {"many": len(found) > _MAX_WORDS}, _encoded(found[:_MAX_WORDS]))


def _encoded(found: list[list[Any]]) -> bytes:
    return json.dumps(found).encode()


def main() -> None:
    """Serve until the other side is gone."""
    replies = become_child(MEMORY_LIMIT)
    logging.disable(logging.CRITICAL)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
