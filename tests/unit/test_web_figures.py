"""Numbers as the study page writes them."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from overread.domain.analysis import Measurement
from overread.web import figures


def measured(kind: str, value: float, unit: str, finding: UUID | None = None, site: str = "") -> Measurement:
    return Measurement(
        id=uuid4(),
        measurement_type=kind,
        value=value,
        unit=unit,
        method=f"how {unit} is measured",
        finding_id=finding,
        metadata={"site": site} if site else {},
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (6.14, "mm", "6.1 mm"),
        (131.4, "mm", "131 mm"),
        (0.118, "mL", "0.12 mL"),
        (17.04, "mL", "17.0 mL"),
        (2345.6, "mL", "2346 mL"),
        (3.44, "%", "3.4 %"),
        (-823.4, "[hnsf'U]", "−823 HU"),
        (0.52, "1", "0.52"),
    ],
)
def test_digits_and_units(value: float, unit: str, text: str) -> None:
    assert figures.quantity(value, unit) == text


def test_sizes_of_a_finding() -> None:
    one, other = uuid4(), uuid4()
    all_of = [
        measured("nodule_longest_diameter", 6.14, "mm", one, "lung_right"),
        measured("nodule_perpendicular_diameter", 5.2, "mm", one, "lung_right"),
        measured("nodule_volume", 0.118, "mL", one, "lung_right"),
        measured("effusion_volume", 312.0, "mL", other, "pleura_left"),
        measured("effusion_thickness_mm", 21.0, "mm", other),
        measured("lung_volume_right", 2000.0, "mL"),
    ]
    assert figures.size_of(all_of, one) == "6.1 × 5.2 mm · 0.12 mL"
    assert figures.size_of(all_of, other) == "312 mL · effusion thickness 21.0 mm"
    assert figures.size_of(all_of, uuid4()) == ""
    assert [figures.side_of(all_of, f) for f in (one, other, uuid4())] == ["right", "left", ""]
    assert figures.size_of([measured("longest_diameter", 6.0, "mm", one)], one) == "longest diameter 6.0 mm"


def test_sides_of_a_quantity_stand_in_one_row() -> None:
    table = figures.table_of(
        [
            measured("lung_volume_right", 2100, "mL"),
            measured("lung_volume_left", 1900, "mL"),
            measured("lung_volume_total", 4000, "mL"),
            measured("laa_950_total", 3.44, "%"),
            measured("haa_total", 8.1, "%"),
            measured("nodule_volume", 1.0, "mL", uuid4()),
        ]
    )
    assert [row.name for row in table.rows] == ["Lung volume", "LAA-950", "High attenuation, −600 to −250 HU"]
    first = table.rows[0]
    assert [m.value if m else None for m in (first.right, first.left, first.total)] == [2100, 1900, 4000]
    assert table.rows[1].right is None and table.rows[1].total is not None
    assert table.has_sides
    assert table.methods == (
        ("Lung volume", "how mL is measured"),
        ("LAA-950, High attenuation, −600 to −250 HU", "how % is measured"),
    )


def test_nothing_vanishes_when_a_quantity_comes_twice() -> None:
    table = figures.table_of([measured("cardiothoracic_ratio", 0.52, "1"), measured("cardiothoracic_ratio", 0.61, "1")])
    assert [(row.name, row.total.value if row.total else None) for row in table.rows] == [
        ("Cardiothoracic ratio", 0.52),
        ("Cardiothoracic ratio", 0.61),
    ]
    assert not table.has_sides
