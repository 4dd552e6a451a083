"""The text of a whole card, to be spoilt by tests."""

from __future__ import annotations

CARD = """
name = "toy"
version = "1.2.3"
task = "chest_xray"
modality = "X-ray"
body_part = "CHEST"
views = ["PA", "AP"]
licence = "Apache-2.0"
sha256 = "{sha256}"
trained_on = 2026-11-24
must_not_be_used_for = ["anything but tests"]

[input]
name = "image"
rows = 32
columns = 32
channels = 1
channel_order = "grey"
spacing = "any"
pixel_rule = "display"
percentiles = [1.0, 99.0]
mean = [0.5]
std = [0.5]
fit = "stretch"
[input.extra]
working_rows = 32

[outputs]
logits = "logits"
maps = "maps"

[[training.data]]
name = "none"
terms = "none"
patients = 1
images = 1
[training.split]
by = "patient"
train = 1
test = 1
sha256 = "00"
"""

OUTPUT = """
[[output]]
finding = "{finding}"
code = {{ value = "1", scheme = "SCT" }}
severity = "urgent"
threshold_show = 0.4
threshold_raise = 0.6
threshold_rule = "by hand"
slope = 1.0
intercept = 0.0
sensitivity = [0.8, 0.7, 0.9]
specificity = [0.8, 0.7, 0.9]
auc = [0.8, 0.7, 0.9]
cues_auc = [0.6, 0.5, 0.7]
patients = 10
images = 12
positives = 4
subgroup = [
  {{ by = "age", group = "0-39", images = 6, positives = 2, auc = [0.8, 0.7, 0.9] }},
  {{ by = "sex", group = "F", images = 6, positives = 2 }},
  {{ by = "view", group = "PA", images = 6, positives = 2 }},
]
"""


def card(sha256: str, *, findings: tuple[str, ...] = ("pneumothorax", "pleural_effusion")) -> str:
    return CARD.format(sha256=sha256) + "".join(OUTPUT.format(finding=f) for f in findings)
