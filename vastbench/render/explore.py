"""One picture of many: a reader chooses where the notebook is open, and everywhere else the first choice stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from vastbench.errors import VastbenchError

LIVE = "JPY_SESSION_NAME"
"""What a Jupyter server tells the kernels of notebooks that somebody has open; papermill, nbval and nbconvert have none."""


def explore(draw: Callable[..., Any], **choices: Sequence[Any]) -> None:
    """Show what ``draw`` makes of one choice of each; in JupyterLab the reader changes them.

    Where nobody can choose, in a scheduled run, under nbval or on a code host, the first choice of each is shown.

    Parameters
    ----------
    draw
        Takes the choices by name, and returns what is to be shown: a matplotlib Figure or Axes, a frame, a text. What it
        raises for a choice that does not fit is shown in its place.
    **choices
        The choices of each argument of ``draw``, the first one first.

    Examples
    --------
    >>> def draw(phase):
    ...     return vastbench.summary().set_index("phase")["median_s"][phase].round(1)
    >>> vastbench.explore(draw, phase=["total", "wait SSH"])
    105.4
    """
    from IPython.display import display

    chosen = {name: values[0] for name, values in choices.items()}
    if os.environ.get(LIVE) is None:
        display(_drawn(draw, chosen))  # type: ignore[no-untyped-call]
        return
    import ipywidgets

    def change(name: str, value: Any) -> None:
        chosen[name] = value
        handle.update(_drawn(draw, chosen))

    boxes = []
    for name, values in choices.items():
        labels = ["–" if one is None else str(one) for one in values]
        box = ipywidgets.Dropdown(description=name, options=labels)
        box.observe(lambda news, name=name, values=values: change(name, values[news["new"]]), names="index")
        boxes.append(box)
    display(ipywidgets.HBox(boxes))  # type: ignore[no-untyped-call]
    handle: Any = display(_drawn(draw, chosen), display_id=True)  # type: ignore[no-untyped-call]


def _drawn(draw: Callable[..., Any], chosen: dict[str, Any]) -> Any:
    """What is shown of these choices; a figure is closed, or it would be shown once more at the cell's end."""
    from matplotlib import pyplot as plt

    try:
        shown = draw(**chosen)
    except (VastbenchError, ValueError) as error:  # charts name what they cannot draw as pandas and matplotlib do
        return str(error)
    figure = getattr(shown, "figure", None)
    if figure is None:
        return shown
    plt.close(figure)
    return figure
