"""Which runs a name means: a file, a data set, a store, a study, runs; or a value of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from vastbench.analysis.attempts import pool
from vastbench.analysis.columns import check_run_column
from vastbench.analysis.frames import in_words, only, phases_table, table_of
from vastbench.errors import NotFound, SettingsError, UsageError, clean, tally
from vastbench.io.tables import SAMPLE, load, wanted
from vastbench.io.words import How, how_of
from vastbench.record.phases import PhaseName
from vastbench.settings import default_store
from vastbench.store import Store

if TYPE_CHECKING:
    import pandas as pd

FILES = frozenset({".parquet", ".csv", ".json", ".xlsx", ".sqlite", ".db"})
"""A name that ends so is that of a file, and of nothing in the store."""


class Which(How, total=False):
    """Which runs of a place: those of one ``study``, those with the values of ``where`` (``"scale=20"``, ``{"scale": 20}`` or
    several such texts), those of the ``store``; with ``pool`` as one sample on purpose, whatever their kinds. And how
    files that vastbench did not write are read."""

    study: str | None
    where: Mapping[str, str | float] | Sequence[str] | str | None
    pool: bool
    store: str | Path | None


class Chosen(NamedTuple):
    """The tidy frame of runs, and in words where they come from."""

    phases: pd.DataFrame
    place: str


def runs_of(data: pd.DataFrame | str | Path | None, which: Which, *, sample: str = SAMPLE) -> Chosen:
    """The runs of a frame, a file, a store or a study, else of the bundled ``sample``. Raises SettingsError for two places."""
    study, store = which.get("study"), which.get("store")
    if data is not None and store:
        raise SettingsError("--from and --store were both given.", hint="Name one place.")
    if data is not None and not isinstance(data, (str, Path)):
        phases, place = only(data, "study", study, "the frame"), "the frame"
    elif study or store:
        place = _named_store(store) if data is None else str(data)
        phases = load(place, study=study, **how_of(which))
        place = f"{f'study {study} in ' if study else ''}{place}"
    else:
        phases, place = load(data or sample, **how_of(which)), str(data or f"the sample {sample}")
    phases = narrowed(phases, which)
    kinds = {clean(" ".join(filter(None, pair))) for pair in zip(phases["source"], phases["profile"].fillna(""), strict=True)}
    return Chosen(phases, f"{place} ({', '.join(sorted(kinds))})")


def narrowed(phases: pd.DataFrame, which: Which) -> pd.DataFrame:
    """The runs of the tidy frame with all values of ``where``, as one sample if ``pool``.

    Raises UsageError for what is not written so, NotFound where no run is left.
    """
    where = which.get("where") or ()
    for one in [where] if isinstance(where, (str, Mapping)) else where:
        for column, value in wanted(one).items():
            phases = only(phases, column, value, "what was named")
    return pool(phases) if which.get("pool") else phases


def named(name: str | Path, store: str | Path | None, **how: Unpack[How]) -> pd.DataFrame:
    """The tidy frame of what ``name`` means: files, data sets, stores, studies and runs of the store, several by commas.

    ``study:NAME`` and ``run:ID`` are a study and a run whatever else has that name. Raises NotFound for none of these.
    """
    import pandas as pd

    # A file may have a comma in its name.
    words = str(name)
    parts = [words] if Path(words).exists() else [part.strip() for part in words.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"{words!r} names no runs.", hint="Give a file, a data set, a study or a run.")
    frames = [_one(part, store, how) for part in parts]
    frame = frames[0]
    for other in frames[1:]:
        frame = pd.concat([frame, other[~other["run"].isin(frame["run"])]], ignore_index=True)
    return frame


def chosen(a: str | float, b: str | float, by: str, data: Any, which: Which) -> tuple[Chosen, Chosen]:
    """The runs of ``data``, else of the store, whose value of the column ``by`` is ``a``, and those whose is ``b``.

    A value may be shortened to a part of it that no other value has. Raises NotFound for a column or value that is not there.
    """
    phases, values = _with_values(by, data, which)
    words = [_value(in_words(text), by, values) for text in (a, b)]
    if words[0] == words[1]:
        raise UsageError(f"A and B are both {by} {words[0]!r}.", hint="Name two values.")
    groups = [phases[phases["run"].isin(values.index[values == word])].reset_index(drop=True) for word in words]
    return Chosen(groups[0], f"{by} {words[0]}"), Chosen(groups[1], f"{by} {words[1]}")


def existing(store: str | Path | None) -> Store:
    """The store of that name, else the default one, only to be read. Raises NotFound where there is none."""
    return Store.existing(store or default_store())


def nothing_stored_yet(store: str | Path | None) -> bool:
    """Whether no store was named, and the one in the data directory is not made yet: an empty list then, and no mistake."""
    default = store or default_store()
    return isinstance(default, Path) and not default.exists()


def _named_store(store: str | Path | None) -> str:
    with existing(store) as opened:
        return str(opened.place)


def _one(name: str, store: str | Path | None, how: How) -> pd.DataFrame:
    kind, _, rest = name.partition(":")
    kind = kind if kind in {"study", "run"} else ""
    if not kind:
        try:
            return load(name, store=store, **how)
        except NotFound:
            if Path(name).suffix in FILES or "://" in name or Path(name).exists() or nothing_stored_yet(store):
                raise
    with existing(store) as opened:
        wanted = rest if kind else name
        if kind == "run":
            return phases_table([opened.run(wanted)])
        try:
            phases = table_of(opened.each_part(study=wanted))
            return phases_table(opened.runs(study=wanted)) if phases.empty else phases  # raises, and says what there is
        except NotFound as no_study:
            if kind == "study":
                raise
            try:
                return phases_table([opened.run(wanted)])
            except NotFound as missing:
                what = f"There is no file, data set or study {wanted!r}. {missing.message}"
                raise NotFound(what, hint=f"{no_study.hint} {missing.hint}") from None


def _with_values(by: str, data: Any, which: Which) -> tuple[pd.DataFrame, pd.Series]:
    """The tidy frame, and the value of the column of each run as text."""
    check_run_column(by)
    store = which.get("store")
    phases = runs_of(_named_store(store) if data is None else data, {**which, "store": None if data is None else store}).phases
    values = phases[phases["phase"] == PhaseName.TOTAL].set_index("run")[by]
    return phases, values.dropna().map(in_words)


def _value(text: str, by: str, values: pd.Series) -> str:
    counts = values.value_counts()
    known = [str(value) for value in counts.index]
    fits = [value for value in known if value == text] or [value for value in known if text.casefold() in value.casefold()]
    if len(fits) == 1:
        return fits[0]
    what = f"There is no {by} {text!r}." if not fits else f"{text!r} may be {len(fits)} values of {by}."
    raise NotFound(what, hint=f"There are: {tally(dict(counts)) or 'none'}.")
