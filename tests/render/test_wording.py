"""Numbers and foreign strings in sentences and tables for people."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistune import create_markdown

from vastbench.record.formats import listed, percent, seconds, times, usd, within
from vastbench.render.frames import format_frame
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
    assert within(70.12, math.nan, "s", n=3) == "no 95 % interval at n = 3"


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
