"""Which runs a study of several conditions makes, and in which order."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.errors import UsageError
from vastbench.record.conditions import Conditions
from vastbench.record.design import Condition, Design

NAMES = ("a", "b", "c", "d")


def design(names=NAMES, repeats=5, **more):
    return Design("s", tuple(Condition(name, Conditions(f"GPU {name}")) for name in names), repeats, **more)


def in_blocks(order, size):
    return [order[at : at + size] for at in range(0, len(order), size)]


def test_every_block_makes_one_run_of_each_condition():
    blocks = in_blocks(list(design().order({})), 4)
    assert [sorted(block) for block in blocks] == [["s.a", "s.b", "s.c", "s.d"]] * 5


def test_the_order_within_blocks_differs_and_follows_from_the_seed():
    blocks = in_blocks(list(design(repeats=20, seed=1).order({})), 4)
    assert len({tuple(block) for block in blocks}) > 5
    assert list(design(seed=1).order({})) == list(design(seed=1).order({}))
    assert list(design(seed=1).order({})) != list(design(seed=2).order({}))


@given(st.dictionaries(st.sampled_from([f"s.{name}" for name in NAMES]), st.integers(0, 5)))
def test_what_is_made_is_not_made_again_and_nothing_is_left_out(made):
    missing = Counter(design().order(made))
    assert {name: missing[name] + made.get(name, 0) for name in design().studies} == dict.fromkeys(design().studies, 5)


def test_a_condition_that_is_added_later_gets_all_its_blocks():
    three = {f"s.{name}": 5 for name in "abc"}
    assert list(design().order(three)) == ["s.d"] * 5
    assert Counter(design(repeats=7).order(three)) == {"s.a": 2, "s.b": 2, "s.c": 2, "s.d": 7}


@pytest.mark.parametrize(
    ("names", "repeats", "told"),
    [
        (("a",), 3, "1 condition, so nothing to compare"),
        (("a", "a"), 3, "two of the name a"),
        (("a", "b b"), 3, "cannot have the name 's.b b'"),
        (("a", "b"), 0, "The number of repeats is 0"),
    ],
)
def test_a_design_that_cannot_be_made_is_refused(names, repeats, told):
    with pytest.raises(UsageError, match=told):
        design(names, repeats)


def test_two_names_for_the_same_condition_are_refused():
    same = Conditions("RTX 4090")
    with pytest.raises(UsageError, match="are the same: old and new"):
        Design("s", (Condition("old", same), Condition("new", same)), 2)
    Design("s", (Condition("old", same), Condition("new", same, "snapshot")), 2)
