"""What the exported file says of each image, through the product's own preprocessing and ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from overread.domain.evidence import InputSpec
from overread.pipeline.preprocess import Frame, prepare
from training.chest_xray import data


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Raw logits of every image of `table`, and the maps of some."""

    table: pd.DataFrame
    #: (images, F).
    logits: NDArray[np.float32]
    #: (folder, image) -> maps (F, h, w) and the frame they show.
    maps: dict[tuple[str, str], tuple[NDArray[np.float32], Frame]]


class Session:
    """Bare ONNX Runtime."""

    def __init__(self, model: Path, threads: int = 2) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def run(self, tensor: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (F,) and maps (F, h, w)."""
        logits, maps = self._session.run(["logits", "maps"], {"image": tensor})
        return logits[0], maps[0]


def score(model: Path, spec: InputSpec, table: pd.DataFrame, *, keep_maps: set[str]) -> Scored:
    """Run `model` on each image of `table`; keep the maps of the images named in `keep_maps`."""
    session, logits, kept = Session(model), [], {}
    for folder, image in zip(table["folder"], table["image"], strict=True):
        prepared = prepare(data.read_grey(folder, image), spec)
        said, maps = session.run(prepared.tensor)
        logits.append(said)
        if folder == "chest_xray" and image in keep_maps:
            kept[folder, image] = (maps, prepared.frame)
    return Scored(table=table.reset_index(drop=True), logits=np.stack(logits), maps=kept)
