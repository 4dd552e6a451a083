"""What our pages tell people to type does what the pages say."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.docs import blocks as b
from tests.docs.conftest import Installation

PAGES = b.pages()
RUN = [page for page in PAGES if any(block.kind in b.RUNNABLE for block in b.blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=b.name_of)
def test_each_block_says_what_it_is(page: Path) -> None:
    for block in b.blocks(page):
        assert block.kind in b.KINDS, f"{b.name_of(page)}:{block.line}: ```{block.kind} is none of {sorted(b.KINDS)}"
        if block.kind == "json":
            json.loads(block.text)
        elif block.kind == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", RUN, ids=b.name_of)
def test_what_the_page_says_works(page: Path, installation: Installation, tmp_path: Path) -> None:
    """All blocks of a page in one shell, in a folder where `chest.dcm`, `radiographs/` and `.state` lie."""
    here, beside = tmp_path / "here", tmp_path / "beside"
    here.mkdir()
    beside.mkdir()
    shutil.copy(installation.chest, here / "chest.dcm")
    (here / "radiographs").mkdir()
    shutil.copy(installation.chest, here / "radiographs")
    (here / ".state").symlink_to(installation.settings.state_dir)
    (here / "models").symlink_to(b.ROOT / "models")
    text, outputs = b.script(list(b.blocks(page)), installation.ports, beside)
    result = subprocess.run(
        ["bash", "-c", text],
        cwd=here,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{(beside / 'at').read_text()}{result.stdout}{result.stderr}"
    for command, output in outputs:
        printed = output.read_text()
        expected = b.with_ports(command.expected, installation.ports)
        assert b.says(expected, printed), f"{b.name_of(page)}:{command.line} printed:\n{printed}"


def test_expected_output() -> None:
    assert b.says("a ... c\n", "a b\nb c")
    assert b.says("well  none\n...", "well none")
    assert b.says("(1.0)", "(1.0)  \n")
    assert not b.says("a ... c", "a b c d")
    assert not b.says("(1.0)", "(1x0)")
