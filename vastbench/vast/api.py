"""The marketplace's API: one method per endpoint, each answer with the readings between which it was made.

Creates are sent once and never repeated: after an :class:`ApiUnreachable` or :class:`ApiUnreadable` the instance may exist.
Everything else is idempotent and repeated a few times. The key travels in the Authorization header only.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from vastbench.clock import Clock
from vastbench.errors import ApiError, ApiUnreachable, Refused, UsageError
from vastbench.record.plain import dumps
from vastbench.vast.call import TRIES, Caller, Exchange, tries_of
from vastbench.vast.models import Charge, Created, CreateRequest, Instance, Offer, SshKey, User, rows_of, whole
from vastbench.vast.query import OfferQuery
from vastbench.vast.replies import Reply, line, unreadable
from vastbench.vast.usage import ApiUsage, CallRecord

T = TypeVar("T")
Row = TypeVar("Row", bound=BaseModel)

PAGE_ROWS = 25
"""Instances per page of the list; the marketplace gives no more."""

MOST_PAGES, LARGEST_LIST_BYTES = 400, 16 * 1024 * 1024
"""A list that goes on after so many pages, or bytes of all pages together, is refused as unreadable."""

CHARGES_ROWS = 500
"""Charges per page that we ask for."""

LOGS_WAIT_S = 30.0
"""Clock seconds after which a log that was asked for is given up; they usually appear within 5 to 20."""

_LIST = "/api/v1/instances/"
_ONE = "/api/v0/instances/{id}/"
_KEYS = "/api/v0/ssh/"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call gave.

    ``sent`` and ``received`` are clock readings of the try that was answered (of a paged list: first page sent, last page
    received); ``queued_s`` the clock seconds spent waiting for our own rate limiter, outside of them; ``tries`` how often
    the call was sent.
    """

    value: T
    sent: float
    received: float
    queued_s: float
    tries: int


class VastApi:
    """The marketplace as seen by one account. May be shared by threads, and should be: it keeps to the rate limits.

    ``observe`` is called with a :class:`CallRecord` and the answer, if any, after each try, in the calling thread;
    ``transport`` replaces the network in tests. Raises SettingsError for a URL or key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        api_key: SecretStr | str,
        *,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        observe: Callable[[CallRecord, Reply | None], None] | None = None,
    ) -> None:
        """Check URL and key; nothing is sent yet."""
        self._caller = Caller(url, api_key, clock=clock, transport=transport, observe=observe)
        self.clock = clock

    @property
    def url(self) -> str:
        """The marketplace's address, without a trailing slash."""
        return self._caller.url

    def epoch_s(self) -> float:
        """This moment by the marketplace's clock, in epoch seconds, as its last answer told it; else by our own."""
        return self._caller.epoch_s()

    @property
    def usage(self) -> ApiUsage:
        """What this client has done so far."""
        return self._caller.usage

    def search_offers(self, query: OfferQuery) -> Answer[list[Offer]]:
        """Offers that pass ``query``, in its order; unreadable or priceless ones are left out and counted."""
        path = "/api/v0/bundles/"
        made = self._caller.call("POST", path, json=query.body())
        offers: list[Offer] = []
        for row in _list_in(made, f"POST {path}", "offers"):
            try:
                offer = Offer.model_validate(row)
            except ValidationError:
                self.usage.dropped(1)
                continue
            if query.accepts(offer):
                offers.append(offer)
            if len(offers) == query.limit:
                break
        return _answer(made, offers)

    def create_instance(self, offer_id: int, request: CreateRequest) -> Answer[Created]:
        """Rent an offer. Sent exactly once.

        Raises OfferGone, RateLimited, KeyRejected or Refused when nothing was rented, unless the error's ``new_contract``
        names an instance all the same; ApiUnreachable or ApiUnreadable when an instance may exist.
        """
        path = "/api/v0/asks/{id}/"
        made = self._caller.call("PUT", path, item=offer_id, json=request.body(), tries=1)
        contract = whole(made.value.get("new_contract")) if isinstance(made.value, dict) else None
        if contract is None:
            raise unreadable(made.reply, f"PUT {path}", "names no new_contract; an instance may exist")
        return _answer(made, Created(contract))

    def get_instance(self, instance_id: int) -> Answer[Instance | None]:
        """One instance; None when the marketplace says that it has none of that id.

        As its own clients read it: the instance itself or a list of it; null, an empty list or an empty object for none.
        """
        made = self._caller.call("GET", _ONE, item=instance_id, params={"owner": "me"}, forgive=_says_gone)
        if made.forgiven:
            return _answer(made, None)
        if not isinstance(made.value, dict) or "instances" not in made.value:
            raise unreadable(made.reply, f"GET {_ONE}", "holds no instance")
        row = made.value["instances"]
        if row is None or row in ([], {}):
            return _answer(made, None)
        row = row[0] if isinstance(row, list) and len(row) == 1 else row
        instance = _read(Instance, row, made, f"GET {_ONE}")
        if instance.id != instance_id:
            raise unreadable(made.reply, f"GET {_ONE}", f"is about instance {instance.id}, not {instance_id}")
        return _answer(made, instance)

    def list_instances(self, *, label: str | None = None) -> Answer[list[Instance]]:
        """All instances of the account, or those with exactly this label, from every page of the list."""
        pages = self.instance_pages(labels=None if label is None else [label])
        found = {one.id: one for page in pages for one in page.value if label in (None, one.label)}
        return _whole(pages, list(found.values()))

    def instance_pages(
        self, *, labels: Collection[str] | None = None, tries: int = TRIES, short_only: bool = False
    ) -> list[Answer[list[Instance]]]:
        """The list page by page, each with its own readings; all of it or an error. Each page is sent up to ``tries`` times.

        ``labels``: only instances with one of these are asked for; whether the marketplace kept to that is the caller's to see.
        ``short_only``: no page at all when the list has more than one, of which only the first is read.
        """
        params = {"limit": str(PAGE_ROWS), "order_by": _compact([{"col": "id", "dir": "asc"}])}
        params["select_filters"] = _compact({} if labels is None else {"label": {"in": sorted(labels)}})
        pages, totals = [], []
        for made in self._pages(_LIST, params, tries):
            found = _list_in(made, f"GET {_LIST}", "instances", at_most=2 * PAGE_ROWS)
            rows = [_read(Instance, row, made, f"GET {_LIST}") for row in found]
            if short_only and made.value.get("next_token"):
                return []
            pages.append(_answer(made, rows))
            totals.append(whole(made.value.get("total_instances")) or 0)
        ids = {row.id for page in pages for row in page.value}
        # Under a filter it is not documented what the total counts; over the whole list it must not exceed the rows.
        if labels is None and len(ids) < min(totals):
            raise unreadable(made.reply, f"GET {_LIST}", f"ends a list of {len(ids)} instances that should have {min(totals)}")
        return pages

    def start_instance(self, instance_id: int) -> Answer[str]:
        """Ask for a stopped instance to run again; the marketplace's message. Refused when its GPU is taken."""
        return self._change(instance_id, {"state": "running"})

    def stop_instance(self, instance_id: int) -> Answer[str]:
        """Stop an instance: its GPU is released, its disk is kept and billed; the marketplace's message."""
        return self._change(instance_id, {"state": "stopped"})

    def label_instance(self, instance_id: int, label: str) -> Answer[str]:
        """Give an instance another label, of at most 1024 characters; the marketplace's message."""
        if len(label) > 1024:
            raise UsageError(f"The label has {len(label)} characters.", hint="At most 1024 fit.")
        return self._change(instance_id, {"label": label})

    def destroy_instance(self, instance_id: int) -> Answer[str]:
        """Destroy an instance for good; the marketplace's message. One that does not exist any more is a success."""
        return _done(self._caller.call("DELETE", _ONE, item=instance_id, json={}, forgive=_says_gone), f"DELETE {_ONE}")

    def list_ssh_keys(self) -> Answer[list[SshKey]]:
        """The account's public keys."""
        made = self._caller.call("GET", _KEYS, forgive=_says_none)
        if made.forgiven:
            return _answer(made, [])
        value = made.value
        rows = value if isinstance(value, list) else rows_of(value.get("ssh_keys", value.get("keys")))
        if rows is None:
            raise unreadable(made.reply, f"GET {_KEYS}", "holds no list of keys")
        return _answer(made, [_read(SshKey, row, made, f"GET {_KEYS}") for row in rows])

    def create_ssh_key(self, public_key: str) -> Answer[SshKey]:
        """Make the account know a public key. After an answer that was lost, the account's keys are searched for it first."""
        key = _public(public_key)
        for attempt in tries_of(self.clock):
            with attempt:
                if attempt.num > 1:
                    known = self.list_ssh_keys()
                    for one in known.value:
                        if (one.public_key or "").split()[:2] == key.split()[:2]:
                            return Answer(one, known.sent, known.received, known.queued_s, known.tries)
                made = self._caller.call("POST", _KEYS, json={"ssh_key": key}, tries=1)
        row = made.value.get("key") if isinstance(made.value, dict) else None
        return _answer(made, _read(SshKey, row, made, f"POST {_KEYS}"))

    def delete_ssh_key(self, key_id: int) -> Answer[str]:
        """Make the account forget a public key; the marketplace's message. A key that it does not know is a success."""
        path = "/api/v0/ssh/{id}/"
        return _done(self._caller.call("DELETE", path, item=key_id, json={}, forgive=_says_no_key), f"DELETE {path}")

    def attach_ssh_key(self, instance_id: int, public_key: str) -> Answer[str]:
        """Let a public key into an instance; the marketplace's message. "Already associated" is a success.

        Neither answer proves that the key is installed: that takes up to 15 s more.
        """
        path = "/api/v0/instances/{id}/ssh/"
        body = {"ssh_key": _public(public_key)}
        made = self._caller.call("POST", path, item=instance_id, json=body, forgive=_says_already)
        return _done(made, f"POST {path}")

    def logs(self, instance_id: int, tail: int = 200) -> Answer[str]:
        """The last ``tail`` lines of an instance's log. Raises ApiUnreachable when no log appears in LOGS_WAIT_S."""
        path = "/api/v0/instances/request_logs/{id}/"
        made = self._caller.call("PUT", path, item=instance_id, json={"tail": str(tail)})
        address = made.value.get("result_url") if isinstance(made.value, dict) else None
        if not isinstance(address, str) or not address.startswith(("https://", "http://")):
            raise unreadable(made.reply, f"PUT {path}", "names no result_url")
        deadline = made.received + LOGS_WAIT_S
        while True:
            fetched = self._caller.fetch(address, "GET result_url")
            if fetched and fetched.reply.status == 200:
                text = fetched.reply.body.decode("utf-8", "replace")
                return Answer(text, made.sent, fetched.received, made.queued_s, made.tries)
            if self.clock.now() >= deadline:
                message = f"No log of instance {instance_id} appeared within {LOGS_WAIT_S:g} s."
                raise ApiUnreachable(message, hint="Ask again later.")
            self.clock.sleep(1.0)

    def charges(self, since_epoch_s: float, until_epoch_s: float) -> Answer[list[Charge]]:
        """The instance charges of all UTC days that the window touches. They appear late: no row means "not yet"."""
        days = {"gte": _midnight(since_epoch_s), "lte": _midnight(until_epoch_s) + 86_399}
        filters = _compact({"day": days, "type": {"in": ["instance"]}})
        params = {"select_filters": filters, "format": "table", "limit": str(CHARGES_ROWS)}
        path = "/api/v0/charges/"
        pages = []
        for made in self._pages(path, params, TRIES):
            rows = _list_in(made, f"GET {path}", "results", at_most=2 * CHARGES_ROWS)
            pages.append(_answer(made, [_read(Charge, row, made, f"GET {path}") for row in rows]))
        found = {(row.type, row.source, row.start, row.end, row.amount): row for page in pages for row in page.value}
        return _whole(pages, list(found.values()))

    def current_user(self) -> Answer[User]:
        """The account behind the key."""
        path = "/api/v0/users/current/"
        made = self._caller.call("GET", path)
        return _answer(made, _read(User, made.value, made, f"GET {path}"))

    def close(self) -> None:
        """Close all connections."""
        self._caller.close()

    def __enter__(self) -> Self:
        """Use the client in a ``with`` block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close all connections."""
        self.close()

    def __repr__(self) -> str:
        """The address; never the key."""
        return f"VastApi({self.url!r})"

    def _change(self, instance_id: int, body: Mapping[str, Any]) -> Answer[str]:
        return _done(self._caller.call("PUT", _ONE, item=instance_id, json=body), f"PUT {_ONE}")

    def _pages(self, path: str, params: Mapping[str, str], tries: int) -> Iterator[Exchange]:
        """Every page that ``next_token`` leads to."""
        token: str | None = None
        seen: set[str] = set()
        size = 0
        for _ in range(MOST_PAGES):
            made = self._caller.call("GET", path, params={**params, **({"after_token": token} if token else {})}, tries=tries)
            following = made.value.get("next_token") if isinstance(made.value, dict) else None
            if following is not None and (isinstance(following, bool) or not isinstance(following, str | int)):
                raise unreadable(made.reply, f"GET {path}", "has a next_token that is not text")
            size += len(made.reply.body)
            if size > LARGEST_LIST_BYTES:
                raise unreadable(made.reply, f"GET {path}", f"makes a list of more than {LARGEST_LIST_BYTES} bytes")
            yield made
            token = str(following) if following not in (None, "") else None
            if token is None:
                return
            if token in seen:
                raise unreadable(made.reply, f"GET {path}", "leads to a page that was read before")
            seen.add(token)
        raise unreadable(made.reply, f"GET {path}", f"goes on after {MOST_PAGES} pages")


def _answer(made: Exchange, value: T) -> Answer[T]:
    return Answer(value, made.sent, made.received, made.queued_s, made.tries)


def _whole(pages: list[Answer[list[Row]]], rows: list[Row]) -> Answer[list[Row]]:
    """One answer for all pages of a list."""
    queued_s = sum(page.queued_s for page in pages)
    return Answer(rows, pages[0].sent, pages[-1].received, queued_s, max(page.tries for page in pages))


def _done(made: Exchange, endpoint: str) -> Answer[str]:
    """The message of a reply that says that something was done."""
    if made.forgiven:
        return _answer(made, made.forgiven.code or made.forgiven.message)
    if not isinstance(made.value, dict) or made.value.get("success") is not True:
        raise unreadable(made.reply, endpoint, "does not say whether it was done")
    said = made.value.get("msg")
    return _answer(made, line(said, 300) if isinstance(said, str) else "")


def _list_in(made: Exchange, endpoint: str, name: str, *, at_most: float = math.inf) -> list[Any]:
    """The rows of a reply; more than ``at_most``, which allows for a little more than was asked for, are no page."""
    rows = made.value.get(name) if isinstance(made.value, dict) else None
    if not isinstance(rows, list):
        raise unreadable(made.reply, endpoint, f"holds no list of {name}")
    if len(rows) > at_most:
        raise unreadable(made.reply, endpoint, f"has {len(rows)} {name} on a page")
    return rows


def _read(model: type[Row], row: object, made: Exchange, endpoint: str) -> Row:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        named = ", ".join(sorted({".".join(map(str, one["loc"])) or "row" for one in error.errors(include_input=False)}))
        raise unreadable(made.reply, endpoint, f"holds no readable {model.__name__} ({named})") from None


def _says_gone(error: ApiError) -> bool:
    """Whether a refusal says that there is no such instance: by code, for a bare 404 may as well be a wrong key or address."""
    return isinstance(error, Refused) and error.status in (200, 404) and error.code in ("no_such_instance", "not_found")


def _says_none(error: ApiError) -> bool:
    return isinstance(error, Refused) and error.status == 404 and error.code is not None


def _says_no_key(error: ApiError) -> bool:
    """Whether a refusal says that the account has no such key: seen with 404, and documented as 400 with a code of its own."""
    return _says_none(error) or (isinstance(error, Refused) and error.code == "no_ssh_key")


def _says_already(error: ApiError) -> bool:
    return isinstance(error, Refused) and "already associated" in error.message.lower()


def _public(key: str) -> str:
    """The line of a public key. Raises UsageError, without showing it, for anything else."""
    line = key.strip()
    if "PRIVATE" in line or "\n" in line or not line.startswith(("ssh-", "ecdsa-", "sk-")) or len(line.split()) < 2:
        raise UsageError("This is not a public SSH key.", hint="Give the one line of a .pub file.")
    return line


def _midnight(epoch_s: float) -> int:
    """The epoch time at which the UTC day of ``epoch_s`` began."""
    return int(epoch_s // 86_400) * 86_400


def _compact(value: object) -> str:
    return dumps(value, ensure_ascii=True, separators=(",", ":"))
