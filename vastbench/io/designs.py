"""A study as a file: its conditions, blocks, budget and stopping rule in TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vastbench.errors import ARGUMENTS, NotFound, SettingsError, UsageError, clean, did_you_mean, in_python
from vastbench.record.conditions import Conditions
from vastbench.record.design import Condition, Design
from vastbench.record.stopping import USEFUL, StoppingRule
from vastbench.record.study import check_name

OF_A_CONDITION: dict[str, Any] = {"scenario": str, **get_type_hints(Conditions)}
"""What a condition may say: its scenario, and the fields of Conditions."""

OF_THE_STUDY: dict[str, Any] = {
    "name": str,
    "repeats": int,
    "seed": int,
    "budget_usd": float,
    "stop_width": float,
    "stop_quantile": float,
    "stop_of": str,
    "conditions": dict,
    "vary": dict,
    "condition": list[dict[str, Any]],
}
"""What a study's file may say."""

EXAMPLE = "Write repeats = 10, [conditions] for what all have, and [vary] with a list for each field that differs."

_HEADER = re.compile(r"\s*\[{1,2}\s*([\w.\"'-]+)\s*\]{1,2}\s*(?:#.*)?")
_KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*=""")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def read(path: str | Path, check: Callable[[Condition], object]) -> Design:
    """The study that the TOML file at ``path`` describes.

    ``check`` is called with every condition and raises UsageError for one that cannot be. Raises NotFound for no file,
    SettingsError, which names the file, the line and the value, for what is not valid.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(
            f"There is no file {clean(place)}.", hint="Name a study's file, or give --name for a study of one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file {clean(place)} cannot be read: {error}.", hint="Give a file of valid TOML.") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The file {clean(place)} is not valid TOML: {error}.", hint="Correct that line.") from error
    return _File(place, text, document).design(check)


class _File:
    """A study's file: where it lies, what it says, and on which lines."""

    def __init__(self, path: Path, text: str, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = document
        self.lines: dict[tuple[str, int, str], int] = {}
        table, nth = "", 0
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.fullmatch(line):
                table, nth = header[1], nth + 1 if header[1] == table else 0
                self.lines.setdefault((table, nth, ""), number)
                outer, _, inner = table.rpartition(".")
                self.lines.setdefault((outer, 0, inner), number)
            elif key := _KEY.match(line):
                self.lines.setdefault((table, nth, key[1]), number)

    def wrong(self, problem: str, *places: tuple[str, int, str], hint: str = EXAMPLE) -> SettingsError:
        """The error that names the file, the line of the first of ``places`` (table, which of it, key) that it has, and it."""
        line = next((self.lines[place] for place in places if place in self.lines), None)
        where = f"{clean(self.path)}, line {line}" if line else clean(self.path)
        return SettingsError(f"{where}: {in_python(problem).rstrip('.')}.", hint=in_python(hint))

    def design(self, check: Callable[[Condition], object]) -> Design:
        said = self.typed(self.document, OF_THE_STUDY, "")
        common = self.typed(said.get("conditions", {}), OF_A_CONDITION, "conditions")
        if ("vary" in said) is ("condition" in said):
            both = "both [vary] and [[condition]]" if "vary" in said else "neither [vary] nor [[condition]]"
            raise self.wrong(f"It has {both}", ("condition", 0, ""))
        name = said.get("name", self.path.stem)
        made: list[Condition] = []
        for own, asked, place in self.varied(said["vary"]) if "vary" in said else self.listed(said["condition"]):
            if own in {one.name for one in made}:
                raise self.wrong(f"a second condition has the name {own!r}", (*place, "name"), hint="Give it another name.")
            together = {**common, **asked}
            fields = {key: value for key, value in together.items() if key != "scenario"}
            try:
                check_name(f"{name}.{own}")
                made.append(Condition(own, Conditions(**fields), together.get("scenario")))
                check(made[-1])
            except UsageError as error:
                key = _blamed(error.message, {"name": own, **together})
                places = (*place, key), ("conditions", 0, key), (*place, "")
                raise self.wrong(error.message, *places, hint=error.hint) from error
        rule = {name.removeprefix("stop_"): said[name] for name in ("stop_width", "stop_quantile") if name in said}
        if "width" not in rule and (rule or "stop_of" in said):
            given = next(name for name in said if name.startswith("stop_"))
            raise self.wrong(
                f"{given} says nothing without stop_width", ("", 0, given), hint="Add stop_width = 0.15, or leave it out."
            )
        try:
            return Design(
                name,
                tuple(made),
                said.get("repeats", 10),
                said.get("seed", 0),
                StoppingRule(quantity=said.get("stop_of", USEFUL), **rule) if "width" in rule else None,
                budget_usd=said.get("budget_usd"),
            )
        except UsageError as error:
            key = _blamed(error.message, {key: value for key, value in said.items() if not isinstance(value, (dict, list))})
            raise self.wrong(error.message, ("", 0, key), hint=error.hint) from error

    def typed(self, table: Mapping[str, Any], known: Mapping[str, Any], name: str, nth: int = 0) -> dict[str, Any]:
        """What ``table`` says, each value of the type that is ``known`` of its key."""
        found = {}
        for key, value in table.items():
            if key not in known:
                option = ARGUMENTS.get(f"--{key.replace('_', '-')}")  # as the command line calls it
                close = f"Did you mean {option}? " if option in known else did_you_mean(key, known)
                raise self.wrong(f"there is no key {key!r}", (name, nth, key), hint=f"{close}Known: {', '.join(known)}.")
            try:
                found[key] = TypeAdapter(known[key]).validate_python(value, strict=True)
            except ValidationError as error:
                raise self.wrong(f"{key} is {value!r:.80}", (name, nth, key), hint=f"{error.errors()[0]['msg']}.") from error
        return found

    def varied(self, vary: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], tuple[str, int]]]:
        """Every combination of the values in ``vary``: its name, what it asks for, and its table."""
        levels: list[list[tuple[str, str, Any]]] = []
        for key, values in vary.items():
            place = ("vary", 0, key)
            if not isinstance(values, (list, dict)) or not values:
                raise self.wrong(
                    f"{key} is {values!r:.80}", place, hint="Give a list of values, or names with values: {a = 1, b = 2}."
                )
            named = values.items() if isinstance(values, dict) else ((_name(value), value) for value in values)
            levels.append([(str(name), key, value) for name, value in named])
            for _, _, value in levels[-1]:
                self.typed({key: value}, OF_A_CONDITION, "vary")
        for each in product(*levels):
            yield ".".join(name for name, _, _ in each), {key: value for _, key, value in each}, ("vary", 0)

    def listed(self, tables: list[Any]) -> Iterator[tuple[str, dict[str, Any], tuple[str, int]]]:
        """The conditions that are written one by one: the name, what it asks for, and its table."""
        for nth, table in enumerate(tables):
            said = self.typed(table, {"name": str, **OF_A_CONDITION}, "condition", nth)
            if "name" not in said:
                raise self.wrong("this condition has no name", ("condition", nth, ""), hint='Give it one: name = "cheap".')
            yield said.pop("name"), said, ("condition", nth)


def _blamed(message: str, said: Mapping[str, Any]) -> str:
    """The key of ``said`` that a message is about: by its option's name, by its value, or by its own; empty for none."""
    options = [name for option, name in ARGUMENTS.items() if re.search(rf"{option}(?![\w-])", message)]
    values = [key for key, value in said.items() if repr(value) in message]
    named = [key for key in said if key.removeprefix("stop_") in message]
    return next((key for key in (*options, *values, *named) if key in said), "")


def _name(value: object) -> str:
    return _UNFIT.sub("-", str(value)).strip("-.") or "none"
