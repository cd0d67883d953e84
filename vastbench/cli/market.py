"""Commands that look at what is on offer, and at what cost."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Optional

import typer

from vastbench.cli.app import Disk, JsonOption, KeyFile, Profile, Seed, app, open_market, print_json, print_table


@app.command()
def offers(
    query: Annotated[
        str, typer.Argument(help="A search in Vast's own language, such as: 'gpu_name=RTX_4090 num_gpus=1 dph_total<0.5'")
    ] = "",
    order: Annotated[str, typer.Option("--order", help="The field to sort by; a trailing - for descending.")] = "dph_total",
    limit: Annotated[int, typer.Option("--limit", min=1, max=3000, help="How many.")] = 20,
    disk: Disk = 20.0,
    profile: Profile = "default",
    seed: Seed = None,
    live: Annotated[bool, typer.Option("--live", help="Search the marketplace at VAST_URL; that is free.")] = False,
    api_key_file: KeyFile = None,
    as_json: JsonOption = False,
) -> None:
    """Search offers: the emulator's, or with --live the marketplace's. Nothing is rented and nothing is spent."""
    from vastbench.errors import clean
    from vastbench.record.formats import MISSING, counted, decimals, percent
    from vastbench.vast.query import OfferQuery

    search = OfferQuery.parse(query, order=order, limit=limit, allocated_storage_gb=disk)
    with open_market(live, api_key_file, profile, seed) as api:
        found = api.search_offers(search).value
        unusable = api.usage.dropped_offers
    if as_json:
        print_json([offer.model_dump(mode="json") | {"usd_per_hour": offer.usd_per_hour(disk)} for offer in found])
        return
    rows = [
        [
            str(offer.id),
            f"{offer.num_gpus} × {clean(offer.gpu_name)}",
            decimals(offer.usd_per_hour(disk), 4),
            percent(offer.reliability),
            decimals(offer.disk_space_gb, 0),
            str(offer.machine_id),
            clean(offer.geolocation or MISSING),
        ]
        for offer in found
    ]
    print_table(["offer", "GPU", f"$/h with {disk:g} GB", "reliability", "disk GB", "machine", "place"], rows)
    left_out = f", {unusable} more left out: their prices are missing, negative or no numbers" if unusable else ""
    print(f"{counted(len(rows), 'offer')}{left_out}" + ("" if live else " (emulated)"), file=sys.stderr)


@app.command()
def prices(
    gpu: Annotated[Optional[str], typer.Option("--gpu", help='Only GPUs with this in their name, such as "A100".')] = None,  # noqa: UP045
    check: Annotated[bool, typer.Option("--check", help="Say which rows to doubt, and why.")] = False,
    file: Annotated[Optional[Path], typer.Option("--file", help="Another table of the same columns.")] = None,  # noqa: UP045
    refresh: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--refresh", metavar="FILE", help="Write fresh prices to this file; read them with --file."),
    ] = None,
    catalogue: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--catalogue", metavar="FOLDER", help="Write the table as a catalogue for GPUHUNT_CATALOG_DIR."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the dated prices of GPU providers that come with vastbench, cheapest GPU first; needs no network.

    With --refresh, fresh ones are read from the folder that GPUHUNT_CATALOG_DIR names, or else fetched by gpuhunt, and checked.
    """
    from datetime import UTC, datetime

    from vastbench.errors import NotFound
    from vastbench.io.prices import check as doubts
    from vastbench.io.prices import prices as listed
    from vastbench.record.formats import counted
    from vastbench.render.pricelist import HEAD, findings_text, price_cells

    today = datetime.now(UTC).date()
    if refresh is not None:
        _refresh(refresh, today)
        return
    table = listed(file)
    if catalogue is not None:
        from vastbench.io.catalogue import write_catalogue

        print(f"{counted(len(table), 'price')} in {counted(len(write_catalogue(table, catalogue)), 'file')} of {catalogue}")
        return
    shown = table if gpu is None else table[table["gpu_name"].str.contains(gpu, case=False, regex=False)]
    if shown.empty:
        names = ", ".join(sorted(set(table["gpu_name"])))
        raise NotFound(f"There is no GPU {gpu!r} in the table.", hint=f"GPUs there: {names}.")
    if check:
        # A row's peers are all rows, whatever is shown.
        found = doubts(table, today=today)
        found = found[found["row"].isin(shown.index)]
        if as_json:
            print_json(json.loads(found.to_json(orient="records")))
        else:
            print(findings_text(found, len(shown)))
    elif as_json:
        dated = shown.assign(as_of=shown["as_of"].dt.strftime("%Y-%m-%d")).reset_index()
        print_json(json.loads(dated.to_json(orient="records")))
    else:
        print_table(HEAD, price_cells(shown, today), numbers=2)


def _refresh(path: Path, today: date) -> None:
    """Write fresh prices, and say what to doubt in them."""
    import pandas as pd

    from vastbench.io.catalogue import moved, refreshed, write_prices
    from vastbench.io.prices import check as doubts
    from vastbench.io.prices import prices as listed
    from vastbench.record.formats import counted
    from vastbench.render.pricelist import findings_text

    found = refreshed()
    write_prices(found.rows, path)
    table = listed(path)
    left_out = "".join(f", {counted(n, 'offer')} left out: {why}" for why, n in found.left_out.items())
    print(f"{counted(len(table), 'price')} of {counted(table['provider'].nunique(), 'provider')} in {path}{left_out}")
    print(findings_text(pd.concat([doubts(table, today=today), moved(table, listed())]), len(table)))
