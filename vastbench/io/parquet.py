"""The tidy frame as Parquet: the schema's version, and whether its runs were pooled, stand in the file's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vastbench.analysis.attempts import POOLED, pool
from vastbench.analysis.columns import READABLE, SCHEMA
from vastbench.analysis.frames import conformed
from vastbench.errors import SchemaError, SettingsError
from vastbench.io.files import naming

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_KEY = b"vastbench_schema"

POOLED_KEY = b"vastbench_pooled"


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy frame."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    pooled = {POOLED_KEY: b"on purpose"} if frame.attrs.get(POOLED) else {}
    table = table.replace_schema_metadata((table.schema.metadata or {}) | {SCHEMA_KEY: str(SCHEMA).encode()} | pooled)
    pq.write_table(table, path, compression="zstd")


def is_own(path: Path) -> bool:
    """Whether a readable file holds a table of vastbench's, of whatever version; False for an unreadable one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return False
    return SCHEMA_KEY in (schema.metadata or {}) or "run_outcome" in schema.names


def read(path: Path) -> pd.DataFrame:
    """The tidy frame in a file. Raises SchemaError for another version, SettingsError for a file that cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingsError(f"{str(path)!r} is not a readable Parquet file: {reason}.", hint="Export it again.") from None
    version = (table.schema.metadata or {}).get(SCHEMA_KEY, b"").decode(errors="replace")
    if version not in map(str, READABLE):
        raise SchemaError(
            f"{str(path)!r} has schema {version or 'unknown'}; this vastbench reads schemas up to {SCHEMA}.",
            hint="Export it again with this vastbench, or read it with the one that wrote it.",
        )
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    if nested:
        # Into a column of text pandas would take a list as its text.
        raise SchemaError(f"{str(path)!r}: the column {nested[0]!r} holds lists or records.", hint="Export it with vastbench.")
    try:
        # The schema says how columns are to be read; what pandas noted beside them is not needed and may be broken.
        frame = table.replace_schema_metadata(None).to_pandas()
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SchemaError(f"{str(path)!r} is not a table of runs: {reason}.", hint="Export it again with vastbench.") from None
    frame = naming(path, lambda: conformed(frame))
    return pool(frame) if POOLED_KEY in (table.schema.metadata or {}) else frame
