"""Which runs a word on the command line means: a file, a data set, a store, a study, runs; or a value of a column."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.cli.app import nothing_stored_yet, open_store
from vastbench.errors import NotFound, UsageError, tally

if TYPE_CHECKING:
    import pandas as pd

    from vastbench.record.run import Run
    from vastbench.record.study import Study
    from vastbench.store import Store

FILES = frozenset({".parquet", ".csv", ".json", ".sqlite", ".db"})
"""A name that ends so is that of a file, and of nothing in the store."""


def named(name: str, store: str | None) -> pd.DataFrame:
    """The tidy frame of what ``name`` means: files, data sets, stores, studies and runs of the store, several by commas.

    ``study:NAME`` and ``run:ID`` are a study and a run whatever else has that name. Raises NotFound for none of these.
    """
    import pandas as pd

    # A file may have a comma in its name.
    parts = [name] if Path(name).exists() else [part.strip() for part in name.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"{name!r} names no runs.", hint="Give a file, a data set, a study or a run.")
    frames = [_one(part, store) for part in parts]
    frame = frames[0]
    for other in frames[1:]:
        frame = pd.concat([frame, other[~other["run"].isin(frame["run"])]], ignore_index=True)
    return frame


def narrowed(phases: pd.DataFrame, where: Sequence[str] | None, *, pooled: bool) -> pd.DataFrame:
    """The runs of the tidy frame with all values of ``where``, written COLUMN=VALUE; ``pooled``: as one sample, on purpose.

    Raises UsageError for what is not written so, NotFound where no run is left.
    """
    from vastbench.analysis.attempts import pool
    from vastbench.analysis.frames import only
    from vastbench.io.tables import wanted

    for one in where or ():
        for column, value in wanted(one).items():
            phases = only(phases, column, value, "what was named")
    return pool(phases) if pooled else phases


def chosen(
    a: str, b: str, *, by: str, source: str | None, study: str | None, store: str | None
) -> tuple[str, str, str, pd.DataFrame, pd.DataFrame]:
    """The column ``by``, its values that ``a`` and ``b`` mean, and the runs that have them, of ``source`` or of the store.

    A value may be shortened to a part of it that no other value has. Raises NotFound for a column or value that is not there.
    """
    phases, values = _with_values(by, source, study, store)
    words = [_value(text, by, values) for text in (a, b)]
    if words[0] == words[1]:
        raise UsageError(f"A and B are both {by} {words[0]!r}.", hint="Name two values.")
    groups = [phases[phases["run"].isin(values.index[values == word])].reset_index(drop=True) for word in words]
    return by, words[0], words[1], groups[0], groups[1]


def stored(opened: Store, name: str) -> Run | Study:
    """The study of that name or the run (see :meth:`~vastbench.store.Store.run`); a whole id and ``last`` are always a run's.

    Raises NotFound.
    """
    if name == "last" or opened.has_run(name):
        return opened.run(name)
    with suppress(NotFound):
        return opened.study(name)
    try:
        return opened.run(name)
    except NotFound as missing:
        message = missing.message.replace("There is no run ", "There is no run or study ")
        raise NotFound(message, hint=f"{missing.hint} Its studies: vastbench studies") from None


def _one(name: str, store: str | None) -> pd.DataFrame:
    from vastbench.analysis.frames import phases_table, table_of
    from vastbench.io.tables import load

    kind, _, rest = name.partition(":")
    kind = kind if kind in {"study", "run"} else ""
    if not kind:
        try:
            return load(name, store=store)
        except NotFound:
            if Path(name).suffix in FILES or "://" in name or Path(name).exists() or nothing_stored_yet(store):
                raise
    with open_store(store, made=False) as opened:
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


def _with_values(by: str, source: str | None, study: str | None, store: str | None) -> tuple[pd.DataFrame, pd.Series]:
    """The tidy frame, and the value of the column of each run as text."""
    from vastbench.analysis.frames import RUN_COLUMNS, in_words
    from vastbench.io.tables import load
    from vastbench.record.phases import PhaseName

    if by not in RUN_COLUMNS:
        raise NotFound(f"There is no column {by!r}.", hint=f"Choose one of {', '.join(RUN_COLUMNS)}.")
    if source and store:
        raise UsageError("--from and --store were both given.", hint="Name one place.")
    if source is None:
        with open_store(store, made=False) as opened:
            source = str(opened.place)
    phases = load(source, study=study)
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


def runs_from(
    source: str | None, study: str | None, store: str | None, *, sample: str | None = None
) -> tuple[pd.DataFrame, str]:
    """The runs of a file, a store or a study, else of the bundled ``sample``; and in words where they come from."""
    from vastbench.cli.app import open_store
    from vastbench.errors import SettingsError, clean
    from vastbench.io.tables import SAMPLE, load

    if source and store:
        raise SettingsError("--from and --store were both given.", hint="Name one place.")
    if study or store:
        if not source:
            with open_store(store, made=False) as opened:
                source = str(opened.place)
        phases, place = load(source, study=study), f"{f'study {study} in ' if study else ''}{source}"
    else:
        phases, place = load(source or sample), source or f"the sample {sample or SAMPLE}"
    kinds = {clean(" ".join(filter(None, pair))) for pair in zip(phases["source"], phases["profile"].fillna(""), strict=True)}
    return phases, f"{place} ({', '.join(sorted(kinds))})"
