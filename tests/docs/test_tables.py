"""What our pages say of code and figures is what code and figures say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from overread.api import ROUTERS
from overread.config import Settings
from overread.domain import errors
from overread.http.wire import AnalysisResult, Finding
from tests.docs.blocks import ROOT, name_of, pages

REFERENCE = ROOT / "docs" / "reference"


def _make_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = _make_tables()


@pytest.mark.parametrize(("page", "name", "make"), TABLES.TABLES, ids=[name for _, name, _ in TABLES.TABLES])
def test_tables_are_up_to_date(page: str, name: str, make: object) -> None:
    assert TABLES.renewed(page, name, make) == (ROOT / page).read_text(), "run: python docs/make_tables.py"


def test_every_setting_is_described() -> None:
    assert set(TABLES.SETTINGS) == set(Settings.model_fields)


def test_every_route_is_described() -> None:
    text = (REFERENCE / "api.md").read_text()
    routes = [(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods]
    assert [route for route in routes if "{} {}".format(*route) not in text] == []


def test_every_field_of_a_result_is_described() -> None:
    text = (REFERENCE / "api.md").read_text() + (REFERENCE / "analyze.md").read_text()
    fields = [f.alias or name for model in (AnalysisResult, Finding) for name, f in model.model_fields.items()]
    assert [field for field in fields if field not in text] == []


def test_every_error_code_is_described() -> None:
    def codes(kind: type[errors.OverreadError]) -> set[str]:
        return {kind.code}.union(
            *(codes(child) for child in kind.__subclasses__() if child.__module__ == kind.__module__)
        )

    text = (REFERENCE / "errors.md").read_text()
    assert [code for code in sorted(codes(errors.OverreadError)) if f"`{code}`" not in text] == []


def test_every_table_of_the_database_is_described() -> None:
    text = (REFERENCE / "database.md").read_text()
    migrations = (ROOT / "src" / "overread" / "store" / "migrations").glob("*/*.py")
    names = [name for file in migrations for name in re.findall(r"CREATE TABLE (\S+)", file.read_text())]
    assert len(names) > 10
    assert [name for name in names if f"`{name.removeprefix('overread.')}`" not in text] == []


def test_decisions_are_numbered_once_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(folder.glob("[0-9]*.md"))
    numbers = [file.name[:4] for file in files]
    assert len(set(numbers)) == len(numbers)
    index = (folder / "README.md").read_text()
    assert [file.name for file in files if file.name not in index] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    broken = [link for link in links if not (page.parent / unquote(link.partition("#")[0])).exists()]
    assert broken == []


def test_every_package_has_its_layer() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    found = {path.stem for path in (ROOT / "src" / "overread").iterdir() if not path.name.startswith((".", "__"))}
    assert [name for name in sorted(found - {"py"}) if f"`{name}`" not in text] == []
