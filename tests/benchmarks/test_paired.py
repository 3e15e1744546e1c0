"""What differences in turns are worth, on planted figures."""

from __future__ import annotations

import math
import random

import pytest

from support.paired import in_turns, median_interval, paired_difference, paired_ratio


def test_the_interval_is_the_binomials() -> None:
    """Tables of order statistics: of 10 figures the second and ninth hold with 97.9 %."""
    for count, low, high, confidence in ((6, 1, 6, 0.969), (10, 2, 9, 0.979), (20, 6, 15, 0.959), (40, 14, 27, 0.962)):
        values = [float(i) for i in range(1, count + 1)]
        random.Random(0).shuffle(values)
        found = median_interval(values)
        assert (found.low, found.high, found.pairs) == (low, high, count)
        assert found.confidence == pytest.approx(confidence, abs=5e-4)
        assert found.median == (count + 1) / 2


def test_few_figures_say_how_little_they_are_worth() -> None:
    assert median_interval([3.0]).to_dict() == {"median": 3.0, "low": 3.0, "high": 3.0, "confidence": 0.0, "pairs": 1}
    three = median_interval([5.0, 1.0, 2.0])
    assert (three.median, three.low, three.high, three.confidence) == (2.0, 1.0, 5.0, pytest.approx(0.75))
    with pytest.raises(ValueError, match="no figures"):
        median_interval([])


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    source = random.Random(1)
    hits = 0
    for _ in range(2000):
        found = median_interval([math.exp(source.gauss(0, 1)) for _ in range(15)])  # median 1, far from normal
        hits += found.low <= 1.0 <= found.high
    assert found.confidence == pytest.approx(0.965, abs=1e-3)
    assert 0.95 < hits / 2000 < 0.98


def test_pairs_see_through_a_machine_that_slows_down() -> None:
    """B is twice as fast as A throughout, while both become ten times slower: the ratio of means would not tell."""
    source = random.Random(2)
    load = [1 + 9 * i / 29 for i in range(30)]
    a = [20 * slow * source.uniform(0.97, 1.03) for slow in load]
    b = [10 * slow * source.uniform(0.97, 1.03) for slow in load]
    ratio = paired_ratio(a, b)
    assert ratio.low < 2 < ratio.high
    assert ratio.high - ratio.low < 0.05
    # The same figures unpaired: what A took in quiet rounds against B in busy ones.
    unpaired = median_interval([x / y for x, y in zip(a, b[::-1], strict=True)])
    assert unpaired.high - unpaired.low > 2
    assert paired_difference(a, a).median == 0
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0], [])


def test_turns_alternate_and_the_first_are_not_counted() -> None:
    calls: list[str] = []
    times = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=1)
    assert "".join(calls) == "abbaabba"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in times.values() for value in values)
