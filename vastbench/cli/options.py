"""Options of the commands that rent: from the fields of what they make, so that each is described in one place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vastbench.clock import EMULATED_SPEED
from vastbench.record.conditions import asked

if TYPE_CHECKING:
    from vastbench.bench.bench import Bench
    from vastbench.record.design import Design


KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True)
class Market:
    """Where a command rents, by which rules, and where it keeps what it measures."""

    profile: str = asked("default", "--profile", "the emulator's behaviour: a name in data/profiles or a TOML file")
    seed: int | None = asked(None, "--seed", "repeats the same emulated draws")
    speed: float = asked(EMULATED_SPEED, "--speed", "emulated seconds per real second; ignored live")
    live: bool = asked(False, "--live", "rent on the marketplace at VAST_URL, spending money; needs a budget")
    budget_usd: float | None = asked(None, "--budget", "USD that all runs together may cost at most; required live")
    max_instances: int | None = asked(
        None, "--max-instances", "instances at once at most, those of other processes with this store included"
    )
    api_key_file: Path | None = asked(None, "--api-key-file", "a file that holds the API key")  # noqa: RUF009 (a field)
    store: str | None = asked(None, "--store", "a file or a database URL; by default VASTBENCH_STORE or the data directory")
    truth: Path | None = asked(None, "--truth", "write the emulator's log of the truth to this file")  # noqa: RUF009

    def bench(self, study: str | Design = "") -> Bench:
        """A bench by these options, not entered yet."""
        from vastbench.bench.bench import Bench

        return Bench(study=study, **{one.name: getattr(self, one.name) for one in fields(self)})


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Let ``command`` take, in place of each parameter that is a dataclass, the options that its fields describe."""
    hints = get_type_hints(command, include_extras=True)
    made: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in made:
            parameters.append(parameter.replace(annotation=hints[name], kind=KEYWORD))
            continue
        kinds = get_type_hints(made[name])
        parameters += [_parameter(one, kinds[one.name]) for one in fields(made[name])]

    @functools.wraps(command)
    def taking(**given: Any) -> None:
        for name, kind in made.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {one.name: one.annotation for one in parameters}
    return taking


def _parameter(one: Field[Any], kind: Any) -> inspect.Parameter:
    option = typer.Option(one.metadata["option"], help=one.metadata["about"][:1].upper() + one.metadata["about"][1:] + ".")
    return inspect.Parameter(one.name, KEYWORD, default=one.default, annotation=Annotated[kind, option])
