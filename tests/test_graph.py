"Edges carry when they became known, and no query sees one too early"
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose

from gnn_quant.core import (BadData, BadParams, LookAhead, MissingExtra, instants, peeks, query_instants, toy_bars,
                            toy_sectors)
from gnn_quant.data import events as ev
from gnn_quant.report.graph_drawing import draw_graph
from gnn_quant.graph.sampling.neighbors import NeighborIndex

ARRAYS = ('src', 'dst', 't', 'msg')
FEW = settings(max_examples=15, deadline=None)


def same(a, b):
    return (all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ARRAYS)
            and (a.symbols, a.fields) == (b.symbols, b.fields))


def random_events(seed, n=6, e=40, instants_=8):
    rng = np.random.default_rng(seed)
    src = rng.integers(0, n, e)
    dst = (src + rng.integers(1, n, e)) % n
    return ev.make_events(src, dst, rng.integers(0, instants_, e), rng.normal(size=(e, 2)),
                          [f'S{i}' for i in range(n)], ['a', 'b'])


def gappy(seed, n=7, t=70):
    "Bars with single gaps, a late listing and a delisting"
    bars = toy_bars(n=n, t=t, seed=seed)
    rng, close = np.random.default_rng(seed), bars['Close'].copy()
    close.iloc[:, 1:4] = close.iloc[:, 1:4].mask(rng.random((t, 3)) < .01)
    close.iloc[:t // 3, -1] = np.nan
    close.iloc[t // 2:, 0] = np.nan
    bars['Close'] = close
    return bars


def graph_of(bars, **kw): return ev.correlation_events(bars, **{**dict(window=20, top=2, every=7), **kw})


# ---- events

def test_bad_events_are_refused_by_name():
    e = random_events(0)
    part = {k: getattr(e, k) for k in (*ARRAYS, 'symbols', 'fields')}
    swap = lambda a, i, v: np.r_[a[:i], np.array([v], a.dtype), a[i + 1:]]
    nan = e.msg.copy()
    nan[3, 1] = np.nan
    bad = {'not a numpy array': dict(src=list(e.src)), 'wanted int32': dict(dst=e.dst.astype(np.int64)),
           'wanted int64': dict(t=e.t.astype(float)), 'wanted float32': dict(msg=e.msg.astype(float)),
           'has 39 rows': dict(src=e.src[1:]), 'fields names 1': dict(fields=('a',)),
           'names a twice': dict(fields=('a', 'a')), 'not a tuple': dict(symbols=list(e.symbols)),
           'nodes are 0 .. 5': dict(src=swap(e.src, 2, 6)), r'dst\[2\] is -1': dict(dst=swap(e.dst, 2, -1)),
           'to itself': dict(src=e.dst), 'NaT': dict(t=swap(e.t, 0, np.iinfo(np.int64).min)),
           'earlier than event': dict(t=e.t[::-1].copy()), 'msg of event 3 is not finite': dict(msg=nan)}
    assert same(ev.Events(**part), e)
    for message, change in bad.items():
        with pytest.raises(BadData, match=message): ev.Events(**{**part, **change})


def test_make_events_refuses_before_it_sorts():
    ok = dict(src=[0, 1], dst=[1, 0], t=pd.DatetimeIndex(['2020-01-02', '2020-01-01']), msg=np.zeros((2, 1)),
              symbols=['A', 'B'], fields=['x'])
    assert ev.make_events(**ok).src.tolist() == [1, 0]
    bad = [dict(src=[0]), dict(src=[0, 1, 0]), dict(msg=np.zeros((3, 1))), dict(msg=np.zeros(2)), dict(dst=[1, 2]),
           dict(dst=[1, -1]), dict(dst=[1., 0.]), dict(src=[2**32, 1]), dict(t=['2020-01-02', '2020-01-01']),
           dict(t=pd.DatetimeIndex(['2020-01-02', None])), dict(msg=[[1.], [np.inf]])]
    for b in bad:
        with pytest.raises(BadData): ev.make_events(**{**ok, **b})
    assert len(ev.make_events([], [], [], [], ['A'], ['x'])) == 0


def test_events_cannot_be_written_to_and_leave_the_callers_arrays_alone():
    src = np.array([0], np.int32)
    e = ev.Events(src, np.array([1], np.int32), np.array([5]), np.zeros((1, 1), np.float32), ('A', 'B'), ('x',))
    with pytest.raises(ValueError): e.src[0] = 1
    with pytest.raises(AttributeError): e.src = src
    src[0] = 0
    assert src.flags.writeable and np.shares_memory(src, e.src)


def test_known_by_includes_the_close_of_the_row_and_nothing_after():
    days = pd.bdate_range('2020-01-01', periods=4)
    e = ev.make_events([0, 1, 0, 1], [1, 0, 1, 0], days, np.ones((4, 1)), ['A', 'B'], ['x'])
    assert [len(e.until(d)) for d in days] == [1, 2, 3, 4]
    assert len(e.until(days[0] - pd.Timedelta('1ns'))) == 0 and len(e.until(days[1] + pd.Timedelta('1D'))) == 3
    for bad in ('2020-01-01T00:00Z', pd.NaT):
        with pytest.raises(BadParams, match='naive date'): e.until(bad)


@given(seed=st.integers(0, 10_000))
@FEW
def test_merge_keeps_every_event_and_the_order_of_its_arguments(seed):
    a, b = random_events(seed), random_events(seed + 1)
    b = ev.Events(*(getattr(b, k) for k in ARRAYS), b.symbols, ('b', 'c'))
    m = ev.merge(a, b)
    assert m.fields == ('a', 'b', 'c') and len(m) == len(a) + len(b)
    want = sorted([(t, 0, i) for i, t in enumerate(a.t)] + [(t, 1, i) for i, t in enumerate(b.t)])
    for row, (t, which, i) in enumerate(want):
        e = (a, b)[which]
        assert (m.t[row], m.src[row], m.dst[row]) == (t, e.src[i], e.dst[i])
        assert m.msg[row].tolist() == ([*e.msg[i], 0] if which == 0 else [0, *e.msg[i]])
    assert same(ev.merge(a), a)
    with pytest.raises(BadData, match='different symbols'): ev.merge(a, random_events(seed, n=5))


# ---- correlation

@pytest.mark.parametrize('kind', ['rolling', 'ewma'])
@given(seed=st.integers(0, 10_000))
@FEW
def test_correlations_are_those_of_pandas(kind, seed):
    bars = gappy(seed)
    r = bars['Close'].pct_change(fill_method=None)
    e = graph_of(bars, kind=kind, top=9)
    assert len(e)
    for t in np.unique(e.t):
        i = int(np.searchsorted(instants(bars.index), t))
        win = r.iloc[i - 19:i + 1]
        full = (win.corr() if kind == 'rolling' else win.ewm(halflife=5).corr().loc[win.index[-1]]).to_numpy()
        whole = win.notna().all().to_numpy()
        at = e.t == t
        want = {(s, d) for s in range(7) for d in range(7) if s != d and whole[s] and whole[d]}
        assert set(zip(e.src[at].tolist(), e.dst[at].tolist())) == want
        assert_allclose(e.msg[at, 0], full[e.dst[at], e.src[at]], atol=1e-6)
        assert_allclose(e.msg[:, 1], np.abs(e.msg[:, 0]))


@given(seed=st.integers(0, 10_000), top=st.integers(1, 4), low=st.sampled_from([0., .2]))
@FEW
def test_the_strongest_are_the_strongest(seed, top, low):
    c = np.round(np.random.default_rng(seed).uniform(-1, 1, (8, 8)), 1)
    c[2, :] = np.nan
    names = np.random.default_rng(seed).permutation(8)
    src, dst = ev.strongest(c, top, names, low)
    want = []
    for i in range(8):
        js = (sorted((j for j in range(8) if j != i and abs(c[i, j]) > low),
                     key=lambda j: (-abs(c[i, j]), names[j]))[:top])
        want += [(j, i) for j in js[::-1]]
    assert list(zip(src.tolist(), dst.tolist())) == want


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(['rolling', 'ewma']))
@FEW
def test_permuting_the_symbols_permutes_the_events_to_the_last_bit(seed, kind):
    bars, perm = gappy(seed), np.random.default_rng(seed).permutation(7)
    bars['Close', 'DDD'] = bars['Close', 'EEE'] * 2.
    moved = pd.concat({'Close': bars['Close'].iloc[:, perm]}, axis=1)
    rows = lambda e: sorted((t, e.symbols[s], e.symbols[d], *m)
                            for s, d, t, m in zip(e.src, e.dst, e.t, e.msg.tolist()))
    assert rows(graph_of(moved, kind=kind)) == rows(graph_of(bars, kind=kind))


@given(seed=st.integers(0, 10_000), cut=st.integers(22, 69), kind=st.sampled_from(['rolling', 'ewma']),
       every=st.integers(1, 9))
@FEW
def test_the_future_changes_no_event_of_the_past(seed, cut, kind, every):
    bars = gappy(seed)
    e = graph_of(bars, kind=kind, every=every)
    assert same(e.until(bars.index[cut]), graph_of(bars.iloc[:cut + 1], kind=kind, every=every))
    assert not peeks(lambda b: graph_of(b, kind=kind, every=every), bars, bars.index[cut])


def test_a_longer_history_changes_no_correlation():
    bars = toy_bars(n=6, t=90)
    bars.iloc[3] *= 50
    late = graph_of(bars.iloc[30:], every=1)
    e = graph_of(bars, every=1)
    at = e.t >= late.t[0]
    assert same(ev.take(e, at), late)


@pytest.mark.parametrize('leak',
                         [lambda b: graph_of(pd.concat({'Close': b['Close'].shift(-1)}, axis=1)),
                          lambda b: graph_of(pd.concat({'Close': b['Close'].bfill()}, axis=1)),
                          lambda b: graph_of(b.iloc[::-1].set_axis(b.index)),
                          lambda b: (lambda e: ev.make_events(e.src, e.dst, e.t - 3 * 86_400 * 10**9, e.msg,
                                                              e.symbols, e.fields))(graph_of(b, every=1)),
                          lambda b: (lambda e: ev.make_events(e.src, e.dst, e.t, e.msg - e.msg.mean(0), e.symbols,
                                                              e.fields))(graph_of(b)),],
                         ids=['next row', 'filled backwards', 'time reversed', 'stamped too early',
                              'scaled over the sample'])
def test_planted_leaks_are_caught(leak):
    bars = toy_bars(n=6, t=90)
    bars.loc[bars.index[53:58], ('Close', 'BBB')] = np.nan
    refresh = bars.index[55]
    assert not peeks(graph_of, bars, refresh)
    assert peeks(leak, bars, refresh)


def test_constant_returns_have_no_correlation():
    bars = toy_bars(n=4, t=60)
    bars['Close', 'AAA'] = 50.
    bars['Close', 'BBB'] = 50 * 1.01**np.arange(60)
    e = graph_of(bars)
    assert len(e) and set(e.src) | set(e.dst) == {2, 3}


def test_correlation_events_refuse():
    bars = toy_bars(t=60)
    for kw in (dict(window=2), dict(top=0), dict(every=0), dict(every=2.), dict(kind='pearson'), dict(halflife=5.),
               dict(kind='ewma', halflife=-1.), dict(min_abs=1.), dict(min_abs=-.1)):
        with pytest.raises(BadParams): graph_of(bars, **kw)
    with pytest.raises(BadData, match='hold no window'): graph_of(bars.iloc[:20])
    with pytest.raises(BadData, match='not sorted'): graph_of(bars.iloc[::-1])


# ---- sectors

def test_a_sector_map_is_not_known_before_its_date():
    bars, sectors = toy_bars(n=6, t=60), toy_sectors(6)
    make = lambda **kw: ev.sector_events(sectors, bars.index, list(sectors.index), **kw)
    e = make(asof='2020-02-03')
    assert len(e) == 12 and set(e.t) == {ev.as_instant('2020-02-03')} and (e.msg == 1).all()
    assert {(s, d) for s, d in zip(e.src, e.dst)} == {(d, s) for s, d in zip(e.src, e.dst)}
    assert make(asof='1999-01-01').t[0] == instants(bars.index)[0] == make(asof='2030-01-01', assume_static=True).t[0]
    with pytest.raises(LookAhead, match='assume_static'): make(asof='2030-01-01')
    with pytest.raises(TypeError): ev.sector_events(sectors, bars.index, list(sectors.index))
    again = make(asof='2020-02-03', every=10)
    rows = bars.index.get_indexer(pd.to_datetime(np.unique(again.t)))
    assert rows.tolist() == [23, 33, 43, 53]
    assert not peeks(lambda b: ev.sector_events(sectors, b.index, list(sectors.index), '2020-02-03', every=10),
                     bars, bars.index[40])


def test_unknown_sectors_join_nobody():
    s = pd.Series(['X', None, 'n/a', 'N/A ', '', 'X', np.nan, 'Unknown'], index=list('ABCDEFGH'), dtype=object)
    days = pd.bdate_range('2020-01-01', periods=3)
    e = ev.sector_events(s, days, [*s.index, 'Z'], asof=days[0])
    assert sorted(zip(e.src.tolist(), e.dst.tolist())) == [(0, 5), (5, 0)]
    with pytest.raises(BadData, match='one row a symbol'): ev.known_sectors(pd.concat([s, s]), ['A'])


def test_marks_wait_for_the_map():
    bars, sectors = toy_bars(n=6, t=60), toy_sectors(6)
    e = graph_of(bars)
    m = ev.mark_sectors(e, sectors, asof=bars.index[40])
    equal = sectors.to_numpy()[e.src] == sectors.to_numpy()[e.dst]
    assert (m.msg[:, 2] == (equal & (e.t >= instants(bars.index)[40]))).all() and 0 < m.msg[:, 2].mean() < equal.mean()
    assert (ev.mark_sectors(e, sectors, asof=bars.index[40], assume_static=True).msg[:, 2] == equal).all()
    with pytest.raises(BadParams, match='Mark once'): ev.mark_sectors(m, sectors, asof=bars.index[40])


# ---- neighbours

def brute_force(e, node, time, k):
    at = [i for i in range(len(e)) if e.dst[i] == node and e.t[i] < time]
    return sorted(at, key=lambda i: (-e.t[i], -i))[:k]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), e=st.integers(0, 60), instants_=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_recent_equals_brute_force_and_is_strictly_before(seed, k, e, instants_):
    g = random_events(seed, e=e, instants_=instants_)
    rng = np.random.default_rng(seed)
    nodes, times = rng.integers(0, 6, 30), rng.integers(-1, instants_ + 2, 30)
    got = NeighborIndex(g).recent(nodes, times, k)
    assert (got.t < times[:, None])[got.mask].all() and (got.age[got.mask] >= 1).all()
    for q in range(30):
        want = brute_force(g, nodes[q], times[q], k)
        m = len(want)
        assert got.event[q].tolist() == want + [-1] * (k - m) and got.mask[q].tolist() == [True] * m + [False] * (k - m)
        assert got.nbr[q, :m].tolist() == g.src[want].tolist() and (got.nbr[q, m:] == -1).all()
        assert got.t[q, :m].tolist() == g.t[want].tolist() and (got.age[q, m:] == 0).all()
    assert got.nbr.dtype == got.t.dtype == got.event.dtype == np.int64 and got.mask.dtype == bool


@given(seed=st.integers(0, 10_000))
@FEW
def test_later_events_change_no_earlier_answer(seed):
    g = random_events(seed)
    nodes, times = np.tile(np.arange(6), 9), np.repeat(np.arange(9), 6)
    full = NeighborIndex(g).recent(nodes, times, 4)
    for now in range(9):
        short, at = NeighborIndex(ev.take(g, g.t < now)), times == now
        part = short.recent(nodes[at], times[at], 4)
        for f in ('nbr', 't', 'event', 'mask'): assert np.array_equal(getattr(part, f), getattr(full, f)[at])


def test_the_index_ignores_the_order_of_the_queries():
    g = random_events(3)
    rng = np.random.default_rng(0)
    nodes, times, p = rng.integers(0, 6, 50), rng.integers(0, 9, 50), rng.permutation(50)
    a, b = NeighborIndex(g).recent(nodes, times, 3), NeighborIndex(g).recent(nodes[p], times[p], 3)
    assert np.array_equal(a.event[p], b.event)
    none = NeighborIndex(g).recent(np.array([], int), np.array([], np.int64), 3)
    assert none.nbr.shape == (0, 3)


def test_a_row_sees_its_own_close_and_k_equal_to_top_is_the_last_batch():
    bars = toy_bars(n=6, t=60)
    e = graph_of(bars, top=3)
    row = bars.index[[27]]
    got = NeighborIndex(e).recent(np.arange(6), np.repeat(query_instants(row), 6), 3)
    assert (got.t == instants(row)[0]).all()
    assert (np.diff(e.msg[got.event, 1], axis=1) <= 0).all(), 'strongest first'


def test_recent_refuses():
    ix = NeighborIndex(random_events(0))
    q = (np.array([0]), np.array([5]))
    for nodes, times, k in ((q[0], q[1].astype(float), 2), (q[0], pd.bdate_range('2020', periods=1), 2),
                            (q[0], q[1].astype(np.int32), 2), (q[0].astype(float), q[1], 2), ([6], q[1], 2),
                            ([-1], q[1], 2), ([0, 1], q[1], 2), ([[0]], [[5]], 2)):
        with pytest.raises(BadData, match='recent'): ix.recent(nodes, times, k)
    for k in (0, -1, 2., True):
        with pytest.raises(BadParams, match='k='): ix.recent(*q, k)


# ---- one date, a page, and PyTorch Geometric

def test_edges_on_show_what_the_row_may_see():
    bars, sectors = toy_bars(n=6, t=60), toy_sectors(6)
    e = ev.merge(graph_of(bars), ev.sector_events(sectors, bars.index, list(sectors.index), asof=bars.index[0]))
    day = bars.index[29]
    got = ev.edges_on(e, day, weight='corr')
    assert (len(got) == 12 and (got['age'] == (day - bars.index[27]).days).all()
            and got['weight'].abs().is_monotonic_decreasing)
    assert len(ev.edges_on(e, day, weight='same_sector')) == 12
    wide = ev.edges_on(e, bars.index[40], lookback='60D', weight='corr')
    assert not wide.duplicated(['src', 'dst']).any() and len(wide) >= 12 and wide['age'].nunique() > 1
    assert (ev.edges_on(e, bars.index[10], weight='corr').empty
            and not ev.edges_on(e, bars.index[10], weight='same_sector').empty)
    with pytest.raises(BadParams, match='no field'): ev.edges_on(e, day, weight='news')


def test_draw_graph_shows_every_symbol_and_closes_nothing():
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    bars, sectors = toy_bars(n=6, t=60), toy_sectors(6)
    edges = ev.edges_on(graph_of(bars), bars.index[-1])
    ax = draw_graph(edges, list(sectors.index), sectors.iloc[:5]).axes[0]
    assert ({t.get_text() for t in ax.texts} == set(sectors.index) and len(ax.lines) == len(edges)
            and len(ax.collections) == 3)
    assert plt.get_fignums() == before
    with pytest.raises(BadData, match='not among'): draw_graph(edges, ['AAA'])


def test_temporal_data_there_and_back():
    pytest.importorskip('torch_geometric')
    e = random_events(1)
    d = ev.to_temporal_data(e)
    assert (np.shares_memory(d.t.numpy(), e.t) and np.shares_memory(d.msg.numpy(), e.msg)
            and str(d.src.dtype) == 'torch.int64')
    assert same(ev.from_temporal_data(d, e.symbols, e.fields), e)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_geometric.data', None)
    with pytest.raises(MissingExtra, match='torch_geometric.data: not installed'): ev.to_temporal_data(random_events(1))
