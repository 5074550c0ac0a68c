"The four known leaks are caught where they would be met, and their honest counterparts pass"
import pandas as pd
import pytest

from gnn_quant.core import BadParams, LookAhead, toy_bars
from gnn_quant.data.bars import symbols as symbols_of
from gnn_quant.data.ranking import full_max, load_ranking
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


# ---- the same on the real ranking set

@pytest.fixture(scope='module')
def ranking(shared_data):
    if not (shared_data / 'rsr_nasdaq').is_dir(): pytest.skip('no ranking set among the shared data')
    return load_ranking(shared_data / 'rsr_nasdaq')


@pytest.fixture(scope='module')
def few(ranking):
    "The last 90 days of twelve names of three real industries, and their map as if it had become known on day 60"
    whole = ranking.industry[ranking.mask.all()]
    names = [s for g in ('Major Banks', 'Semiconductors', 'EDP Services') for s in whole.index[whole == g][:4]]
    bars = ranking.bars.loc[:, pd.IndexSlice[:, names]].iloc[-90:]
    return bars, pd.DataFrame({'symbol': names, 'group': whole[names].to_numpy(), 'asof': bars.index[60]})


def test_published_prices_are_divided_by_the_maximum_of_the_whole_period(ranking):
    "So the leak that is kept under the name full_max is the one in the published file, up to one number a name"
    ratio = (ranking.published / full_max(ranking.bars['Close'])).loc[:, ranking.mask.all()]
    assert ratio.shape[1] > 800 and ratio.std().max() < 1e-6 and (ratio.iloc[0] - 1).abs().median() < 1e-6 and ratio.iloc[0].between(.96, 1 + 1e-6).all()


@pytest.mark.parametrize('name', list(LEAKS))
def test_each_leak_is_caught_on_real_prices_and_industries(few, name):
    bars, industries = few
    leak, table = LEAKS[name], industries if LEAKS[name].table else None
    assert is_caught(leak.wrong, leak.kind, bars, table) and not is_caught(leak.right, leak.kind, bars, table)


def test_the_real_industry_map_is_refused_on_days_before_it_was_made(ranking, few):
    bars, industries = few
    names, made = symbols_of(bars), ranking.index[-1] + pd.Timedelta(days=1)
    with pytest.raises(LookAhead, match='no row may use it'): group_events(ranking.industry[list(names)], bars.index, names, asof=made, relation='industry')
    with pytest.raises(LookAhead, match='future_map: .* is gone, its is_sector was 1'): vouched(future_map, bars, Timed(industries, 'asof'))
