"""The command that sets the account's charges beside what runs' own meters say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from vastbench.cli.app import JsonOption, KeyFile, StoreOption, app, of_study, open_market, open_store, print_json
from vastbench.errors import ChargesDiffer
from vastbench.record.formats import counted, dollars

if TYPE_CHECKING:
    from vastbench.rental.charges import Asked


@app.command()
def reconcile(
    study: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Argument(metavar="[STUDY]", parser=of_study, help="Only the runs of this study."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the account at VAST_URL; that costs nothing.")] = False,
    api_key_file: KeyFile = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what the account was charged for the stored runs beside what their own meters say, run by run and in sum.

    With --live the account's charges are asked for, matched by contract and stored beside the estimates; without it those that
    are stored already are shown. Charges come late and rounded: late and missing ones are normal, and the exit code is 0 all
    the same. Exit code 19: a charge differs from the meters by more than its rounding and their bounds explain.

    vastbench reconcile --live, or: vastbench reconcile STUDY --live
    """
    from vastbench.answers.reconcile import reconcile as reconciled
    from vastbench.settings import default_store

    asked: Asked | None = None
    if live:
        from vastbench.rental.charges import ask_charges

        with open_store(store, made=False) as opened, open_market(True, api_key_file, "", None) as api:
            asked = ask_charges(api, opened, study=study)
            print(_said(asked, api.url), file=sys.stderr)
    made = reconciled(study=study, store=store or default_store())
    if as_json:
        from dataclasses import asdict

        answer: dict[str, Any] = made.to_dict() | ({} if asked is None else {"asked": asdict(asked)})
        print_json(answer)
    else:
        print(made)
    if made.differing:
        raise ChargesDiffer(
            f"The account was charged what the meters do not explain, for {counted(made.differing, 'run')}.",
            hint="Look at these runs on the account's billing page; what still runs there, `vastbench reap --live` shows.",
        )


def _said(asked: Asked, url: str) -> str:
    """What was asked and answered."""
    text = f"Asked {url}: {counted(asked.rows, 'row')} of charges for {counted(asked.contracts, 'instance')} of ours."
    if asked.unstored:
        charged = dollars(asked.unstored_usd)
        text += f" Among them {counted(asked.unstored, 'run')} without a record here, charged {charged}."
    if asked.foreign:
        text += f" {counted(asked.foreign, 'row')} ({dollars(asked.foreign_usd)}) of other contracts: left out, and not stored."
    return text
