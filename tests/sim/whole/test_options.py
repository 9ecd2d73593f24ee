"""Whole nodes run with every setting that a cluster has, and with the shipped ones most often."""

from __future__ import annotations

from collections import Counter

import pytest

from hstore.node.model.commands import ClusterSettings

from .options import draw

_DRAWN = [draw(seed).settings for seed in range(500)]


@pytest.mark.parametrize("name", ClusterSettings.__struct_fields__)
def test_every_setting_of_a_cluster_is_drawn_and_the_shipped_value_most_often(name: str) -> None:
    shipped = getattr(ClusterSettings(), name)
    values = Counter(getattr(settings, name) for settings in _DRAWN)

    assert len(values) > 1
    assert values.most_common(1)[0][0] == shipped
    assert _DRAWN.count(ClusterSettings()) > len(_DRAWN) / 3
