"""Numbers and foreign strings in sentences and tables for people."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistune import create_markdown

from vastbench.record.formats import counted, listed, no_interval, percent, seconds, times, usd, within
from vastbench.render.frames import format_frame
from vastbench.render.glossary import GLOSSARY, used_in
from vastbench.render.wording import escaped, plain


@pytest.mark.parametrize("form", [seconds, usd, percent, times])
@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_missing_is_a_dash(form, missing):
    assert form(missing) == "–"


def test_amounts_carry_their_unit():
    assert (seconds(72.77), usd(0.00464), percent(0.7352), times(4.23)) == ("72.8 s", "0.0046 USD", "73.5 %", "4.2 times")


def test_a_cost_is_not_rounded_to_nothing():
    assert usd(5.7e-7) == "less than 0.0001 USD"
    assert usd(0.0) == "0.0000 USD"


def test_nothing_is_less_than_no_percent():
    assert percent(-0.0001) == "0.0 %"


def test_an_interval_needs_two_bounds():
    assert within(70.12, 75.2, "s", n=12) == "n = 12; 95 % interval 70.1–75.2 s"
    assert within(70.12, math.nan, "s", n=3) == "no 95 % interval: 3 runs are too few"


def test_parts_are_listed():
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_escaped_text_is_shown_as_it_is(text):
    shown = re.sub("</?span>", "", create_markdown(escape=False)(f"x {escaped(text)} x"))
    unescaped = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert unescaped == f"<p>x {text} x</p>\n"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_plain_takes_back_what_escaped_added(text):
    assert plain(escaped(text)) == text


def test_plain_drops_our_own_emphasis():
    assert plain(r"**3 of 4** runs: boot\_failed `x`") == "3 of 4 runs: boot_failed x"


def test_a_table_is_rounded_by_the_units_in_its_columns():
    frame = pd.DataFrame(
        {
            "phase": ["port", None],
            "median_s": [0.0512, math.nan],
            "mean_share": [0.7661, math.nan],
            "per_run_usd": [5.7e-7, math.nan],
            "usd_per_gpu_hour": [0.23456, math.nan],
            "gpu_count": [8.0, math.nan],
            "factor": [0.5, math.nan],
            "n": [3, 0],
            "as_of": [pd.Timestamp("2026-01-02"), pd.NaT],
        }
    )
    shown = format_frame(frame)
    assert shown.loc["port"].tolist() == ["0.05", "76.6 %", "0.000001", "0.2346", "8", "0.50", "3", "2026-01-02"]
    assert shown.loc["–"].tolist() == ["–", "–", "–", "–", "–", "–", "0", "–"]
    assert list(format_frame(frame, "n", "factor").columns) == ["factor"]
    assert format_frame(frame[:0]).empty


def test_one_helper_puts_words_into_the_plural():
    assert [counted(n, "lease", "is open") for n in (0, 1, 2)] == ["0 leases are open", "1 lease is open", "2 leases are open"]
    assert [counted(n, "study") for n in (1, 2)] == ["1 study", "2 studies"]
    assert [counted(n, "criterion") for n in (1, 5)] == ["1 criterion", "5 criteria"]
    assert [counted(n, "run", "was cut off") for n in (1, 3)] == ["1 run was cut off", "3 runs were cut off"]


def test_a_missing_interval_says_whether_runs_or_machines_are_too_few():
    assert no_interval(1) == "no 95 % interval: 1 run is too few"
    assert no_interval(102, 4) == "no 95 % interval: 102 runs on 4 machines are too few"
    assert no_interval(5, 5) == "no 95 % interval: 5 runs are too few"


def test_the_glossary_is_in_order_and_names_the_words_that_a_text_uses():
    assert [*GLOSSARY] == sorted(GLOSSARY, key=str.lower)
    assert [*used_in("The effective n of these polls.")] == ["effective n", "poll"]
    assert used_in("") == {}
    assert all(meaning.endswith(".") and len(meaning) < 220 for meaning in GLOSSARY.values())
