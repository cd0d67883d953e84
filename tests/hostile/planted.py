"""Faults that were mended, brought back: each function changes the process that calls it, as the code once was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vastbench.errors import ApiError
from vastbench.rental import lease
from vastbench.vast import call

if TYPE_CHECKING:
    from collections.abc import Callable


def never_searched() -> None:
    """A refusal in the marketplace's own words closes the lease: nobody looks whether the label is listed all the same."""
    _never_search_after(lease.certainly_not_created)


def any_refusal_believed() -> None:
    """Whatever is refused with a word in ``error`` is taken for the marketplace's own no."""

    def refused(error: BaseException) -> bool:
        return isinstance(error, ApiError) and error.new_contract is None and 400 <= (error.status or 0) < 500

    _never_search_after(refused)


def _never_search_after(no: Callable[[BaseException], bool]) -> None:
    undo = lease._undo

    def believed(account: Any, identity: Any, error: BaseException, made: int | None, before: float) -> None:
        if made is None and no(error):
            lease._never_created(account.journal, identity.label, error)
        else:
            undo(account, identity, error, made, before)

    lease._undo = believed


def label_believed() -> None:
    """What the list shows with our label is ours, whatever else speaks against it."""

    def check(one: Any) -> None:
        listed = [row for page in one.account.watch.poll(one.created.upper) for row in page.value]
        labelled = next((row.id for row in listed if row.label == one.label), None)
        if labelled is not None:
            one._be(labelled)

    lease.Lease._check_whose = check  # type: ignore[method-assign]


def no_deadline() -> None:
    """Each read may take its time limit, however many there are."""
    call.EXCHANGE_S = 1e6  # type: ignore[attr-defined]


def unseen_is_gone() -> None:
    """Not seen yet is gone."""
    lease.Lease._would_be_shown = lambda _: True  # type: ignore[method-assign]


def page_not_asked() -> None:
    """While the list cannot be read, the id that a create was answered with is destroyed unseen."""
    lease.Lease._check_page = lambda _one, _error: None  # type: ignore[method-assign]


PLANTED = {
    "the label is not searched after a clear no": never_searched,
    "any refusal proves that nothing was made": any_refusal_believed,
    "the label alone says what is ours": label_believed,
    "no deadline over an exchange": no_deadline,
    "not seen yet is gone": unseen_is_gone,
    "the page is not asked while the list is away": page_not_asked,
}
