"""The tidy frame as an Excel workbook: the sheet ``runs``, and the sheet ``columns`` that says what each column holds.

Every cell of words is text, also one that begins like a formula; numbers are written to their last digit, whole ones that Excel
would round as text; dates are text in UTC, since Excel's own have neither a zone nor microseconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vastbench.analysis.columns import columns
from vastbench.errors import SettingsError, UsageError

if TYPE_CHECKING:
    import pandas as pd

SHEET = "runs"

MOST_ROWS, MOST_CHARACTERS = 1_048_575, 32_767
"""What a sheet holds below its headings, and what a cell does."""

EXACT = 10**15
"""Excel keeps 15 digits of a number."""

WIDEST = 40

_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_WRITTEN = re.compile("_x([0-9A-Fa-f]{4})_")


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy frame. Raises UsageError for what Excel cannot hold, SettingsError where openpyxl is not installed."""
    openpyxl = _openpyxl()
    if len(frame) > MOST_ROWS:
        raise UsageError(f"The {len(frame)} rows do not fit into a sheet of {MOST_ROWS}.", hint="Export to Parquet or CSV.")
    # All is looked at before anything is written: openpyxl cannot drop a sheet half-way.
    tables = {
        title: {name: _plain(table[name]) for name in table.columns}
        for title, table in ((SHEET, frame), ("columns", columns()))
    }
    book = openpyxl.Workbook(write_only=True)
    for title, cells in tables.items():
        sheet = book.create_sheet(title)
        sheet.freeze_panes = "A2"
        for place, (name, values) in enumerate(cells.items(), 1):
            sheet.column_dimensions[openpyxl.utils.get_column_letter(place)].width = _width(name, values)
        sheet.append([_cell(sheet, name, bold=True) for name in cells])
        for row in zip(*cells.values(), strict=True):
            sheet.append([_cell(sheet, value) for value in row])
    book.save(path)


def read(path: Path) -> pd.DataFrame:
    """The table in the sheet ``runs``, else in the first one, every cell as text. Raises SettingsError where is none."""
    import pandas as pd

    openpyxl = _openpyxl()
    try:
        # The suffix is openpyxl's own check of what the file is; ours is its content.
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            rows = (book[SHEET] if SHEET in book.sheetnames else book.worksheets[0]).iter_rows(values_only=True)
            head, *body = [[_text(value) for value in row] for row in rows] or [[]]
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be read: {error.strerror}.", hint="Check the file's rights.") from None
    except Exception as error:  # noqa: BLE001 (openpyxl lets through whatever a broken archive raises)
        raise SettingsError(
            f"{str(path)!r} holds no table of runs: it is a packed file, and no readable Excel workbook: {error}.",
            hint="Export it again with vastbench, or unpack it first.",
        ) from None
    # A row ends with its last cell that is not empty.
    whole = [row + [None] * (len(head) - len(row)) for row in body]
    return pd.DataFrame(whole, columns=head, dtype=object)


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError:
        raise SettingsError("Excel files need openpyxl.", hint="Install it: pip install 'vastbench[excel]'") from None
    return openpyxl


def _plain(values: pd.Series) -> list[Any]:
    """The values as what cells hold: None for a missing one, and text for what Excel has no exact number for."""
    there = values.notna()
    dates = getattr(values.dtype, "tz", None) is not None
    return [
        _value(one.isoformat() if dates else one) if known else None for one, known in zip(values.tolist(), there, strict=True)
    ]


def _value(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < EXACT):
        return value
    text = _UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", value if isinstance(value, str) else repr(value))
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"A cell of {len(text)} characters, {text[:40]!r} …, does not fit into Excel.", hint="Export to Parquet or CSV."
        )
    return text


def _cell(sheet: Any, value: Any, *, bold: bool = False) -> Any:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font

    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        cell = WriteOnlyCell(sheet, repr(value))
        cell.data_type = "n"  # openpyxl's own writing of a number keeps 16 of its 17 digits
        return cell
    cell = WriteOnlyCell(sheet, value)
    # Or a text that begins with = is a formula, and becomes one when somebody edits the cell.
    cell.data_type, cell.quotePrefix = "s", True
    if bold:
        cell.font = Font(bold=True)
    return cell


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value and _WRITTEN.sub(lambda found: chr(int(found[1], 16)), value)
    return repr(value) if isinstance(value, float) else str(value)


def _width(name: str, values: list[Any]) -> int:
    return min(WIDEST, max(len(str(one)) for one in (name, *values[:100])) + 2)
