"""Commands around the measurement: the emulator, notebooks, a look at this machine."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, KeyFile, Profile, Seed, Speed, StoreOption, Truth, app, print_json
from vastbench.cli.options import options
from vastbench.errors import SettingsError, UsageError, clean
from vastbench.record.conditions import Conditions
from vastbench.record.plain import dumps


@app.command()
def scenarios() -> None:
    """List the scenarios, what each finds out, and its phases in order."""
    from vastbench.scenarios import SCENARIOS

    known = {one.name: one.metadata["option"] for one in fields(Conditions)}
    for one in SCENARIOS.values():
        print(f"{one.name}: {one.about}")
        if one.options:
            defaults = {name: f" (by default {value})" for name, value in one.options.items() if value is not None}
            defaults |= {
                name: f" (by default {one.options[name]}, on the emulator {value})" for name, value in one.emulated.items()
            }
            taken = (f"{known[name]}{defaults.get(name, '')}" for name in one.options)
            print(f"  options: {', '.join(taken)}")
        for variant, options_of in one.variants.items():
            more = (f", {known[name]} (by default {value:g})" for name, value in options_of.items())
            print(f"  --variant {variant}{''.join(more)}")
        for name, parent in one.timeline.items():
            print(f"  {'  ' * bool(parent)}{name}{'  ← ready' if name == one.ready else ''}")


@app.command()
def emulator(
    profile: Profile = "default",
    seed: Seed = None,
    speed: Speed = 1.0,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="A fixed port on 127.0.0.1; 0 takes a free one.")] = 0,
    truth: Truth = None,
    fault: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--fault", metavar="NAME[=P]", help="What goes wrong, with its probability; 'list' shows all names."),
    ] = None,
    shapes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--shapes", help="Answer in the shapes that doctor --live --save wrote to this file."),
    ] = None,
) -> None:
    """Run the Vast.ai emulator until SIGTERM or Ctrl-C; prints what a shell must export to use it.

    Any client can use it: vastbench run --live --budget 1 --yes, or the official vastai client.
    """
    from vastbench.emulator import Emulator, serve
    from vastbench.emulator.faults import described, parsed

    if fault == ["list"]:
        print(described())
        return
    faults = parsed(fault or [])
    served = Emulator(profile, seed=seed, speed=speed, port=port, truth=truth, faults=faults, shapes=shapes, for_others=True)
    serve(served, lambda line: print(line, flush=True))


@app.command()
def notebook(
    path: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="A notebook's path, or the name of one of ours.")],
    parameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter; unknown names are refused."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for the executed notebook.")] = Path("out"),
) -> None:
    """Run a notebook with checked parameters through papermill; a failing one is kept and named."""
    from vastbench.notebooks.running import run_notebook

    values: dict[str, str] = {}
    for item in parameters or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise SettingsError(f"The parameter {item!r} is not NAME=VALUE.", hint="For example: -p repeats=3")
        values[name] = value
    result = run_notebook(path, values, out, echo=sys.stdout)
    print(f"Executed notebook: {clean(result.path)}")


@app.command()
@options
def doctor(
    *,
    conditions: Conditions,
    live: Annotated[bool, typer.Option("--live", help="Ask the marketplace, too: credit, rights, market, cost.")] = False,
    save: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads it at run time)
        typer.Option("--save", help="With --live: write the shapes of its answers to this file, names and types alone."),
    ] = None,
    store: StoreOption = None,
    api_key_file: KeyFile = None,
    as_json: JsonOption = False,
) -> None:
    """Check key, URL, store, SSH, kernel, isolation and disk, and say what to fix.

    With --live also what the marketplace tells for nothing: what the account, the key and its market can do, and what a run
    under these conditions would cost. Nothing is rented; one SSH key is added to the account and removed again.
    """
    from vastbench.cli.doctor import examine
    from vastbench.cli.probe import probing
    from vastbench.vast.shapes import Shapes

    shapes = Shapes()
    if save and not live:
        raise UsageError("--save has nothing to write.", hint="Add --live: it saves what the marketplace answered.")
    findings = examine(store, api_key_file, probing(conditions, shapes) if live else None)
    if save and not shapes.to_dict()["answers"]:
        print(f"{save} is not written: nothing answered.", file=sys.stderr)
    elif save:
        try:
            save.write_text(dumps(shapes.to_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{save} cannot be written: {error.strerror}.", hint="Name a file in a writable folder.") from None
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(
                f"{finding.state:<5} {finding.subject:<11} {finding.found}" + (f"\n{'':18}{finding.fix}" if finding.fix else "")
            )
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)
