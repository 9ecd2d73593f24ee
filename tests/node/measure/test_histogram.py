"""Histograms of fixed buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.measure.histogram import Histogram, quantile


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.read().counts == (2, 2, 1)
    assert histogram.read().total == pytest.approx(6.6)


def test_what_came_after_an_earlier_reading():
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    before = histogram.read()
    histogram.observe(3.0)
    assert histogram.read().since(before).counts == (0, 1)
    assert histogram.read().since(before).total == pytest.approx(3.0)


def test_a_quantile_is_linear_within_its_bucket():
    assert quantile((1.0, 2.0), (0, 10, 0), 0.5) == pytest.approx(1.5)
    assert quantile((1.0, 2.0), (10, 10, 0), 0.5) == pytest.approx(1.0)
    assert quantile((1.0, 2.0), (0, 0, 3), 0.99) == pytest.approx(2.0)
    assert quantile((1.0, 2.0), (0, 0, 0), 0.5) is None


@given(
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=50),
    st.floats(0.0, 1.0),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    bounds = (0.5, 1.0, 2.0, 4.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    found = quantile(bounds, histogram.counts, share)
    rank = share * len(values)
    at = next(i for i in range(1, len(values) + 1) if i >= rank)
    true = sorted(values)[at - 1]
    index = next(i for i, bound in enumerate(bounds) if true <= bound)
    low = bounds[index - 1] if index else 0.0
    assert found is not None
    assert low <= found <= bounds[index]
