"""Foreign strings as Markdown that reads the same in a notebook, a report and a terminal."""

from __future__ import annotations

import re

from vastbench.errors import clean

NO_FORMULA = {ord(sign): f"<span>&#{ord(sign)};</span>" for sign in "$\\"}
"""For ``str.translate``, in HTML and in Markdown: JupyterLab and nbconvert take what stands between two dollars, ``\\(`` and
``\\)`` or ``\\[`` and ``\\]`` for a formula, also where the signs came from ``&#36;`` or an escape. Signs in elements of
their own do not pair.
"""
_MARKDOWN = {ord(sign): f"\\{sign}" for sign in "`*_[]<>|~&#"} | NO_FORMULA


def escaped(text: object) -> str:
    """A foreign string (a GPU's name, a region, a cause) that Markdown shows as it is, in a sentence or in a table."""
    return clean(text).translate(_MARKDOWN)


def without_spans(markdown: str) -> str:
    """Our own Markdown for a page where nothing looks for formulas: escapes in place of elements."""
    return re.sub(r"<span>&#(\d+);</span>", lambda sign: f"\\{chr(int(sign[1]))}", markdown)


def plain(markdown: str) -> str:
    """The text of our own Markdown sentences for a terminal: without emphasis and escapes."""
    bare = re.sub(r"(?<!\\)(\*\*|`)", "", without_spans(markdown))
    return re.sub(r"\\([\\`*_\[\]<>|$~&#])", r"\1", bare)
