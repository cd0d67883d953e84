"""Draws: repeatable, independent of each other, and partly a matter of the machine."""

import math
import statistics

from vastbench.emulator.draws import Fixed, Lognormal, Mixture, Part, Sequence, Stream

SPREAD = Lognormal(kind="lognormal", median=80, sigma=0.5)
SHARED = Lognormal(kind="lognormal", median=80, sigma=0.5, host_share=0.6)


def test_the_same_seed_and_names_draw_the_same() -> None:
    assert Stream(1, "running", 3).draw(SPREAD) == Stream(1, "running", 3).draw(SPREAD)
    assert Stream(1, "running", 3).draw(SPREAD) != Stream(2, "running", 3).draw(SPREAD)
    assert Stream(1, "running", 3).draw(SPREAD) != Stream(1, "running", 4).draw(SPREAD)


def test_a_sequence_is_drawn_in_turn_and_its_last_value_repeats() -> None:
    stream = Stream(1, "status")
    assert [stream.draw(Sequence(kind="sequence", values=(1, 2))) for _ in range(4)] == [1, 2, 2, 2]


def test_a_fixed_value_is_always_the_same() -> None:
    assert Stream(1, "search").draw(Fixed(kind="fixed", value=1.26)) == 1.26


def test_a_lognormal_has_its_median_and_sigma() -> None:
    logs = [math.log(Stream(1, "running", number, machine=number).draw(SHARED)) for number in range(4000)]
    assert abs(statistics.fmean(logs) - math.log(80)) < 0.03
    assert abs(statistics.stdev(logs) - 0.5) < 0.02


def test_a_mixture_draws_its_parts_by_weight() -> None:
    mixture = Mixture(kind="mixture", parts=(Part(weight=9, median=1, sigma=0), Part(weight=1, median=5, sigma=0)))
    values = [Stream(1, "running", number).draw(mixture) for number in range(4000)]
    assert set(values) == {1, 5}
    assert 0.08 < values.count(5) / len(values) < 0.12


def test_each_machine_has_the_share_of_the_variance_set_in_the_profile() -> None:
    pairs = [[math.log(Stream(7, "running", 2 * m + r, machine=m).draw(SHARED)) for r in (0, 1)] for m in range(3000)]
    first, second = zip(*pairs, strict=True)
    assert abs(statistics.correlation(first, second) - 0.6) < 0.05
