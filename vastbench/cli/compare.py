"""The command that says whether one group of runs is slower than another, and ends with an exit code for a gate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vastbench.cli.app import JsonOption, OfStudy, Pool, StoreOption, Where, app, print_json, print_table, share
from vastbench.errors import SettingsError
from vastbench.record.formats import MISSING, decimals, given, percent, seconds
from vastbench.record.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from vastbench.analysis.comparison import Comparison

EXIT_CODES = {"equivalent": 0, "faster": 12, "slower": 13, "not enough runs": 14}


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
        float, typer.Option("--margin", parser=share, metavar="SHARE", help="What difference does not matter.")
    ] = "10%",  # type: ignore[assignment]
    confidence: Annotated[float, typer.Option("--confidence", parser=share, metavar="SHARE", help="How sure to be.")] = "95%",  # type: ignore[assignment]
    where: Where = None,
    pool: Pool = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether B is slower than A, faster, or equivalent within a margin, and how sure that is.

    Compared is the time to ready, unless --phase names something else. Exit code 0: equivalent; 12: B is
    faster; 13: B is slower; 14: not enough runs to tell.

    For example: vastbench compare before.parquet after.parquet

    Or: vastbench compare Vietnam Spain --by region --from default-300
    """
    from vastbench.analysis.comparison import compare as compared
    from vastbench.cli.selection import chosen, named, narrowed

    if by:
        column, value_a, value_b, group_a, group_b = chosen(a, b, by=by, source=source, study=study, store=store)
        names = (f"{column} {value_a}", f"{column} {value_b}")
    elif source or study:
        raise SettingsError(
            "--from and --study are for --by.", hint="Name two files or studies as A and B, or add --by COLUMN."
        )
    else:
        column, names = "", (a, b)
        group_a, group_b = (named(name, store) for name in (a, b))
    group_a, group_b = (narrowed(group, where, pooled=pool) for group in (group_a, group_b))
    found = compared(
        group_a, group_b, _quantities(phase, all_phases, group_a, group_b), margin=margin, confidence=confidence, by=column
    )
    if as_json:
        print_json(_plain(found, names))
    else:
        _show(found, names)
    if found.verdict == "slower":
        from vastbench.cli.webhooks import tell
        from vastbench.webhooks import Event

        tell(store, Event.REGRESSION_FOUND, _plain(found, (_place(names[0]), _place(names[1]))))
    raise typer.Exit(EXIT_CODES[found.verdict])


def _quantities(phase: Sequence[str] | None, all_phases: bool, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """What was asked for first, then with ``all_phases`` each phase that runs of both groups reached."""
    from vastbench.analysis.frames import timeline
    from vastbench.record.phases import PhaseName
    from vastbench.record.stopping import USEFUL

    first = list(dict.fromkeys(phase or [USEFUL]))
    if not all_phases:
        return first
    reached = set(a["phase"]) & set(b["phase"]) - {PhaseName.UNATTRIBUTED}
    return first + [name for name in timeline(a) if name in reached and name not in first]


def _show(found: Comparison, names: tuple[str, str]) -> None:
    from vastbench.errors import clean

    first = found.effects.iloc[0]
    sure = given(found.confidence)
    for letter, name in zip("ab", names, strict=True):
        unit = f"median {seconds(first[f'median_{letter}_s'])}"
        ended = f"{first[f'ended_{letter}']} of {first[f'n_{letter}']} runs got there"
        print(f"{letter.upper()}: {clean(name)}: {first['quantity']} {unit}, {ended}")
    print(f"\n{_headline(found)}: {_ratio_words(first, sure)}.")
    print(f"  {first['why'][0].upper()}{first['why'][1:]}.")
    if not math.isnan(first["a_first"]):
        print(
            f"  The chance that a run of A takes less time than one of B: {percent(first['a_first'])}"
            f"{_range(first['a_first_low'], first['a_first_high'], percent)}."
        )
    print("  Medians are how long the user waited; the ratio is of the durations themselves, without what polling adds.")
    print(f"  {_test_sentence(first, len(found.effects))}")
    print(f"  {_success_sentence(found)}")
    if found.cautions:
        print("\nMind:")
        for sentence in found.cautions:
            print(f"  - {clean(sentence)}")
    if len(found.effects) > 1:
        print()
        _print_phases(found, sure)


def _headline(found: Comparison) -> str:
    from vastbench.analysis.comparison import Verdict

    said = {
        Verdict.SLOWER: "B is slower",
        Verdict.FASTER: "B is faster",
        Verdict.EQUIVALENT: f"A and B are equivalent within {given(found.margin)}",
        Verdict.NOT_ENOUGH: "Not enough runs to tell",
    }[found.verdict]
    if not found.success.worse:
        return said
    return f"{said}, {'and' if found.verdict is Verdict.SLOWER else 'but'} B passes less often"


def _ratio_words(row: pd.Series, sure: str) -> str:
    between = _range(row["ratio_low"], row["ratio_high"], _times, sure)
    if not math.isnan(row["ratio"]):
        return f"B takes {_times(row['ratio'])} times as long as A{between}"
    return f"there is no ratio of the medians, as too few runs got there{between}"


def _range(low: float, high: float, text: Callable[[float], str], sure: str = "") -> str:
    """`` (95 % interval 1.2 to 1.5)``; with an open end `` (95 % interval above 1.2)``; that there is none."""
    words = f"{sure} interval " if sure else ""
    if math.isnan(low):
        return " (no interval)"
    if math.isinf(high):
        return f" ({words}above {text(low)})"
    return f" ({words}{text(low)} to {text(high)})"


def _times(ratio: float) -> str:
    return MISSING if math.isnan(ratio) else f"{ratio:.3g}"


def _test_sentence(row: pd.Series, rows: int) -> str:
    if math.isnan(row["p_value"]):
        return f"Test: {row['test']}."
    adjusted = "" if rows == 1 else f", adjusted by Holm for {rows} tests {_p(row['p_adjusted'])}"
    return f"Test: {row['test']}, p {_p(row['p_value'])}{adjusted}."


def _p(value: float) -> str:
    return MISSING if math.isnan(value) else "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _success_sentence(found: Comparison) -> str:
    seen = found.success
    counts = f"Passed: {seen.passed_a} of {seen.n_a} in A, {seen.passed_b} of {seen.n_b} in B"
    if math.isnan(seen.difference):
        return f"{counts}."
    points = f"{100 * seen.difference:+.1f} points" + (
        " (no interval)" if math.isnan(seen.low) else f" ({100 * seen.low:+.1f} to {100 * seen.high:+.1f})"
    )
    sure = " B passes less often." if seen.worse else " B passes more often." if seen.better else ""
    return f"{counts}: {points}.{sure}"


def _print_phases(found: Comparison, sure: str) -> None:
    rows = []
    for row in found.effects.to_dict("records"):
        between = _range(row["ratio_low"], row["ratio_high"], _times).strip(" ()").replace("no interval", MISSING)
        medians = [decimals(row[f"median_{letter}_s"]) for letter in "ab"]
        counts = [f"{row[f'ended_{letter}']}/{row[f'n_{letter}']}" for letter in "ab"]
        rows.append(
            [
                row["quantity"],
                row["verdict"],
                *counts,
                *medians,
                _times(row["ratio"]),
                between,
                percent(row["a_first"]),
                _p(row["p_adjusted"]).removeprefix("= "),
            ]
        )
    head = ["what", "B is", "ended A", "ended B", "median A s", "median B s", "B ÷ A", f"{sure} interval", "P(A<B)", "p (Holm)"]
    print_table(head, rows, numbers=8)


def _place(name: str) -> str:
    """What to call runs where others read it: the URL of a store without its password."""
    from vastbench.store.database import url_of
    from vastbench.store.refusals import place_of

    return place_of(url_of(name)) if "://" in name else name


def _plain(found: Comparison, names: tuple[str, str]) -> dict[str, object]:
    """For programs: a figure that is missing, and an end that is open, are null."""
    seen = found.success
    said = {
        "a": names[0],
        "b": names[1],
        "verdict": str(found.verdict),
        "exit_code": EXIT_CODES[found.verdict],
        "margin": found.margin,
        "confidence": found.confidence,
        "effects": found.effects.to_dict("records"),
        "success": {
            "passed_a": seen.passed_a,
            "n_a": seen.n_a,
            "passed_b": seen.passed_b,
            "n_b": seen.n_b,
            "difference": seen.difference,
            "low": seen.low,
            "high": seen.high,
        },
        "cautions": list(found.cautions),
    }
    return dict(plain(said))
