"""Reading and writing in transactions that are tried again while the database refuses for a reason that passes."""

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from vastbench.errors import StoreError
from vastbench.store import tables
from vastbench.store.database import READING, SameFiles, connect, transaction
from vastbench.store.refusals import place_of, store_error, tries

T = TypeVar("T")

_OPEN: weakref.WeakSet[sa.Engine] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked process makes connections of its own: those that it shares with its parent must neither be used nor closed."""
    for engine in list(_OPEN):
        engine.dispose(close=False)


def _mark(connection: sa.Connection) -> str:
    return str(connection.execute(sa.select(tables.marks.c.mark)).scalar_one())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class Transactions:
    """A database that is open; every method raises StoreError when it refuses for good, or is another one meanwhile.

    May be shared by threads.
    """

    def __init__(self, place: str | Path, *, made: bool = True) -> None:
        """Open the database, making it when it does not exist; with ``made`` False, raise NotFound instead."""
        self._engine = connect(place, made=made)
        self._reader = self._engine.execution_options(**{READING: True})
        self.place = place_of(self._engine.url)
        self._files = SameFiles(self._engine.url)
        self.mark = self._read(_mark)
        """What tells the labels of this store from those of any other: eight hexadecimal digits, drawn when it was made."""
        _OPEN.add(self._engine)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Use the store in a with-block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` finds, all of it as of one moment."""
        return self._try(self._reader, work)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` gives in a committed, synced transaction of its own.

        A try whose answer was lost may have been committed all the same: it must do no harm to do ``work`` twice.
        """
        return self._try(self._engine, work)

    def _add(self, add: Callable[[sa.Connection], object], there: sa.Select[Any]) -> None:
        """:meth:`_write` for rows that must be new: those that a try of ours added, ``there``, are not added again."""
        tried = False

        def once(connection: sa.Connection) -> None:
            nonlocal tried
            if tried and connection.execute(there).first():
                return
            tried = True
            add(connection)

        self._write(once)

    def _try(self, engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
        with self._refusing():
            for attempt in tries():
                with attempt:
                    self._files.check()
                    with transaction(engine) as connection:
                        if engine is self._engine and _mark(connection) != self.mark:
                            raise StoreError(
                                f"The store {self.place} is not the one that was opened: its tables were replaced meanwhile.",
                                hint="Nothing may delete, move or overwrite a store that is in use.",
                            )
                        done = work(connection)
                        self._files.check(connection)
                    self._files.check()
                    return done
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise store_error(error, self._engine.url) from None
