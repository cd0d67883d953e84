"""The command that closes what dead processes left behind, and the offer to do so before anything is rented."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from vastbench.cli.app import JsonOption, KeyFile, StoreOption, app, open_market, open_store, print_json, print_table
from vastbench.errors import ApiError, StoreError, UsageError
from vastbench.record.formats import MISSING, counted, dollars

if TYPE_CHECKING:
    from vastbench.bench.bench import Bench
    from vastbench.rental.reap import Finding
    from vastbench.store import Store


@app.command()
def reap(
    live: Annotated[bool, typer.Option("--live", help="On the marketplace at VAST_URL.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be closed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before destroying.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat it until stopped; needs --yes.")] = False,
    every: Annotated[float, typer.Option("--every", min=1, metavar="SECONDS", help="With --watch: how often.")] = 60.0,
    api_key_file: KeyFile = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close the leases of dead processes: destroy their instances, and confirm that they are gone.

    It destroys only what carries a label of ours and has no living owner; everything else is left alone, with the reason.
    Without --live only leases of emulators that have ended are closed. Exit code 8: something could not be closed.

    vastbench reap --live --dry-run, then: vastbench reap --live
    """
    from vastbench.rental.reap import close_after_dead_emulators, not_closed
    from vastbench.settings import default_store
    from vastbench.store.database import check_lasting, url_of

    if watch and not (yes and live):
        raise UsageError("--watch destroys without asking.", hint="Add --live --yes to agree to that.")
    if live:
        check_lasting(url_of(store or default_store()))
    with open_store(store, made=live and not dry_run) as opened:
        if not dry_run and (ended := close_after_dead_emulators(opened)):
            print(f"Closed: {counted(ended, 'lease')} of emulators that have ended.", file=sys.stderr)
        if not live:
            _say_what_needs_live(opened, as_json)
            return
        told: set[str] = set()
        while True:
            try:
                findings = _reap(opened, api_key_file, dry_run, yes, quiet=watch)
                _notify(opened, findings, told)
                error = not_closed(findings)
            except (ApiError, StoreError) as unreadable:
                if not watch:
                    raise  # and nothing is shown: what could not be read is not nothing
                findings, error = [], unreadable
            if findings or not watch:
                _show(findings, as_json)
            if not watch:
                if error:
                    raise error
                return
            if error:
                print(f"vastbench: {error.in_full}", file=sys.stderr)
            time.sleep(every)


def offer_left_over(bench: Bench, *, ask: bool) -> None:
    """Close what dead processes left on this marketplace before something new is rented there; asks first if wanted."""
    from vastbench.rental.reap import not_closed

    print(bench.last_sweep, file=sys.stderr)
    to_close = [one for one in bench.reap(dry_run=True) if one.verdict in ("to close", "too early")]
    if to_close and ask and not _agree(to_close):
        return
    if error := not_closed(bench.reap(on_finding=_tell)):
        raise error


def _reap(store: Store, api_key_file: object, dry_run: bool, yes: bool, quiet: bool) -> list[Finding]:
    from vastbench.rental.reap import account_of, last_sweep
    from vastbench.rental.reap import reap as reap_all
    from vastbench.vast.watch import Watch

    with open_market(True, api_key_file, "", None) as api:  # type: ignore[arg-type]
        watch = Watch(api, api.clock)
        if not quiet:
            print(last_sweep(store, api.url, account_of(api)), file=sys.stderr)
        planned = reap_all(api, watch, store, api.clock, dry_run=True)
        to_close = [one for one in planned if one.verdict in ("to close", "too early")]
        if dry_run or (to_close and not yes and not _agree(to_close)):
            return planned
        return reap_all(api, watch, store, api.clock, on_finding=_tell)


def _notify(store: Store, findings: list[Finding], told: set[str]) -> None:
    """Tell receivers of what could not be closed; once for each lease."""
    from vastbench.rental.reap import NOT_CLOSED
    from vastbench.webhooks import Event, Notifier
    from vastbench.webhooks.events import lease_data

    still = {row.label: row for row in store.leases(open_only=True)}
    leaked = [still[one.label] for one in findings if one.verdict in NOT_CLOSED and one.label in still]
    with Notifier(store) as notifier:
        for row in leaked:
            if row.label not in told:
                told.add(row.label)
                notifier.notify(Event.LEASE_LEAKED, lease_data(row))


def _agree(to_close: list[Finding]) -> bool:
    from vastbench.errors import clean

    print("Left over, and perhaps billing:", file=sys.stderr)
    for one in to_close:
        price = "" if one.usd_per_hour is None else f", {dollars(one.usd_per_hour)}/h"
        print(f"  {clean(one.label)}: instance {one.instance_id or 'unknown'}{price}: {clean(one.why)}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise UsageError("Cannot ask: standard input is not a terminal.", hint="Add --yes for unattended use.")
    return typer.confirm("Destroy?", err=True, default=True)


def _tell(finding: Finding) -> None:
    from vastbench.errors import clean

    print(f"vastbench: {clean(finding.label)}: {finding.verdict} ({clean(finding.why)})", file=sys.stderr)


def _say_what_needs_live(store: Store, as_json: bool) -> None:
    from vastbench.rental.reap import Finding

    still = store.leases(open_only=True)
    if as_json:
        why = "only --live checks whether it is needed"
        _show([Finding(row.label, row.instance_id, "left", why, row.usd_per_hour) for row in still], as_json)
    elif still:
        places = ", ".join(sorted({row.url for row in still}))
        print(f"Open: {counted(len(still), 'lease')} on {places}. To check there: vastbench reap --live")
    else:
        print("No lease is open.")


def _show(findings: list[Finding], as_json: bool) -> None:
    from dataclasses import asdict

    from vastbench.errors import clean

    if as_json:
        print_json([asdict(one) for one in findings])
    elif not findings:
        print("Nothing is left over.")
    else:
        rows = [[clean(one.label), str(one.instance_id or MISSING), one.verdict, clean(one.why)] for one in findings]
        print_table(["lease", "instance", "verdict", "why"], rows)
