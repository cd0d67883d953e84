"""What can go wrong, by name.

::

    VastbenchError
    ├── UsageError                 the command or call cannot be carried out as asked        exit 2
    │   ├── SettingsError          a setting, file or profile is missing or malformed
    │   │   └── SchemaError        a table or file of another version, or of no version at all
    │   ├── NotFound               no run, study, notebook or profile of that name
    │   └── BudgetRefused          the estimate does not fit the budget, or no consent
    │       └── TooManyInstances   as many as allowed exist already
    ├── StoreError                 the store cannot be opened, read or written               exit 3
    ├── ApiError                   the marketplace said no, or nothing                       exit 4
    │   ├── ApiUnreachable         no connection, timeout, dropped connection
    │   ├── ApiUnreadable          an answer that is not a JSON object of the expected form
    │   ├── ApiRedirected          a 3xx answer (never followed)
    │   ├── KeyRejected            the API key is missing, wrong or not allowed
    │   ├── AccountRefused         it refuses the whole account: credit, spending, quota  exit 17
    │   ├── RateLimited            429 after the allowed retries
    │   ├── OfferGone              the offer was rented by somebody else
    │   └── Refused                any other refusal, ``success: false`` included
    ├── NoOffer                    nothing on the market matches the request                 exit 5
    ├── InstanceError              the instance did not become or stay useful                exit 6
    │   ├── BootFailed             a status that does not recover, or an OCI error
    │   ├── Vanished               the instance left the list without us
    │   ├── PriceRose              the instance costs more than was allowed
    │   ├── SshError               the machine refused, dropped or garbled SSH
    │   │   ├── HostKeyChanged     a pinned host key changed
    │   │   ├── ConnectionLost     the connection died under a command (exit status -1)
    │   │   └── CommandFailed      a command ended with a non-zero status
    │   └── CheckFailed            the wrong GPU, or content that does not match
    ├── SnapshotError              a snapshot cannot be taken, kept or restored              exit 18
    │   └── SnapshotRefused        what is kept is not the whole snapshot that it should be
    ├── DeadlineExceeded           a wait reached its deadline: a censored observation       exit 7
    ├── NotebookFailed             a cell raised; the executed notebook is kept              exit 9
    ├── StudyFailed                every run was made, and none passed                       exit 10
    ├── StudyIncomplete            fewer runs than were asked for; started again it goes on  exit 11
    ├── ArtefactsFound             timings show how they were measured (``vastbench check``) exit 15
    ├── WebhookFailed              a receiver did not take a test notification               exit 16
    ├── ChargesDiffer              an account was charged what the meters do not explain     exit 19
    └── LeaseNotClosed             an instance may still exist and bill                      exit 8

    Interrupted                    SIGINT or SIGTERM                                         exit 130
                                   (beside the tree: no ``except Exception`` on the way may swallow it)

Three exit codes are verdicts, not errors, of ``vastbench compare A B``: 12 when B is better, 13 when it is worse, and 14
when there are not enough runs to tell; 0 is equivalent.

Every message says what happened and with which value; ``hint`` says what to do next. No message ever holds the API key or a
private key: API errors are built from the reply, never from the request's headers. What a marketplace or an instance said is
quoted without the characters that drive a terminal.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = 12
"""How many of the things that there are an error names."""


def clean(text: object) -> str:
    """A foreign string (a label, a GPU's name, a place) without characters that drive a terminal or turn text around."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The beginning of a hint, ``Did you mean cached? ``, for a ``name`` that is close to a ``known`` one; else nothing."""
    spelled = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"Did you mean {spelled[close[0]]}? " if close else ""


ARGUMENTS = {
    "--from": "data",
    "--by": "by",
    "--passed": "passed",
    "--unit": "unit",
    "--column": "column",
    "--group-by": "group_by",
    "--boots": "boots",
    "--study": "study",
    "--budget": "budget_usd",
    "--store": "store",
    "--api-key-file": "api_key_file",
    "--max-instances": "max_instances",
    "--repeats": "repeats",
    "--name": "study",
    "--profile": "profile",
    "--seed": "seed",
    "--speed": "speed",
}
"""What the options that errors speak of are called in Python: arguments of Bench; Conditions adds its fields."""

_OPTION = re.compile(r"(?P<command>`[^`]*`|\bvastbench [a-z][^.;]*)|(?P<option>--[a-z][a-z-]*)(?P<value> (?=\d|\w+/))?")


def in_python(text: str) -> str:
    """A text with options by their names in Python; those of a whole command stay.

    >>> in_python("Raise --budget, or name another with --store. See: vastbench offers --disk 20")
    'Raise budget_usd=, or name another with store=. See: vastbench offers --disk 20'
    """

    def named(found: re.Match[str]) -> str:
        name = ARGUMENTS.get(found["option"] or "")
        if name is None:
            return found[0]
        return name if text.startswith(" is ", found.end()) else f"{name}="

    return _OPTION.sub(named, text)


def _one_line(text: str) -> str:
    return clean(" ".join(text.splitlines()))


class VastbenchError(Exception):
    """The root of every error that vastbench raises on purpose.

    ``exit_code`` is the exit status of the command line; ``hint`` is the next step for the reader; ``cause`` is the short
    name under which a failed run files it. What there is below it: ``vastbench.errors``.

    Examples
    --------
    >>> try:
    ...     vastbench.load("nowhere.parquet")
    ... except vastbench.VastbenchError as error:
    ...     print(type(error).__name__, error.exit_code, error.message)
    NotFound 2 There is no 'nowhere.parquet': no file, study or data set has that name.
    """

    exit_code = 1
    cause = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Take what happened, with its value, and what to do next."""
        self.message = _one_line(message)
        self.hint = _one_line(hint)
        super().__init__(self.message)

    @property
    def in_full(self) -> str:
        """The message and the hint in one line, in the words of the command line."""
        return f"{self.message} {self.hint}".strip()

    def __str__(self) -> str:
        """The message and the hint in one line, in the words of Python: who sees it there has no options to give."""
        return in_python(self.in_full)


class UsageError(VastbenchError):
    """The command or call cannot be carried out as asked."""

    exit_code = 2
    cause = "usage"


class SettingsError(UsageError):
    """A setting, file or profile is missing or malformed."""


class SchemaError(SettingsError):
    """A table or file has another schema than this vastbench reads, or none."""


class NotFound(UsageError):
    """There is no run, study, notebook or profile of that name."""


class BudgetRefused(UsageError):
    """The estimate does not fit the budget, or the user did not agree."""

    cause = "budget"


class TooManyInstances(BudgetRefused):
    """As many instances as allowed exist already, and none of them went in time."""


class StoreError(VastbenchError):
    """The store cannot be opened, read or written."""

    exit_code = 3
    cause = "store"


class ApiError(VastbenchError):
    """The marketplace said no, or nothing.

    ``status`` is the HTTP status (None when there was no answer), ``code`` the reply's own error code, and
    ``new_contract`` a contract id that came with the error: that instance exists and bills until it is destroyed.
    """

    exit_code = 4
    cause = "api"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        code: str | None = None,
        new_contract: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Take the message, the HTTP status, the reply's error code and what else the reply disclosed."""
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.new_contract = new_contract
        self.retry_after_s = retry_after_s


class ApiUnreachable(ApiError):
    """No connection, a timeout, or a connection dropped before the whole answer came."""


class ApiUnreadable(ApiError):
    """An answer that is not JSON of the expected form. What it would have said is unknown, never "nothing"."""


class ApiRedirected(ApiError):
    """A 3xx answer. Redirects are never followed: their bodies can look like empty lists."""


class KeyRejected(ApiError):
    """The API key is missing, wrong, or not allowed to do this."""

    cause = "key_rejected"


class AccountRefused(ApiError):
    """The marketplace refuses the whole account: its credit, its spending limit or its search quota has ended, or it is
    suspended. The next call would end the same way, on whatever machine."""

    exit_code = 17
    cause = "account_refused"


class RateLimited(ApiError):
    """429 after the allowed retries."""

    cause = "rate_limited"


class OfferGone(ApiError):
    """The offer was rented by somebody else or withdrawn."""

    cause = "offer_gone"


class Refused(ApiError):
    """Any other refusal by the marketplace, ``success: false`` inside a 200 included."""

    cause = "refused"


class NoOffer(VastbenchError):
    """Nothing on the market matches the request."""

    exit_code = 5
    cause = "no_offer"


class InstanceError(VastbenchError):
    """The instance did not become useful, or did not stay so."""

    exit_code = 6
    cause = "instance"


class BootFailed(InstanceError):
    """The instance reached a status from which it does not recover."""

    cause = "boot_failed"


class Vanished(InstanceError):
    """The instance left the account's list without our doing."""

    cause = "vanished"


class PriceRose(InstanceError):
    """The instance costs more per hour than was allowed, whatever its offer said."""

    cause = "price"


class SshError(InstanceError):
    """The machine refused, dropped or garbled SSH; the message names host and port."""

    cause = "ssh"


class HostKeyChanged(SshError):
    """The host key pinned for this instance changed: somebody else answers."""

    cause = "host_key_changed"


class ConnectionLost(SshError):
    """The connection died while a command ran; its result is unknown."""

    cause = "connection_lost"


class CommandFailed(SshError):
    """A command ended with a non-zero status.

    ``command``, ``exit_code_remote`` and ``stderr_tail`` (the last 2,000 characters) say which and why.
    """

    cause = "command_failed"

    def __init__(self, message: str, *, command: str, exit_code_remote: int, stderr_tail: str, hint: str = "") -> None:
        """Take the message and the command's own evidence."""
        super().__init__(message, hint=hint)
        self.command = command
        self.exit_code_remote = exit_code_remote
        self.stderr_tail = stderr_tail


class CheckFailed(InstanceError):
    """A check that could fail did: the wrong GPU, or content that does not match its SHA-256."""

    cause = "check_failed"


class SnapshotError(VastbenchError):
    """A snapshot cannot be taken, kept or restored: its place fails, or its folder changes under it."""

    exit_code = 18
    cause = "snapshot"


class SnapshotRefused(SnapshotError):
    """What is kept is not the whole snapshot that it should be: damaged, cut short, empty, or another one."""

    cause = "snapshot_refused"


class DeadlineExceeded(VastbenchError):
    """A wait reached its deadline. What was waited for may still happen later: a right-censored observation.

    ``waited_for`` names the event, ``last_seen`` the last thing observed.
    """

    exit_code = 7
    cause = "deadline"

    def __init__(self, message: str, *, waited_for: str, last_seen: str, hint: str = "") -> None:
        """Take the message, the event waited for and the last thing observed."""
        super().__init__(message, hint=hint)
        self.waited_for = waited_for
        self.last_seen = last_seen


class NotebookFailed(VastbenchError):
    """A notebook's cell raised. The executed notebook is kept; the message names it and the cell."""

    exit_code = 9
    cause = "notebook"


class StudyFailed(VastbenchError):
    """Every run of a study, a report or a notebook was made, and none passed."""

    exit_code = 10
    cause = "study_failed"


class StudyIncomplete(VastbenchError):
    """The study has fewer runs than were asked for. Started again under its name it goes on."""

    exit_code = 11
    cause = "study_incomplete"


class ArtefactsFound(VastbenchError):
    """The timings that were checked show artefacts of how they were measured."""

    exit_code = 15
    cause = "artefacts"


class WebhookFailed(VastbenchError):
    """A receiver did not take a test notification; the message says what it answered."""

    exit_code = 16
    cause = "webhook"


class ChargesDiffer(VastbenchError):
    """The account was charged what neither a run's meters nor the rounding of charges explain."""

    exit_code = 19
    cause = "charges_differ"


class Interrupted(BaseException):
    """The user or the system asked to stop (SIGINT, SIGTERM).

    It stands beside the tree, as KeyboardInterrupt does, so that no ``except Exception`` of a library can swallow it.
    """

    exit_code = 130
    cause = "interrupted"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Take what stopped us, and what to do next."""
        self.message = _one_line(message)
        self.hint = _one_line(hint)
        super().__init__(self.message)


class LeaseNotClosed(VastbenchError):
    """An instance may still exist and bill; the lease stays open in the store."""

    exit_code = 8
    cause = "lease_not_closed"


def interruption_in(error: BaseException | None, *, since: BaseException | None = None) -> BaseException | None:
    """The interruption that ``error`` is, or that it covers because cleaning up failed as well; None if there is none.

    ``since``: what was being handled before; it and what it covers does not count.
    """
    while error is not None and error is not since:
        if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def nothing_selected(place: object, what: str = "", kinds: str = "", there: Mapping[Any, int] | None = None) -> NotFound:
    """The error for a selection without a run: there is none ``what`` (in words) in ``place``.

    It says what is ``there``: how many runs have each value, and in ``kinds`` what these values are called.
    """
    if not there:
        return NotFound(f"There is no run in {place}.", hint="Make one: vastbench run; or name another place.")
    return NotFound(f"There is no run {what} in {place}.", hint=f"{kinds} there: {tally(there)}.")


def tally(there: Mapping[Any, int]) -> str:
    """Values with how many runs have each, and how many values more there are: ``RTX 4090 (300 runs), H100 (1 run)``."""
    shown = [f"{value} ({number} run{'' if number == 1 else 's'})" for value, number in there.items()]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def exit_code_of(cause: str) -> int:
    """The exit status for a run that ended with ``cause``: 0 for none, else that of the error filed under it, else 1."""
    if not cause:
        return 0
    if cause == Interrupted.cause:
        return Interrupted.exit_code
    known: list[type[VastbenchError]] = [VastbenchError]
    for error in known:
        if error.cause == cause:
            return error.exit_code
        known.extend(error.__subclasses__())
    return 1
