"""Fenced code blocks of our Markdown pages, and how they are run.

Each block says what it is, in its first line:

| fence | what happens |
| --- | --- |
| `python` | runs, in the page's folder |
| `bash run` | runs, in the page's one shell: variables stay from block to block |
| `console run` | lines after `$ ` run in that shell; under each stands what it must print, `...` for anything |
| `json`, `toml` | must parse |
| `text` | is only read |

Blocks name the default ports, 8080 and 11112; the runner puts those of its own installation in their place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = frozenset({"python", "bash run", "console run", "json", "toml", "text"})
RUNNABLE = frozenset({"python", "bash run", "console run"})

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<kind>[^`\n]*)$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block."""

    page: Path
    #: Line of its first fence, from 1.
    line: int
    kind: str
    text: str


def pages() -> list[Path]:
    """Every Markdown page that people read."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name_of(page: Path) -> str:
    """Path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """In the page's order. Raises `ValueError` for a fence that is never closed."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start, opened, inside = 0, None, list[str]()
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                start, opened, inside = number, fence, []
        elif fence and fence["ticks"] == opened["ticks"] and not fence["kind"].strip():
            indent = len(opened["indent"])
            text = "\n".join(part[indent:] for part in inside) + "\n"
            yield Block(page=page, line=start, kind=opened["kind"].strip(), text=text)
            opened = None
        else:
            inside.append(line)
    if opened is not None:
        raise ValueError(f"{name_of(page)}:{start}: this block is never closed")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a console block and what it must print."""

    line: int
    command: str
    expected: str


def commands(block: Block) -> list[Command]:
    """Of a console block. A command goes on in lines that begin with `> `."""
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif line.startswith("> ") and found and not found[-1][2]:
            found[-1][1].append(line[2:])
        elif found:
            found[-1][2].append(line)
        else:
            raise ValueError(f"{name_of(block.page)}:{number}: a console block begins with a command after `$ `")
    return [Command(line=n, command="\n".join(c), expected="\n".join(e)) for n, c, e in found]


def says(expected: str, printed: str) -> bool:
    """Whether `printed` is `expected`, in which `...` stands for anything, and any space for any other."""

    def tidy(text: str) -> str:
        return " ".join(text.split())

    pattern = r".*".join(re.escape(tidy(part)) for part in expected.split("..."))
    return re.fullmatch(pattern, tidy(printed).strip()) is not None


def script(page_blocks: list[Block], ports: dict[str, int], folder: Path) -> tuple[str, list[tuple[Command, Path]]]:
    """The page as one bash script, and where the output of each console command will lie.

    Before each block the script writes its place to `folder`/at, so that a failure can be named.
    """
    lines = ["set -eu"]
    outputs: list[tuple[Command, Path]] = []
    for block in page_blocks:
        if block.kind not in RUNNABLE:
            continue
        lines.append(f"echo {name_of(block.page)}:{block.line} > {folder}/at")
        if block.kind == "bash run":
            lines.append(with_ports(block.text, ports))
        elif block.kind == "python":
            file = folder / f"block_{block.line}.py"
            file.write_text(with_ports(block.text, ports), encoding="utf-8")
            lines.append(f"{sys.executable} {file}")
        else:
            for command in commands(block):
                output = folder / f"output_{command.line}"
                lines += [f"echo {name_of(block.page)}:{command.line} > {folder}/at"]
                lines += ["{", with_ports(command.command, ports), f"}} > {output} 2>&1 || {{ cat {output}; exit 1; }}"]
                outputs.append((command, output))
    return "\n".join(lines) + "\n", outputs


def with_ports(text: str, ports: dict[str, int]) -> str:
    """The ports that a page names replaced by those of the installation."""
    for shown, real in ports.items():
        text = re.sub(rf"(?<![\d.]){shown}(?!\d)", str(real), text)
    return text
