"The four known leaks are caught where they would be met, and their honest counterparts pass"
import pandas as pd
import pytest

from gnn_quant.core import BadParams, LookAhead, toy_bars
from gnn_quant.data.bars import symbols as symbols_of
from gnn_quant.evidence.leaks import LEAKS, future_map, is_caught, leak_table, month_graph, sample_graph, toy_changes
from gnn_quant.graph.door import Timed, vouched
from gnn_quant.graph.relations import group_events


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_each_leak_is_caught_and_each_counterpart_passes(seed):
    t = leak_table(toy_bars(6, 90, seed))
    assert len(t) == 4 and t['leak_caught'].all() and t['honest_passes'].all(), t


@pytest.mark.parametrize('name', list(LEAKS))
def test_a_check_that_sees_nothing_would_be_noticed(name, monkeypatch):
    "Blind the check: the table must then say so"
    import gnn_quant.evidence.leaks as leaks
    monkeypatch.setattr(leaks, 'peeks', lambda *a, **k: False)
    monkeypatch.setattr(leaks, 'vouched', lambda f, *s, **k: f)
    assert not leak_table(toy_bars(6, 90)).loc[name, 'leak_caught']


def test_a_months_graph_is_stamped_when_the_month_is_seen_to_be_over():
    bars = toy_bars(6, 90)
    early, late = month_graph(bars, early=True), month_graph(bars)
    first_of = bars.index.to_series().groupby(bars.index.to_period('M')).min().tolist()
    assert set(pd.to_datetime(late.t)) <= set(first_of[1:]) and set(pd.to_datetime(early.t)) <= set(first_of[:-1])
    assert len(early) == len(late) and (early.msg == late.msg).all()
    with pytest.raises(BadParams, match='no whole month'): month_graph(toy_bars(4, 10))


def test_the_door_names_builder_edge_and_date():
    bars = toy_bars(6, 90)
    with pytest.raises(LookAhead, match=r'sample_graph: AAA -> \w+ stamped 2020-01-01'): vouched(sample_graph, bars)
    with pytest.raises(LookAhead, match='future_map: .* stamped 2020-01-01'): vouched(future_map, bars, Timed(toy_changes(bars), 'asof'))


def test_a_dated_map_moves_edges_only_from_its_date_on():
    bars = toy_bars(6, 90)
    moves = toy_changes(bars)
    when = moves['asof'].max()
    e = group_events(moves, bars.index, symbols_of(bars))
    assert set(pd.to_datetime(e.t)) == {bars.index[0], when} and is_caught(LEAKS['future sector map'].wrong, 'edges', bars, moves)
    with pytest.raises(BadParams, match='kind'): is_caught(month_graph, 'weights', bars)
