"""How records show themselves in a terminal and in a cell: ``render`` says how, and stands above them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SHOWN_BY: dict[type, tuple[Callable[[Any], str], Callable[[Any], str]]] = {}


def show(kind: type, text: Callable[[Any], str], html: Callable[[Any], str]) -> None:
    """Let records of ``kind`` show themselves by these two functions, as text and as an HTML fragment."""
    _SHOWN_BY[kind] = text, html


class Shown:
    """A record that shows itself once ``render`` is imported, which whatever hands it to a user does; else by its fields."""

    __slots__ = ()

    def __str__(self) -> str:
        """The record as text."""
        return _SHOWN_BY[type(self)][0](self) if type(self) in _SHOWN_BY else repr(self)

    def _repr_html_(self) -> str | None:
        return _SHOWN_BY[type(self)][1](self) if type(self) in _SHOWN_BY else None
