"""The command that says whether one group of runs is worse than another, and ends with an exit code for a gate."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vastbench.cli.app import (
    GroupBy,
    JsonOption,
    OfStudy,
    Passed,
    Pool,
    StoreOption,
    TimesColumn,
    Unit,
    Where,
    app,
    print_json,
    share,
)
from vastbench.record.stopping import USEFUL

EXIT_CODES = {"equivalent": 0, "better": 12, "worse": 13, "B never passed": 13, "not enough runs": 14, "A never passed": 14}
"""By the verdict on the whole. A gate stops on 13: also where nothing of B works, which may have been so in A."""


@app.command()
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="Runs: a file, data set or store, a study, run ids; several by commas.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The runs to hold against A.")],
    by: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it at run time)
        typer.Option("--by", metavar="COLUMN", help="A and B are values of it: image, gpu, region, source, client_version …"),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="FILE", help="With --by: where the runs are. [default: the store]"),
    ] = None,
    study: OfStudy = None,
    phase: Annotated[Optional[list[str]], typer.Option("--phase", help="What to compare, several times if need be.")] = None,  # noqa: UP045
    all_phases: Annotated[bool, typer.Option("--all-phases", help="Each phase as well.")] = False,
    margin: Annotated[
        float, typer.Option("--margin", parser=share, metavar="SHARE", help="What difference in speed does not matter.")
    ] = "10%",  # type: ignore[assignment]
    success_margin: Annotated[
        float,
        typer.Option("--success-margin", parser=share, metavar="SHARE", help="What difference in success does not matter."),
    ] = "5%",  # type: ignore[assignment]
    confidence: Annotated[float, typer.Option("--confidence", parser=share, metavar="SHARE", help="How sure to be.")] = "95%",  # type: ignore[assignment]
    where: Where = None,
    pool: Pool = False,
    passed: Passed = None,
    unit: Unit = "",
    column: TimesColumn = None,
    group_by: GroupBy = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether B is worse than A, better, or equivalent within margins, and how sure that is.

    Compared are success, how often runs pass, and speed: the time to ready, unless --phase names something
    else. Exit code 0: equivalent in both; 12: B is better in one and no worse in the other; 13: B is worse
    in one, or never passed; 14: not enough runs to tell.

    For example: vastbench compare before.parquet after.parquet

    Or: vastbench compare Vietnam Spain --by region --from default-300
    """
    from vastbench.answers.compare import ALL
    from vastbench.answers.compare import compare as compared

    quantities = [*(phase or [USEFUL]), *([ALL] if all_phases else [])]
    found = compared(
        a,
        b,
        by=by or "",
        data=source,
        phase=quantities,
        margin=margin,
        success_margin=success_margin,
        confidence=confidence,
        study=study,
        where=where,
        pool=pool,
        store=store,
        passed=passed or (),
        unit=unit,
        column=column or (),
        group_by=group_by or (),
    )
    code = EXIT_CODES[found.verdict]
    said = found.to_dict() | {"exit_code": code}
    if as_json:
        print_json(said)
    else:
        print(found)
    if code == 13:
        from vastbench.cli.webhooks import tell
        from vastbench.webhooks import Event

        tell(store, Event.REGRESSION_FOUND, said | {"a": _place(found.names[0]), "b": _place(found.names[1])})
    raise typer.Exit(code)


def _place(name: str) -> str:
    """What to call runs where others read it: the URL of a store without its password."""
    from vastbench.store.database import url_of
    from vastbench.store.refusals import place_of

    return place_of(url_of(name)) if "://" in name else name
