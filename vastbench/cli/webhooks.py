"""Commands that say who is told of what, and show what was told."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from vastbench.cli.app import JsonOption, StoreOption, app, open_store, print_json, print_table
from vastbench.errors import SettingsError, UsageError, VastbenchError, WebhookFailed
from vastbench.record.formats import MISSING

if TYPE_CHECKING:
    from vastbench.store.outbox import Delivery, WebhookConfig
    from vastbench.webhooks import Event

webhooks = typer.Typer(
    help="Be told of runs, studies, leaks, budgets and regressions by signed webhooks (docs/webhooks.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(webhooks, name="webhooks")

ConfigId = Annotated[int, typer.Argument(metavar="ID", help="A webhook's number, see: vastbench webhooks list")]


@webhooks.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to post, https.")],
    event: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads it at run time)
        typer.Option("--event", help="Only this event, several times if need be. [default: all]"),
    ] = None,
    secret_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--secret-file", help="A file that holds the secret, whsec_…. [default: a new one, shown once]"),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="The receiver may have a private address; on this machine also http.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a receiver. Its new secret is shown this once; the receiver verifies signatures with it."""
    from vastbench.store.outbox import Outbox
    from vastbench.webhooks.address import check_url
    from vastbench.webhooks.sending import check_secret

    events = _events(event or [])
    check_url(url, allow_private=allow_private)
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    if secret_file:
        secret = check_secret(_secret_in(secret_file))
    with open_store(store) as opened:
        _keep_private(opened.place)
        made = Outbox(opened).add(url, secret, events=events, allow_private=allow_private)
    if as_json:
        print_json(made.to_dict() | ({} if secret_file else {"secret": secret}))
        return
    print(f"Webhook {made.id} to {made.masked_url}: {_wants(made)}.")
    if not secret_file:
        print(f"Its secret, shown this once: {secret}")
    print(f"Try it: vastbench webhooks test {made.id}")


@webhooks.command("list")
def list_webhooks(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the receivers, secrets masked, and how many deliveries are pending for each."""
    from vastbench.store.outbox import Outbox

    with open_store(store, made=False) as opened:
        outbox = Outbox(opened)
        found, pending = outbox.configs(), outbox.pending()
    if as_json:
        print_json([one.to_dict() | {"pending": pending.get(one.id, 0)} for one in found])
    elif not found:
        print(f"Nobody is told: no webhook in {opened.place}. Add one: vastbench webhooks add URL")
    else:
        rows = [
            [str(one.id), one.masked_url, one.masked_secret, _wants(one), _yes(one.allow_private), str(pending.get(one.id, 0))]
            for one in found
        ]
        print_table(["id", "URL", "secret", "events", "private", "pending"], rows, numbers=1)


@webhooks.command("test")
def send_test(
    config_id: Annotated[Optional[int], typer.Argument(metavar="[ID]", help="One webhook. [default: all]")] = None,  # noqa: UP045
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test event now and print what the receiver answers. Exit code 16 when one does not take it."""
    from datetime import UTC, datetime

    from vastbench.store.outbox import Outbox
    from vastbench.webhooks import Event
    from vastbench.webhooks.events import body_of
    from vastbench.webhooks.sending import post

    with open_store(store, made=False) as opened:
        outbox = Outbox(opened)
        chosen = outbox.configs() if config_id is None else [outbox.config(config_id)]
    if not chosen:
        raise UsageError(f"There is no webhook in {opened.place}.", hint="Add one: vastbench webhooks add URL")
    body = body_of(Event.TEST, {"message": "This is a test by `vastbench webhooks test`."}, datetime.now(UTC))
    replies = [(one, post(one, f"msg_{secrets.token_hex(12)}", body)) for one in chosen]
    if as_json:
        print_json([{"id": one.id, "delivered": r.delivered, "status": r.status, "error": r.error} for one, r in replies])
    else:
        for one, reply in replies:
            print(f"Webhook {one.id} to {one.masked_url}: {'taken' if reply.delivered else 'NOT taken'}, {_said(str(reply))}")
    if failed := [f"webhook {one.id}: {_said(str(reply))}" for one, reply in replies if not reply.delivered]:
        raise WebhookFailed(
            f"Not taken by {'; '.join(failed)}.", hint="Check the receiver; remove it with: vastbench webhooks remove ID"
        )


@webhooks.command()
def remove(config_id: ConfigId, store: StoreOption = None) -> None:
    """Forget a receiver, its secret and its deliveries."""
    from vastbench.store.outbox import Outbox

    with open_store(store, made=False) as opened:
        Outbox(opened).remove(config_id)
    print(f"Webhook {config_id} is removed.")


@webhooks.command()
def deliveries(
    retry: Annotated[bool, typer.Option("--retry", help="Send everything that is pending now.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was, or is to be, delivered, newest first."""
    from datetime import UTC, datetime

    from vastbench.store.outbox import Outbox
    from vastbench.webhooks.sending import deliver_due

    with open_store(store, made=False) as opened:
        outbox = Outbox(opened)
        if retry:
            outbox.hasten(datetime.now(UTC))
            deliver_due(outbox)
        found, pending = outbox.deliveries(limit=limit), sum(outbox.pending().values())
    if as_json:
        print_json([one.to_dict() for one in found])
    elif not found:
        print(f"Nothing was delivered from {opened.place}.")
    else:
        head = ["webhook-id", "webhook", "event", "made", "state", "tries", "last answer", "next try"]
        print_table(head, [_row(one) for one in found])
        if pending:
            print(f"\n{pending} pending. Send them now: vastbench webhooks deliveries --retry")


def tell(store: str | None, event: Event, data: Mapping[str, Any]) -> None:
    """Tell who wants to know, if there is a store with receivers; whatever is wrong with it is no matter of the command's."""
    from vastbench.webhooks import Notifier

    with suppress(VastbenchError), open_store(store, made=False) as opened, Notifier(opened) as notifier:
        notifier.notify(event, data)


def _events(names: list[str]) -> list[str]:
    from vastbench.webhooks import Event

    for name in names:
        if name not in set(Event):
            raise UsageError(f"There is no event {name!r}.", hint=f"Choose among {', '.join(Event)}.")
    return list(dict.fromkeys(names))


def _secret_in(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"The secret file {path} cannot be read: {reason}.", hint="Give a readable file.") from None


def _keep_private(place: str) -> None:
    """Take the group's and others' rights from a store's file that an earlier vastbench made."""
    for path in (Path(place), Path(f"{place}-wal"), Path(f"{place}-shm")):
        with suppress(OSError):
            if path.is_file() and path.stat().st_uid == os.getuid():
                path.chmod(path.stat().st_mode & 0o700)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _wants(config: WebhookConfig) -> str:
    return ", ".join(config.events) or "all events"


def _said(text: str) -> str:
    from vastbench.errors import clean

    return clean(text)


def _row(one: Delivery) -> list[str]:
    answer = _said(one.last_error or (f"HTTP {one.last_status}" if one.last_status else MISSING))
    again = one.next_try_at[:19] if one.state == "pending" else MISSING
    return [one.id, str(one.config_id), one.event, one.created_at[:19], one.state, str(one.attempts), answer, again]
