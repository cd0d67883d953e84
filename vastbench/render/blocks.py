"""Answers as blocks, of which a terminal gets text and a notebook HTML: one place decides what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vastbench.errors import clean, in_python
from vastbench.record.shown import show
from vastbench.render.html import shown

_STYLE = "padding:2px 10px;font-variant-numeric:tabular-nums"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headings; the last ``numbers`` columns stand to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 0

    def text(self) -> str:
        """Plain aligned columns, foreign words made harmless."""
        lines = [[clean(cell) for cell in line] for line in (self.head, *self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        first = len(self.head) - self.numbers
        cells = [
            [
                cell.rjust(width) if i >= first else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
        return "\n".join("  ".join(line).rstrip() for line in cells)

    def html(self) -> str:
        """A table whose cells are escaped."""
        first = len(self.head) - self.numbers

        def row(tag: str, cells: Sequence[str]) -> str:
            sides = ("right" if i >= first else "left" for i in range(len(cells)))
            pairs = zip(cells, sides, strict=True)
            return (
                "<tr>" + "".join(f"<{tag} style='text-align:{side};{_STYLE}'>{shown(c)}</{tag}>" for c, side in pairs) + "</tr>"
            )

        body = "".join(row("td", line) for line in self.rows)
        return f"<table><thead>{row('th', self.head)}</thead><tbody>{body}</tbody></table>"


Block = str | Table
"""A table, or lines of text: one that begins with blanks belongs to the one above it."""


def as_text(blocks: Sequence[Block]) -> str:
    """The blocks, an empty line between them."""
    return "\n\n".join(block.text() if isinstance(block, Table) else _clean_lines(block) for block in blocks)


def as_html(blocks: Sequence[Block]) -> str:
    """The blocks as an HTML fragment; every string is escaped."""
    return "".join(block.html() if isinstance(block, Table) else f"<p>{_divs(block)}</p>" for block in blocks)


def show_blocks(kind: type, blocks: Callable[[Any], Sequence[Block]]) -> None:
    """Let answers of ``kind`` show themselves by the blocks that this function makes of one."""
    show(kind, lambda answer: as_text(blocks(answer)), lambda answer: as_html(blocks(answer)))


def _clean_lines(text: str) -> str:
    return "\n".join(map(clean, text.split("\n")))


def _divs(text: str) -> str:
    lines = [(len(line) - len(line.lstrip()), in_python(line.strip())) for line in text.split("\n")]
    return "<br>".join("&nbsp;" * indent + shown(line) for indent, line in lines)
