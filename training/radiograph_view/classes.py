"""The four answers, and what counts as which.

* `chest_frontal`: an upright PA or AP chest radiograph, bright = dense. Mirrored ones count too: a mirrored film cannot
  be told from dextrocardia, so laterality is not this model's question.
* `chest_lateral`: an upright lateral chest radiograph, facing either side.
* `other_radiograph`: every other radiograph, and chest radiographs that must not be analysed as they are: turned by 90
  or 180 degrees, grey scale inverted, oblique, a detail (less than half of the chest), or several films in one image.
* `not_radiograph`: sections (CT, MR, in any plane), ultrasound, photographs, pages of text, screens, noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("chest_frontal", "chest_lateral", "other_radiograph", "not_radiograph")
FRONTAL, LATERAL, OTHER, NOT = range(4)

Grey8 = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image with what it shows. `pixels` is uint8 (rows, columns), bright = dense, at most 320 pixels a side."""

    pixels: Grey8
    label: int
    #: Folder or generator that it comes from: what false-accept rates are told by.
    source: str
    #: What must not be divided between the parts: the patient where known, else the image.
    group: str
    #: "train", "val" (thresholds) or "test" (reported).
    part: str
    #: PA or AP for frontal chest radiographs, else empty.
    view: str = ""
    #: Years, and M or F, where known.
    age: int | None = None
    sex: str = ""
