"""A study of several conditions, by the name of its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.bundled import shared
from vastbench.io import designs
from vastbench.io.tables import SAMPLE, load
from vastbench.record.design import Design
from vastbench.scenarios import find_scenario

if TYPE_CHECKING:
    import pandas as pd


def read_design(path: str | Path) -> Design:
    """Read a study of several conditions from a TOML file.

    Parameters
    ----------
    path
        The file. It may say ``name`` (by default the file's), ``repeats`` (how many blocks; 10), ``seed`` (of the order in
        them), ``budget_usd``, ``stop_width``, ``stop_quantile`` and ``stop_of``; in ``[conditions]`` what all conditions ask
        for, as :class:`vastbench.Conditions` names it, and ``scenario``; then either ``[vary]``, a list of values for each
        field that differs, of which every combination is made, or ``[[condition]]`` for each, with its ``name``.

    Returns
    -------
    Design
        For ``Bench(study=…)`` and :func:`vastbench.run_design`.

    Raises
    ------
    NotFound
        There is no such file.
    SettingsError
        It is not valid; the message names the line and the value.

    Examples
    --------
    >>> text = 'repeats = 5\\n[vary]\\ngpu_name = ["RTX 3090", "RTX 4090"]\\nregion = ["US", "SE"]'
    >>> _ = pathlib.Path("gpus.toml").write_text(text)
    >>> vastbench.read_design("gpus.toml").studies
    ('gpus.RTX-3090.US', 'gpus.RTX-3090.SE', 'gpus.RTX-4090.US', 'gpus.RTX-4090.SE')
    """
    return designs.read(path, lambda one: find_scenario(one.scenario).settled(one.conditions))


def sample_of(scenario: str) -> tuple[str, pd.DataFrame]:
    """The bundled data set of that scenario's runs, else of the usual one: its name, and its tidy frame."""
    found = sorted(shared("data/studies").glob(f"{scenario}-*.parquet"))
    name = found[0].stem if found else SAMPLE
    return name, load(name)
