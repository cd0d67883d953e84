"""What the words of foreign tables mean: a missing value, yes and no, passed, failed and stopped. All of it is decided here.

A word that is in none of these lists is asked about and never guessed.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from vastbench.errors import SHOWN, SettingsError, clean
from vastbench.record.formats import counted

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("", "nan", "na", "n/a", "null", "none", "nat", "<na>", "-", "–")
YES, NO = ("true", "yes", "y", "1"), ("false", "no", "n", "0")
PASSED = ("passed", "pass", "ok", "success", "successful", "succeeded", "complete", "completed", "true", "yes", "y")
FAILED = ("failed", "fail", "failure", "error", "errored", "crashed", "false", "no", "n")
CENSORED = ("censored", "timeout", "timed out", "stopped", "cancelled", "canceled", "aborted", "interrupted")

STATUS = ("outcome", "status", "success", "succeeded", "passed", "ok", "conclusion")
"""Columns that say how a row ended."""
PERHAPS_STATUS = ("result", "state", "verdict")
"""Columns that may say it: they count as such where one of the words in them is known."""
YES_OR_NO = ("success", "succeeded", "passed", "ok")
"""Columns of these names answer yes or no, also with 1 and 0, which could mean either in another one."""
EXIT_CODES = ("exit_code", "exitcode", "exit_status", "returncode", "return_code")
"""Columns in which 0 is passed and any other whole number is failed."""
VALID, INVALID = ("valid", "is_valid"), ("invalid", "is_invalid", "excluded")
"""Columns that say whether a row counts at all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a foreign table is to be read where it does not say so itself.

    ``passed``: words that mean passed; ``unit``: of times whose column names none; ``columns``: the columns of times;
    ``group_by``: the columns whose values keep rows apart.
    """

    passed: tuple[str, ...] = ()
    unit: str = ""
    columns: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()


class How(TypedDict, total=False):
    """How tables that vastbench did not write are to be read.

    ``passed``: words of a status that mean passed; ``unit``: of times whose column names none; ``column``: the columns of
    times; ``group_by``: columns whose values keep rows apart. Each may be one word or several.
    """

    passed: str | Sequence[str]
    unit: str
    column: str | Sequence[str]
    group_by: str | Sequence[str]


def how_of(options: Mapping[str, Any]) -> How:
    """Those of some options that say how to read."""
    return cast(How, {name: value for name, value in options.items() if name in How.__annotations__ and value})


def reading(**how: Unpack[How]) -> Reading:
    """The :class:`Reading` of these options."""
    passed, column, group_by = (
        (one,) if isinstance(one, str) else tuple(one)
        for one in (how.get("passed") or (), how.get("column") or (), how.get("group_by") or ())
    )
    return Reading(passed, how.get("unit") or "", column, group_by)


def missing(value: Any) -> bool:
    """Whether a cell holds no value."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in MISSING


def refused(place: Path, reason: str, hint: str) -> SettingsError:
    """The error; what a file's own words in ``reason`` could do to a terminal is taken out."""
    return SettingsError(f"{str(place)!r} {clean(reason)}.", hint=clean(hint))


def command(place: Path, *words: str) -> str:
    """The command that would read ``place`` with these options and values."""
    return f"`{shlex.join(['vastbench', 'check', str(place), *words])}`"


def plain(value: Any) -> str:
    """A cell's word as it is looked up: ``TIMED_OUT`` is ``timed out``, 1.0 is ``1``; empty for a missing value."""
    if missing(value):
        return ""
    word = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return " ".join(word.strip().lower().replace("_", " ").replace("-", " ").split())


def answers(place: Path, name: str, column: pd.Series[Any]) -> pd.Series[Any]:
    """True, False or None of a column of yes and no. Raises SettingsError for any other word, and names it."""
    known: dict[str, bool | None] = dict.fromkeys((*YES, *PASSED), True) | dict.fromkeys((*NO, *FAILED), False) | {"": None}
    words = column.map(plain)
    if strange := sorted(set(words) - set(known)):
        raise refused(place, f"has {strange[0][:40]!r} in the column {name!r}, which answers yes or no", "Write true or false.")
    return words.map(known.get).astype(object)


def is_status(name: str, column: pd.Series[Any]) -> bool:
    """Whether a column of this name (small letters, underscores) says how a row ended."""
    if name in PERHAPS_STATUS:
        return not {plain(value) for value in column.unique()}.isdisjoint((*PASSED, *FAILED, *CENSORED))
    return name in STATUS or name in EXIT_CODES


def outcomes(place: Path, name: str, column: pd.Series[Any], how: Reading) -> pd.Series[Any]:
    """``passed``, ``failed``, ``censored`` or None of each row, from the column of this name.

    ``how.passed`` adds words that mean passed; then every word that nobody knows is failed. Raises SettingsError, naming all
    words with their rows, for one that is not known and was not spoken of.
    """
    named = {plain(word) for word in how.passed}
    base = str(name).strip().lower().replace(" ", "_").replace("-", "_")
    known = {"": None} | dict.fromkeys(PASSED, "passed") | dict.fromkeys(FAILED, "failed") | dict.fromkeys(CENSORED, "censored")
    words = column.map(plain)
    if base in EXIT_CODES:
        known = {"": None} | {
            word: "passed" if word == "0" else "failed" for word in set(words) if word.lstrip(" ").isdecimal()
        }
    elif base in YES_OR_NO:
        known |= {"1": "passed", "0": "failed"}
    known |= dict.fromkeys(named, "passed")
    unknown = [word for word in dict.fromkeys(words) if word not in known]
    if unknown and not named:
        raise _unknown(place, name, column, unknown)
    return words.map(known | dict.fromkeys(unknown, "failed")).astype(object)


def _unknown(place: Path, name: object, column: pd.Series[Any], unknown: Sequence[str]) -> SettingsError:
    there = column[~column.map(missing)].map(lambda value: str(value).strip()[:40]).value_counts()
    shown = [f"{word!r} ({counted(int(rows), 'row')})" for word, rows in there.items()]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    first = next((str(word) for word in there.index if plain(word) in unknown), unknown[0])
    return refused(
        place,
        f"has words in the column {name!r} of which it is not known whether they mean passed: {', '.join(shown[:SHOWN])}{more}",
        f"Name with --passed each word that means passed; the other unknown ones then mean failed. "
        f"For example: {command(place, '--passed', first)}",
    )


def worst(columns: Sequence[pd.Series[Any]]) -> pd.Series[Any]:
    """Of several columns of outcomes the worst one in each row: a row that one of them calls failed has not passed."""
    import pandas as pd

    order = {"failed": 3, "censored": 2, "passed": 1}
    ranks = pd.concat([column.map(order).fillna(0) for column in columns], axis="columns").max(axis="columns")
    return ranks.map({rank: word for word, rank in order.items()}).astype(object).where(ranks > 0, None)


def counts(place: Path, marks: dict[str, pd.Series[Any]]) -> pd.Series[bool]:
    """Which rows count: those that no column of ``marks`` (``valid``, ``excluded`` …) takes out."""
    out = [
        answers(place, name, column).eq(name.strip().lower().replace(" ", "_") not in VALID) for name, column in marks.items()
    ]
    first = out[0]
    for other in out[1:]:
        first = first | other
    return ~first
