"""Numbers at a float's limits: read, they are refused by name or missing; no finding, table, JSON or page holds inf or NaN."""

import ast
import json
import math
import re
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import vastbench
from tests.analysis.made import FAILED, made
from vastbench.analysis.artefacts.detector import artefacts
from vastbench.analysis.artefacts.rule import COLUMNS
from vastbench.analysis.comparison import compare as compared
from vastbench.analysis.facts import Facts
from vastbench.analysis.findings import findings
from vastbench.analysis.frames import phases_table
from vastbench.errors import SchemaError, SettingsError
from vastbench.io.prices import prices
from vastbench.io.tables import export, load
from vastbench.io.timings import read
from vastbench.record import plain
from vastbench.record.cost import Cost
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.moments import Moment
from vastbench.record.numbers import LARGEST, quotient
from vastbench.record.phases import PhaseName as P
from vastbench.render.html import run_html
from vastbench.render.text import run_text
from vastbench.report.model import report_model
from vastbench.report.page import markdown_text
from vastbench.store import Store
from vastbench.vast.models import Offer
from vastbench.webhooks.events import body_of, run_event

WILD = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
EDGES = [0.0, 5e-324, 1.1e-308, 1e-300, 1e-12, 1.0, 2.0, 300.0, 1e12, 1e17]
BEYOND = [1e30, 1e300, 1e308, math.inf, -math.inf, math.nan]
LENGTHS = st.one_of(st.sampled_from(EDGES), st.floats(0, 1e17))
ANY = st.one_of(st.sampled_from([*EDGES, *BEYOND, -1.0]), st.floats())
SAYS_NO_NUMBER = re.compile(r"(?<![\w-])[-+]?(nan|inf|infinity|NaT)(?![\w-])", re.IGNORECASE)
PRICES = prices()


def said(*texts):
    """The texts, none of which says that something is no number."""
    for text in texts:
        words = re.sub(r"(?s)<style.*?</style>|<script.*?</script>|<svg.*?</svg>|data:[^\"']*", "", text)
        assert [words[max(0, one.start() - 60) : one.end() + 60] for one in SAYS_NO_NUMBER.finditer(words)] == []
    return texts


def strictly(text):
    """What JSON text holds, read as a reader does that knows neither NaN nor Infinity."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(autouse=True)
def no_warning():
    """A warning of numpy's is an overflow that nobody looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@WILD
@given(st.integers(1, 12), st.data())
def test_no_artefact_holds_a_number_that_is_none(n, data):
    def column(cells):
        return data.draw(st.lists(cells, min_size=n, max_size=n))

    few = st.sampled_from(["a", "b", "c"])
    words = {"run": few, "phase": st.sampled_from(["boot", "ssh", "total"]), "verified": st.booleans() | st.none()}
    words |= {"machine": st.sampled_from([1.0, 2.0, math.nan]), "outcome": st.sampled_from(["passed", "failed", None])}
    words |= {name: st.none() for name in ("kind", "parent", "final", "content_hash")}
    table = pd.DataFrame({name: column(words.get(name, ANY)) for name in COLUMNS})
    for found in artefacts(table):
        assert all(isinstance(number, str) or math.isfinite(number) for number in found.evidence.values()), found
        said(found.text, found.consequence)


def test_two_bytes_in_less_time_than_any_clock_tells_are_no_rate():
    row = {"run": ["a"], "phase": ["boot"], "seconds": [1.1e-308], "bytes": [2.0]}
    assert artefacts(pd.DataFrame(row)) == []
    assert [found.rule for found in artefacts(pd.DataFrame(row | {"seconds": [1e-12]}))] == ["rate above the link"]


@st.composite
def runs(draw):
    found = []
    for number in range(draw(st.integers(1, 8))):
        seconds = {name: draw(LENGTHS) for name in (P.CREATE, P.WAIT_RUNNING, P.WAIT_SSH)}
        cost = Cost(*(draw(st.none() | LENGTHS) for _ in range(6)))
        run = made(number, seconds, width=draw(LENGTHS), cost=cost, rest=draw(st.just(0.0) | LENGTHS))
        resources = {"usd_per_hour": draw(st.none() | LENGTHS), "gpu_ram_mb": draw(st.sampled_from([None, 0, 24564]))}
        resources |= {"gpu_name": "RTX 4090", "num_gpus": 1, "machine_id": draw(st.sampled_from([None, 1, 2]))}
        instrument = {"clock_speed": 1.0, "poll_period_s": draw(st.none() | LENGTHS), "latency_s": draw(ANY)}
        outcome = draw(st.sampled_from([run.outcome, FAILED]))
        total = draw(st.sampled_from([run.total_s, 0.0, 1e-308]))
        found.append(replace(run, resources=resources, instrument=instrument, outcome=outcome, total_s=total))
    return found


@settings(WILD, max_examples=12, phases=[Phase.explicit, Phase.generate])  # shrinking a report takes minutes
@given(runs())
def test_no_report_holds_a_number_that_is_none(some):
    made_at = datetime(2026, 11, 23, tzinfo=UTC).isoformat()
    known = Facts(phases_table(some))
    model = report_model(known, PRICES, study=None, asked=None, problems=[], made_at=made_at, version="0.1.0")
    assert strictly(json.dumps(model)) == strictly(plain.dumps(model))
    for finding in findings(known):
        assert all(isinstance(figure, str) or math.isfinite(figure) for figure in finding.figures.values()), finding
    said(markdown_text(model))
    if len(some) > 1:
        effects = compared(phases_table(some[:1]), phases_table(some[1:])).effects
        assert not effects["ratio"].isin([math.inf, -math.inf]).any()


@WILD
@given(runs())
def test_no_run_says_or_sends_or_keeps_a_number_that_is_none(tmp_path_factory, some):
    place = tmp_path_factory.mktemp("store") / "runs.sqlite"
    with Store(place) as store:
        for run in some:
            said(run_text(run), run_text(run, beside=some[0]), run_html(run))
            assert strictly(body_of(*run_event(run), datetime.now(UTC)))["type"].startswith("run.")
            assert strictly(plain.dumps(run_to_dict(run)))["id"] == run.id
            store.save_run(run)
        assert [said(str(run)) for run in store.runs()]


def test_json_says_null_for_what_is_no_number():
    text = plain.dumps({"a": math.inf, "b": [math.nan, {"c": 1e308}], "d": "inf"})
    assert strictly(text) == {"a": None, "b": [None, {"c": 1e308}], "d": "inf"}


def test_json_is_written_in_one_place_or_forbids_what_is_no_number():
    package = Path(vastbench.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                assert any(word.arg == "allow_nan" for word in node.keywords), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("text", ["inf", "-inf", "1e308", "1e400", "Infinity"])
@pytest.mark.parametrize("column", ["seconds", "bytes", "timeout_s", "link_gbps"])
def test_timings_name_the_number_that_nobody_can_have_measured(tmp_path, text, column):
    cells = {"seconds": "1", "bytes": "2", "timeout_s": "3", "link_gbps": "4"} | {column: text}
    (tmp_path / "a.csv").write_text(f"run,phase,{','.join(cells)}\n1,boot,{','.join(cells.values())}\n")
    with pytest.raises(SettingsError, match=rf"'{re.escape(text)}' in the column '{column}', line 2"):
        read(tmp_path / "a.csv")


def test_a_unit_makes_no_time_infinite(tmp_path):
    (tmp_path / "a.csv").write_text("run,boot_h\n1,1e17\n")
    with pytest.raises(SettingsError, match="'1e17' in the column 'boot_h'"):
        read(tmp_path / "a.csv")


@WILD
@given(st.dictionaries(st.sampled_from(["boot_s", "ssh_ms", "total_s", "bytes", "timeout_s"]), ANY, min_size=1), st.booleans())
def test_timings_with_any_number_are_read_or_refused(tmp_path_factory, record, as_json):
    place = tmp_path_factory.mktemp("timings") / ("a.json" if as_json else "a.csv")
    text = json.dumps([record] * 6) if as_json else pd.DataFrame([record] * 6).to_csv(index=False)
    place.write_text(text)
    try:
        found = artefacts(read(place))
    except SettingsError:
        return
    for one in found:
        assert all(isinstance(number, str) or math.isfinite(number) for number in one.evidence.values())
        said(one.text)


SEED = "2026-01-02-rtx4090"


@pytest.mark.parametrize("value", [1e308, math.inf, math.nan, 1e-308])
@pytest.mark.parametrize("place", ["total_s", "origin", "cost.gpu_usd"])
def test_a_record_of_a_run_is_refused_by_the_fields_name(value, place):
    record = run_to_dict(made(1, {P.CREATE: 1.0}))
    name, _, inner = place.partition(".")
    record[name] = {**record[name], inner: value} if inner else value
    with pytest.raises(SettingsError, match="not JSON" if not math.isfinite(value) else inner or name):
        run_from_dict(record)


@pytest.mark.parametrize("name", ["seconds", "upper_s", "gpu_usd", "usd_per_hour", "poll_period_s"])
@pytest.mark.parametrize("value", [1e30, 1e308, math.inf])
def test_a_table_with_a_number_beyond_measure_is_refused_by_its_column(tmp_path, name, value):
    frame = load(SEED)
    frame.loc[frame["phase"] == "total", name] = value
    export(frame, tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match=f"'{name}' holds"):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize("price", ["1e308", "inf", "1e-308", "nan"])
def test_a_price_table_with_such_a_price_is_refused(tmp_path, price):
    text = (Path(vastbench.__file__).parent.parent / "data/prices/gpu_prices.csv").read_text()
    cell = next(cell for cell in text.splitlines()[1].split(",") if re.fullmatch(r"\d+\.\d+", cell))
    (tmp_path / "a.csv").write_text(text.replace(f",{cell},", f",{price},", 1))
    with pytest.raises(SettingsError, match=price):
        prices(tmp_path / "a.csv")


@pytest.mark.parametrize("price", [1e308, 1e-308, "inf"])
def test_an_offer_at_such_a_price_is_none(price):
    sound = {"id": 1, "dph_base": 0.1, "dph_total": 0.1, "storage_cost": 0.1}
    assert Offer.model_validate(sound).dph_base == 0.1
    with pytest.raises(ValueError, match="dph_base"):
        Offer.model_validate(sound | {"dph_base": price})


def test_a_moment_beyond_measure_is_refused():
    with pytest.raises(ValueError, match="at most 1e\\+18 s"):
        Moment.exact(2 * LARGEST)


@WILD
@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_quotient_is_finite_or_missing(part, whole):
    found = quotient(part, whole)
    assert math.isnan(found) or (abs(found) <= LARGEST and found == part / whole)
