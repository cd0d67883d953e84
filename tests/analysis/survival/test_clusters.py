"""How much repeats on one machine say, and what draws whole machines."""

import math

import numpy as np
import pytest

from tests.analysis.published import SKEWED
from vastbench.analysis.survival.clusters import (
    alike,
    cluster_bootstrap,
    design,
    drawn_machines,
    effective_n,
    effective_ns,
    numbered,
    repeated,
)


def clustered(sizes: list[int], between: float, within: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    machine = np.repeat(np.arange(len(sizes)), sizes)
    return np.exp(4 + rng.normal(0, between, len(sizes))[machine] + rng.normal(0, within, len(machine))), machine


def test_the_correlation_is_that_of_the_analysis_of_variance():
    """Three machines of unequal size by hand: between 0.5 and 4 degrees of freedom within, on the logarithm."""
    logs, machine = np.array([1.0, 2, 3, 4, 6, 7, 8]), np.array([1, 1, 2, 2, 3, 3, 3])
    found = design(np.exp(logs), machine)
    means, grand = [1.5, 3.5, 7.0], 31 / 7
    between = sum(size * (mean - grand) ** 2 for size, mean in zip([2, 2, 3], means, strict=True)) / 2
    within = (0.5 + 0.5 + 2.0) / 4
    size = (7 - 17 / 7) / 2
    icc = (between - within) / (between + (size - 1) * within)
    assert found.icc == pytest.approx(icc)
    assert found.design_effect == pytest.approx(1 + (17 / 7 - 1) * icc)
    assert found.effective_n == pytest.approx(7 / found.design_effect)
    assert (found.n, found.machines) == (7, 3)
    assert found.largest_share == pytest.approx(3 / 7)
    assert found.machines < found.n


def test_a_known_share_of_variance_between_machines_is_found():
    found = design(*clustered([10] * 300, 0.3, 0.3, 5))
    assert found.icc == pytest.approx(0.5, abs=0.05)
    assert found.effective_n == pytest.approx(3000 / 5.5, rel=0.1)


def test_machines_that_differ_no_more_than_their_runs_cost_nothing():
    found = design(*clustered([5] * 200, 0.0, 0.3, 6))
    assert found.icc == pytest.approx(0, abs=0.04)
    assert found.effective_n == pytest.approx(1000, rel=0.15)
    assert found.effective_n <= 1000


def test_repeats_that_are_all_the_same_say_as_much_as_the_machines():
    found = design(np.array([10.0, 10, 10, 20, 20, 20, 30, 30, 30]), np.repeat([1, 2, 3], 3))
    assert found.icc == 1
    assert found.effective_n == pytest.approx(3)


def test_without_repeats_every_value_counts():
    for machine in (None, np.arange(5), np.full(5, np.nan)):
        found = design(np.arange(1.0, 6), machine)
        assert (found.machines, found.design_effect, found.effective_n) == (5, 1, 5)
        assert math.isnan(found.icc)
        assert found.machines == found.n


def test_of_one_machine_alone_nothing_is_known_of_others():
    found = design(np.array([10.0, 11, 12]), np.full(3, 7))
    assert (found.machines, found.largest_share) == (1, 1)
    assert math.isnan(found.effective_n)


def test_the_largest_share_is_that_of_one_machine_in_the_successes():
    ended = np.array([10.0, 11, 12, 13, math.inf, math.inf])
    assert design(ended, np.array([1, 1, 2, 3, 4, 5])).largest_share == 0.5
    assert design(ended, np.array([1, 1, 1, 3, 4, 5])).largest_share == 0.75


def test_no_value_and_values_of_0_are_no_trouble():
    nothing = design(np.array([math.inf, math.nan]), np.array([1, 1]))
    assert (nothing.n, nothing.machines, nothing.effective_n) == (0, 0, 0)
    assert math.isnan(nothing.design_effect)
    assert math.isnan(design(np.zeros(4), np.array([1, 1, 2, 2])).effective_n)
    assert math.isnan(design(np.full(4, 9.0), np.array([1, 1, 2, 2])).icc)


def test_a_machine_that_is_not_known_is_one_of_its_own():
    assert numbered(np.array([5, math.nan, 5, math.nan, 9]), 5).tolist() == [0, 2, 0, 3, 1]
    assert numbered(None, 3).tolist() == [0, 1, 2]
    assert repeated(np.array([5, math.nan, 5]))
    assert not repeated(np.array([5, math.nan, math.nan]))
    with pytest.raises(ValueError, match="2 machines are named for 3 values"):
        numbered(np.array([1, 2]), 3)


def test_effective_n_is_n_for_independent_runs_and_0_for_one_machine():
    hit = np.arange(20) < 10
    assert effective_n(hit, None, 0.95).n == 20
    assert effective_n(hit, np.arange(20), 0.95).independent
    alone = effective_n(hit, np.zeros(20), 0.95)
    assert (alone.n, alone.independent) == (0, False)


def test_effective_n_is_below_the_machines_when_they_decide_everything():
    """All or none of the runs of a machine are hits: of 40 machines 40, less what t(39) is wider than t(399)."""
    hit, machine = np.repeat(np.arange(40) % 2 == 0, 10), np.repeat(np.arange(40), 10)
    found = effective_n(hit, machine, 0.95).n
    assert found == pytest.approx(39 * (1.96593 / 2.02269) ** 2, rel=1e-4)


def test_machines_that_decide_nothing_cost_almost_nothing():
    hit, machine = np.tile([True, False], 200), np.repeat(np.arange(40), 10)
    assert 370 < effective_n(hit, machine, 0.95).n <= 400


def test_one_machine_with_half_of_the_runs_counts_for_what_it_is():
    hit, machine = np.tile([True, False], 50), np.where(np.arange(100) < 50, 0, np.arange(100) // 5)
    even = np.arange(100) % 11
    assert effective_n(hit, machine, 0.95).n < 0.6 * effective_n(hit, even, 0.95).n


def test_where_all_pass_the_other_group_tells_how_machines_differ():
    """Ten runs on each of ten machines; one of B's always fails: each machine counts once, less what t(18) is wider."""
    machine = np.repeat(np.arange(10), 10)
    all_pass, one_never = np.ones(100, dtype=bool), machine > 0
    found = effective_ns([(all_pass, machine), (one_never, machine)], 0.95)
    assert found == pytest.approx([10 * (1.98422 / 2.10092) ** 2] * 2, rel=1e-4)
    assert effective_n(all_pass, machine, 0.95).n > 70


def test_where_nothing_varies_each_machine_counts_once():
    machine, all_pass = np.repeat(np.arange(40), 10), np.ones(400, dtype=bool)
    assert max(effective_ns([(all_pass, machine), (~all_pass, machine)], 0.95)) <= 40


def test_groups_without_repeats_count_in_full_and_one_machine_not_at_all():
    hit = np.arange(20) < 10
    assert effective_ns([(hit, None), (hit[:5], np.arange(5))], 0.95) == [20, 5]
    assert effective_ns([(hit, np.zeros(20)), (hit, np.arange(20))], 0.95)[0] == 0
    assert effective_ns([(hit[:0], None), (hit, np.arange(20) % 5)], 0.95)[0] == 0


def test_machines_with_unequal_runs_are_as_good_as_fewer_equal_ones():
    assert alike(np.repeat(np.arange(6), 4)) == 6
    assert alike(np.array([0] * 9 + [1, 2, 3])) == pytest.approx(144 / 84)


def test_the_bootstrap_of_a_mean_has_the_published_percentile_interval():
    """R's boot gives 28.86 to 84.21 for these sixteen numbers."""
    drawn = cluster_bootstrap(np.mean, np.array(SKEWED), None, resamples=20_000, seed=3)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([28.86, 84.21], abs=1)
    assert 2 * np.mean(SKEWED) - np.quantile(drawn, [0.975, 0.025]) == pytest.approx([23.77, 79.12], abs=1)


def test_whole_machines_are_drawn():
    values, machine = np.array([1.0, 1, 1, 5, 5]), np.array(["a", "a", "a", "b", "b"])
    sizes = cluster_bootstrap(len, values, machine, resamples=200)
    assert set(sizes.tolist()) == {4, 5, 6}


def test_columns_stay_together():
    values, machine = np.arange(10.0), np.arange(10) // 2
    assert cluster_bootstrap(lambda a, b: float(abs(2 * a - b).max()), (values, 2 * values), machine, resamples=50).max() == 0


def test_the_variance_over_draws_of_machines_is_that_of_their_means():
    values, machine = clustered([10] * 50, 0.3, 0.3, 7)
    logs = np.log(values)
    drawn = cluster_bootstrap(np.mean, logs, machine, resamples=4000)
    means = logs.reshape(50, 10).mean(axis=1)
    assert drawn.std() == pytest.approx(means.std() / math.sqrt(50), rel=0.05)


def test_neither_batches_nor_anything_but_the_seed_change_what_is_drawn():
    whole, parts = (np.concatenate(list(drawn_machines(7, width, 100, 4))) for width in (1, 1_000_000))
    assert (whole == parts).all()
    assert (whole.sum(axis=1) == 7).all()
    one, other = (cluster_bootstrap(np.mean, np.array(SKEWED), None, seed=seed) for seed in (1, 2))
    assert (one != other).any()


@pytest.mark.parametrize("data", [(np.zeros(3), np.zeros(2)), np.zeros(0)])
def test_data_without_rows_or_with_unequally_many_are_refused(data):
    with pytest.raises(ValueError, match="rows; give at least one"):
        cluster_bootstrap(len, data, None)
