"""Whether the name that a driver reports can be the GPU that the marketplace offered."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FAMILIES = {"ADA": "ADA", "PRO": "PRO", "QUADRO": "QUADRO", "Q": "QUADRO", "TITAN": "TITAN", "RX": "RX", "LAPTOP": "LAPTOP"}
_FAMILIES |= {"MOBILE": "LAPTOP", "TI": "TI", "SUPER": "SUPER", "D": "D"}
_FORMS = {"PCIE": "PCIE", "SXM": "SXM", "NVL": "NVL", "HBM3": "SXM", "S": "SERVER", "SERVER": "SERVER", "MAX-Q": "MAX-Q"}
_FORMS |= {"WS": "WORKSTATION", "WORKSTATION": "WORKSTATION"}
_TITANS = frozenset({"GTX", "RTX", "V", "X", "XP", "CEO"})


@dataclass(frozen=True)
class _Card:
    """``model``: its number; ``family``: what must be the same on both sides; ``form``: what may be left unsaid on one."""

    model: str
    family: frozenset[str]
    form: str | None


def same_gpu(offered: str, reported: str) -> bool | None:
    """Whether a driver's name means the card of the offer; None where the two names cannot tell.

    The same are a card's model number, Ti, SUPER (the marketplace's S), D, Ada, PRO, Quadro, Titan and laptop; the form (PCIe,
    SXM, NVL, server, workstation, Max-Q) differs only where both names say one.

    >>> same_gpu("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER")
    True
    >>> same_gpu("H100 SXM", "NVIDIA H100 PCIe")
    False
    """
    ours, theirs = _card(offered), _card(reported)
    if not ours.model or not theirs.model:
        return None
    if ours.model != theirs.model or ours.family != theirs.family:
        return False
    return ours.form == theirs.form or None in (ours.form, theirs.form)


def _card(name: str) -> _Card:
    text = name.upper().replace("_", " ").replace("MAX Q", "MAX-Q")
    text = re.sub(r"\b(GTX|RTX|GEFORCE)( \d{3,4}) ?S\b", r"\1\2 SUPER", text)
    text = re.sub(r"(\d{3,4}) ?(TI|SUPER|ADA|D)\b", r"\1 \2", text)
    words = [re.sub(r"^SXM\d$", "SXM", word) for word in re.findall(r"MAX-Q|[A-Z0-9]+", text)]
    family = frozenset(_FAMILIES[word] for word in words if word in _FAMILIES)
    forms = [_FORMS[word] for word in words if word in _FORMS]
    form = "MAX-Q" if "MAX-Q" in forms else next(iter(forms), None)
    if "TITAN" in family:
        return _Card(" ".join(word for word in words if word in _TITANS), family, form)
    model = next((word for word in words if any(c.isdigit() for c in word) and not re.fullmatch(r"\d+GB|HBM\d", word)), "")
    return _Card(model, family, form)
