"""How records show themselves in a terminal and in a cell: ``render`` says how, and stands above them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SHOWN_BY: dict[type, tuple[Callable[[Any], str], Callable[[Any], str]]] = {}
_BEFORE: list[Callable[[], object]] = []


def show(kind: type, text: Callable[[Any], str], html: Callable[[Any], str]) -> None:
    """Let records of ``kind`` show themselves by these two functions, as text and as an HTML fragment."""
    _SHOWN_BY[kind] = text, html


def before_showing(importer: Callable[[], object]) -> None:
    """Call ``importer``, which registers the functions, before the first record is shown."""
    _BEFORE.append(importer)


class Shown:
    """A record that shows itself."""

    __slots__ = ()

    def __str__(self) -> str:
        """The record as text."""
        return self._by()[0](self)

    def _repr_html_(self) -> str:
        return self._by()[1](self)

    def _by(self) -> tuple[Callable[[Any], str], Callable[[Any], str]]:
        if type(self) not in _SHOWN_BY:
            for importer in _BEFORE:
                importer()
        return _SHOWN_BY[type(self)]


class Answer(Shown):
    """A record that is shown whole wherever it is looked at: it comes alone, never in lists."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The record as text."""
        return str(self)
