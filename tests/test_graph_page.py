"The graph page shows what was visible on a date, and its measures are those of the textbooks"
import html as markup
import json
import re

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, LookAhead, instants, toy_bars, toy_sectors
from gnn_quant.data.load import load_bundle
from gnn_quant.graph import centrality as gm
from gnn_quant.graph.builders import BUILDERS, Builder, build_frames
from gnn_quant.data.events import correlation_events, edges_on, make_events, merge
from gnn_quant.report.graph_page import graph_data, graph_page, refresh_changes, relations_of, seen_on, shown_dates
from gnn_quant.report.markup import loads
from gnn_quant.pipeline.graphs import build_checked, builder_names, offered

FEW = settings(max_examples=15, deadline=None)


def some_edges(seed, n=7, e=12):
    rng = np.random.default_rng(seed)
    src = rng.integers(0, n, e)
    dst = (src + rng.integers(1, n, e)) % n
    names = np.array([f'S{i}' for i in range(n)])
    return pd.DataFrame(dict(src=names[src], dst=names[dst], weight=rng.uniform(-1, 1, e))), list(names)


@FEW
@given(seed=st.integers(0, 999))
def test_centralities_do_not_know_the_order_of_names_or_edges(seed):
    edges, names = some_edges(seed)
    a = gm.centralities(edges, names)
    b = gm.centralities(edges.sample(frac=1, random_state=seed), names[::-1])
    pd.testing.assert_frame_equal(a, b.loc[names], atol=1e-6)


@FEW
@given(seed=st.integers(0, 999))
def test_eigenvector_centrality_is_that_of_the_power_method(seed):
    edges, names = some_edges(seed, e=25)
    g = gm.as_network(edges, names)
    if nx.number_connected_components(g) > 1: return
    want = pd.Series(nx.eigenvector_centrality(g, max_iter=20_000, tol=1e-10, weight='weight'))
    assert np.allclose(gm.centralities(edges, names, ('eigenvector',))['eigenvector'], want.reindex(names), atol=1e-5)


def test_betweenness_goes_the_strong_way():
    "From A to C the two strong ties through B are shorter than the weak direct one"
    edges = pd.DataFrame(dict(src=list('ABA'), dst=list('BCC'), weight=[.9, .9, .1]))
    assert gm.centralities(edges, list('ABC'), ('betweenness',))['betweenness'].tolist() == [0, 1, 0]


def two_dates():
    idx = pd.DatetimeIndex(['2020-01-01', '2020-01-08'])
    t = np.repeat(instants(idx), [2, 3])
    return make_events([0, 1, 0, 1, 2], [1, 2, 1, 3, 3], t, [[.5], [-.2], [.6], [.3], [.9]], list('ABCD'),
                       ['corr']), idx


def test_changes_by_hand():
    e, idx = two_dates()
    c = gm.graph_changes(e, idx, pd.Series(dict(A='X', B='X', C='Y', D='n/a')))
    assert (c['edges'].tolist() == [2, 3] and c['new'].tolist() == [0, 2] and c['gone'].tolist() == [0, 1]
            and c['parts'].tolist() == [2, 1])
    assert np.isnan(c['kept'].iloc[0]) and c['kept'].iloc[1] == 1 / 4
    assert np.allclose(c['strength'], [.35, .6]) and c['same_sector'].tolist() == [.5, 1.]


def test_no_edge_yet_is_not_no_centrality():
    e, idx = two_dates()
    s = gm.centrality_over_time(e, pd.DatetimeIndex(['2019-12-31', *idx]))
    assert s.iloc[0].isna().all() and np.allclose(s.iloc[1], [.5, .7, .2, 0])


def carried(page): return json.loads(markup.unescape(re.search(r'<pre id=data hidden>(.*?)</pre>', page, re.S)[1]))


def test_the_page_carries_the_edges_that_were_visible():
    bars, sectors = toy_bars(n=6, t=120), toy_sectors(6)
    e = correlation_events(bars, window=60, top=2, every=10)
    data = carried(graph_page(e, sectors, most=3))
    assert [d['day'] for d in data['dates']] == [f'{d:%Y-%m-%d}' for d in shown_dates(e, 3)]
    for d in data['dates']:
        want = edges_on(e, d['day'])
        got = np.array(d['ties']).reshape(-1, 4)
        assert (got[:, 3] == 0).all()
        names = np.array(data['names'])
        assert names[got[:, 0]].tolist() == want['src'].tolist() and names[got[:, 1]].tolist() == want['dst'].tolist()
        assert np.allclose(got[:, 2] / 1000, want['weight'], atol=6e-4)


def test_what_is_left_out_is_said():
    e = correlation_events(toy_bars(n=8, t=160), window=60, top=3, every=5)
    page = graph_page(e, most=4, most_edges=10)
    assert (f'{len(np.unique(e.t)) - 4} of {len(np.unique(e.t))} refreshes are not drawn' in page
            and 'weaker ties of a date are not drawn' in page)
    assert len(carried(page)['dates'][0]['ties']) == 40 and 'refreshes are not drawn' not in graph_page(e, most=999)
    assert loads(page) == []


def test_the_same_graph_gives_the_same_page():
    e = correlation_events(toy_bars(n=6, t=120), window=60, top=2)
    assert graph_page(e) == graph_page(e)


def test_one_name_and_no_sector_are_a_page_too():
    e = make_events([0], [1], instants(pd.DatetimeIndex(['2020-01-01'])), [[.4]], ['A', 'B'], ['corr'])
    assert 'sector unknown' in graph_page(e)
    with pytest.raises(BadData, match='no events'): graph_page(make_events([], [], [], [], ['A'], ['corr']))
    with pytest.raises(BadParams): shown_dates(e, 0)
    with pytest.raises(BadParams, match='fame'): gm.centralities(edges_on(e, '2020-01-01'), ['A', 'B'], ('fame',))
    assert graph_data(e, shown_dates(e))['dates'][0]['ties'] == [0, 1, 400, 0]


# --- refreshes, not the dates that happen to be shown ---------------------------------------------

def test_kept_is_asked_of_the_refresh_before_and_not_of_the_date_shown_before():
    "Ties that alternate: nothing is kept from one refresh to the next, everything over two"
    idx = pd.bdate_range('2020-01-01', periods=120, freq='B')
    src, dst = np.tile([0, 2, 0, 1], 60), np.tile([1, 3, 2, 3], 60)
    e = make_events(src, dst, np.repeat(instants(idx), 2), np.full((240, 1), .5), list('ABCD'), ['corr'])
    c = refresh_changes(e)
    assert len(c) == 120 and np.isnan(c['kept'].iloc[0]) and (c['kept'].iloc[1:] == 0).all()
    assert gm.graph_changes(e, idx[::2])['kept'].iloc[1:].eq(1).all(), (
        'the shown dates alone would say that all was kept')
    assert '<td class=n>0.000</td>' in graph_page(e, most=60) and 'counted over all of them' in graph_page(e, most=60)


def test_blocks_of_refreshes_join_without_a_seam():
    e = correlation_events(toy_bars(n=5, t=300), window=30, top=2, every=2)
    rows = pd.DatetimeIndex(np.unique(e.t))
    assert len(rows) > 120
    whole = gm.graph_changes(e, rows, toy_sectors(5))
    pd.testing.assert_frame_equal(
        refresh_changes(e, toy_sectors(5)).set_index('date').rename(columns=dict(pairs='edges'))[whole.columns],
        whole, check_names=False, check_freq=False)


def test_ties_are_directed_and_pairs_are_not():
    e, idx = two_dates()
    both = merge(e, make_events([1], [0], instants(idx[1:]), [[.6]], list('ABCD'), ['corr']))
    c = refresh_changes(both)
    assert c['ties'].tolist() == [2, 4] and c['pairs'].tolist() == [2, 3]
    page = graph_page(both)
    assert 'ties are directed' in page and 'directed ties drawn, between' in page


# --- several relations ----------------------------------------------------------------------------

def several():
    bars = toy_bars(n=6, t=200)
    return bars, merge(build_frames('rolling', bars, window=60, top=2, every=20),
                       build_frames('lead_lag', bars, window=60, top=2, every=30))


def test_each_relation_is_seen_at_its_own_latest_refresh():
    bars, e = several()
    seen = seen_on(e, bars.index[-1])
    for k, (part, w) in relations_of(e).items():
        pd.testing.assert_frame_equal(seen[seen['relation'] == k].drop(columns='relation').reset_index(drop=True),
                                      edges_on(part, bars.index[-1], weight=w), check_like=True)
    assert seen['age'].nunique() == 2 and {w for _, w in relations_of(e).values()} == {'corr', 'lead_corr'}


def test_a_relation_without_a_weight_weighs_one_and_a_merge_can_be_told_apart():
    bars, e = several()
    groups = pd.DataFrame(dict(symbol=list(toy_sectors(6).index), group=toy_sectors(6).to_numpy(), asof=bars.index[0]))
    page = graph_page(merge(e, build_frames('sector', bars, groups, every=20)), most=5)
    data = carried(page)
    assert data['kinds'] == ['rolling', 'lead_lag', 'sector'] and page.count('data-kind=') == 3
    ties = np.array(data['dates'][-1]['ties']).reshape(-1, 4)
    assert set(ties[:, 3]) == {0, 1, 2} and (ties[ties[:, 3] == 2, 2] == 1000).all()


def test_every_measure_can_be_chosen_and_betweenness_of_many_names_is_left_out_and_said():
    page = graph_page(several()[1], most=3)
    assert (re.findall(r'data-mid="(\w+)"', page) == list(gm.CENTRALITIES)
            and page.count('<option value="betweenness"') == 2 and loads(page) == [])
    many = [f'S{i}' for i in range(130)]
    page = graph_page(make_events(range(129), range(1, 130),
                                  np.full(129, instants(pd.DatetimeIndex(['2020-01-01']))[0]), np.ones((129, 1)),
                                  many, ['corr']))
    assert 'Betweenness over time is left out' in page and 'data-mid="betweenness"' not in page


# --- the door of a run ----------------------------------------------------------------------------

def test_one_row_ahead_is_caught_at_stamps_and_passes_between_refreshes(monkeypatch):
    monkeypatch.setitem(BUILDERS, 'ahead',
                        Builder('knows one row', lambda bars, table, **p: correlation_events(bars.shift(-1), **p),
                                ('window', 'top', 'every')))
    d, how = load_bundle('toy'), dict(window=60, top=2, every=20)
    stamps = pd.DatetimeIndex(np.unique(build_frames('ahead', d.bars, **how).t))
    between = d.bars.index[d.bars.index.get_loc(stamps[5]) + 7]
    assert len(build_frames('ahead', d.bars, cuts=[between], **how)), (
        'a cut between two refreshes sees nothing: that is why there are others')
    with pytest.raises(LookAhead, match='ahead: .* stamped'): build_checked(d, ['ahead'], how)
    made = build_checked(d, ['rolling', 'lead_lag'], how)
    for k in ('rolling', 'lead_lag'):
        own = {f'{t:%Y-%m-%d}' for t in pd.DatetimeIndex(relations_of(made.events)[k][0].t)}
        said = made.checks.loc[k, 'passed the door at'].split(', ')
        assert len(said) == 3 and set(said) <= own


def test_a_map_of_a_later_date_is_offered_with_its_caveat_and_what_is_missing_is_said():
    d = load_bundle('toy')
    assert offered(d) == ['rolling', 'ewma', 'partial', 'lead_lag', 'sector']
    made = build_checked(d, builder_names('sector', d), dict(window=60, every=20))
    assert 'look-ahead' in made.caveats[0] and made.checks.loc['sector', 'passed the door at'].startswith('not checked')
    assert 'look-ahead' in graph_page(made.events, d.sectors, caveats=made.caveats, built=made.checks, most=3)
    with pytest.raises(BadParams, match='fundamentals.*table of facts'): builder_names('fundamentals', d)
    with pytest.raises(BadParams, match='is no builder'): builder_names('rolling+friends', d)
    with pytest.raises(BadParams, match='twice'): builder_names('rolling+rolling', d)


def test_the_run_leaves_a_page_that_says_where_each_builder_passed(tmp_settings):
    from gnn_quant.runs.engine import page_of, run
    ingest = run('ingest', {}, tmp_settings, quiet=True)
    r = run('graph', dict(builder='rolling+lead_lag', dates=5, every=40), tmp_settings, quiet=True)
    html = page_of(r).read_text()
    assert (page_of(ingest) is None and page_of(r).name == 'graph.html' and 'passed the door at' in html
            and html.count('data-kind=') == 2)
    assert ({'changes', 'edges', 'centralities'} <= set(r.frames)
            and all(0 <= r.metrics[f'{k} kept'] <= 1 for k in ('rolling', 'lead_lag')) and 'kept' not in r.metrics)
