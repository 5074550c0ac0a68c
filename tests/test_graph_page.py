"The graph page shows what was visible on a date, and its measures are those of the textbooks"
import html as markup
import json
import re

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, instants, toy_bars, toy_sectors
from gnn_quant.graph import measures as gm
from gnn_quant.graph.events import correlation_events, edges_on, make_events
from gnn_quant.report.graph_page import graph_data, graph_page, shown_dates
from gnn_quant.report.markup import loads

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
    return make_events([0, 1, 0, 1, 2], [1, 2, 1, 3, 3], t, [[.5], [-.2], [.6], [.3], [.9]], list('ABCD'), ['corr']), idx


def test_changes_by_hand():
    e, idx = two_dates()
    c = gm.graph_changes(e, idx, pd.Series(dict(A='X', B='X', C='Y', D='n/a')))
    assert c['edges'].tolist() == [2, 3] and c['new'].tolist() == [0, 2] and c['gone'].tolist() == [0, 1] and c['parts'].tolist() == [2, 1]
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
        got = np.array(d['ties']).reshape(-1, 3)
        names = np.array(data['names'])
        assert names[got[:, 0]].tolist() == want['src'].tolist() and names[got[:, 1]].tolist() == want['dst'].tolist()
        assert np.allclose(got[:, 2] / 1000, want['weight'], atol=6e-4)


def test_what_is_left_out_is_said():
    e = correlation_events(toy_bars(n=8, t=160), window=60, top=3, every=5)
    page = graph_page(e, most=4, most_edges=10)
    assert f'{len(np.unique(e.t)) - 4} of {len(np.unique(e.t))} refreshes are not shown' in page and 'weaker ties of a date are not drawn' in page
    assert len(carried(page)['dates'][0]['ties']) == 30 and 'refreshes are not shown' not in graph_page(e, most=999)
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
    assert graph_data(e, shown_dates(e))['dates'][0]['ties'] == [0, 1, 400]
