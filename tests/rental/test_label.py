"""A label says whose an instance is and until when it may be needed; what merely looks like one says nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vastbench.bench.bench import new_run_id
from vastbench.rental.label import Identity, Label, is_cut, label_of, names_attempt, read_label
from vastbench.vast.models import LEASE_VARIABLE, Instance

DEADLINE = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
OURS = Label("0123abcd", "20261123T181500-3f9a1c", 2, DEADLINE)

labels = st.builds(
    Label,
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True),
    st.integers(0, 999),
    st.integers(10**9, 10**11 - 1).map(lambda epoch: datetime.fromtimestamp(epoch, UTC)),
)


@given(labels)
@example(Label("0123abcd", "1-2-1790000000", 3, DEADLINE))  # a run's name may look like the rest of a label
def test_what_is_written_is_read_back(label):
    assert read_label(str(label)) == label


def test_a_run_of_ours_has_a_readable_label():
    label = Label("0123abcd", new_run_id(), 1, DEADLINE)
    assert read_label(str(label)) == label


def test_a_label_carries_whole_seconds_and_is_never_too_late():
    label = Label("0123abcd", "run-1", 1, DEADLINE + timedelta(seconds=0.9))
    assert read_label(str(label)).deadline == DEADLINE


def test_the_lifetime_is_reckoned_on_one_clock_however_wrong_it_is():
    assert OURS.lifetime == timedelta(minutes=15)
    assert Label("0123abcd", "run-1", 1, DEADLINE).lifetime == timedelta()


@given(st.text() | labels.map(str).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])))
@example("vb-0123abcd-run-1-01-1790000000")  # there is one way to write each number
@example("vb-0123abcd-run-1-1-0790000000")
def test_a_text_is_either_exactly_the_label_that_it_is_read_as_or_none(text):
    label = read_label(text)
    assert label is None or str(label) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "training",
        f"{OURS}\n",
        f"\n{OURS}",
        f" {OURS}",
        f"{OURS} ",
        f"{OURS}x",
        f"x{OURS}",
        f"{OURS}\x00",
        str(OURS).upper(),
        str(OURS).replace("vb-", "vb_"),
        str(OURS).replace("0123abcd", "0123abcg"),
        str(OURS).replace("0123abcd", "0123abcde"),
        str(OURS).replace("0123abcd", "0123ABCD"),
        str(OURS).replace("0123", "٠١٢٣"),  # digits, but not ours
        str(OURS).replace("-2-", "-２-"),
        str(OURS).replace("-2-", "-1000-"),
        str(OURS).replace("-2-", "-+2-"),
        str(OURS)[:-2],
        f"{OURS}00",
        str(OURS).replace("T181500", "T18 500"),
        str(OURS).replace("T181500", "T18\n500"),
        str(OURS).replace("T181500", "é"),
        f"vb-0123abcd-{'r' * 61}-1-1790000000",
        "vb-0123abcd--1-1790000000",
    ],
)
def test_anybody_elses_label_is_none(text):
    assert read_label(text) is None


@given(labels, st.data())
def test_what_is_left_of_a_label_that_was_cut_is_known(label, data):
    whole = str(label)
    left = whole[: data.draw(st.integers(1, len(whole) - 1))]
    assert is_cut(left, whole)
    assert is_cut(f"{left}…", whole) or left.endswith(".")
    assert not is_cut(whole, whole)
    assert names_attempt(whole, whole)
    assert names_attempt(left, whole) is left.startswith(whole.rpartition("-")[0] + "-")


def test_a_cut_label_with_all_but_a_digit_of_its_date_is_nobodys():
    assert read_label(str(OURS)[:-1]) is None


@pytest.mark.parametrize("shown", [None, "", "…", "...", "theirs", f"x{OURS}", f"{OURS}0"])
def test_anything_else_is_no_label_that_was_cut(shown):
    assert not is_cut(shown, str(OURS))
    assert not names_attempt(shown, str(OURS))


@pytest.mark.parametrize(
    ("shown", "noted", "known_as"),
    [
        (str(OURS), None, str(OURS)),
        (None, None, None),
        (None, str(OURS), str(OURS)),
        ("", str(OURS), str(OURS)),
        (str(OURS)[:12], str(OURS), str(OURS)),
        (str(OURS)[:12] + "…", str(OURS), str(OURS)),
        (str(OURS)[:12], None, str(OURS)[:12]),
        ("training", str(OURS), "training"),
    ],
)
def test_an_instance_is_called_by_its_environment_where_its_label_is_lost(shown, noted, known_as):
    one = Instance.model_validate({"id": 1, "label": shown, "extra_env": [["A", "1"], [LEASE_VARIABLE, noted]]})
    assert label_of(one) == known_as


@pytest.mark.parametrize(
    ("noted", "proven"),
    [
        (str(OURS).replace("-2-", "-3-"), False),
        (str(OURS), True),
        (str(OURS)[:12], True),
        ("********", True),
        ("", True),
        (None, True),
    ],
)
def test_an_environment_speaks_against_a_label_if_it_notes_another(noted, proven):
    one = Instance.model_validate({"id": 1, "label": str(OURS), "extra_env": [[LEASE_VARIABLE, noted]]})
    assert Identity(str(OURS)).proven_by(one) is proven
