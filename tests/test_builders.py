"""Every builder says only what was known at its stamp, whatever the universe does,
and names decide nothing that places could"""
import itertools

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.covariance import ledoit_wolf

from gnn_quant.core import BadData, BadParams, LookAhead, MissingExtra, instants, toy_bars, toy_sectors
from gnn_quant.data.bars import returns
from gnn_quant.graph import builders as bd, relations as rel, similarity as sim, sparsify as sp
from gnn_quant.data import asof as clock
from gnn_quant.lookahead import builder_check as door
from gnn_quant.data import events as ev
from gnn_quant.graph import fundamentals as filings
from gnn_quant.kernels import correlation as kernels
from gnn_quant.graph import co_mention as news

ARRAYS = ('src', 'dst', 't', 'msg')
FEW = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10_000)
NEW_YORK = '16:00 America/New_York'


def same(a, b):
    return (all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ARRAYS)
            and (a.symbols, a.fields) == (b.symbols, b.fields))
def named(e):
    return sorted((t, e.symbols[s], e.symbols[d], *m) for s, d, t, m in zip(e.src, e.dst, e.t, e.msg.tolist()))
def lists(e):
    "What each node is told at each instant, in order: an index of the most recent k cuts this list off"
    out = {}
    for s, d, t, m in zip(e.src, e.dst, e.t, e.msg.tolist()):
        out.setdefault((t, e.symbols[d]), []).append((e.symbols[s], *m))
    return out


def pairs_of(p): return {tuple(sorted(x)) for x in np.asarray(p).tolist()}


def rough_bars(seed, n=7, t=70):
    "Single gaps, a late listing, a delisting, an unknown name, a constant price, and two names with the same price"
    bars, rng = toy_bars(n=n, t=t, seed=seed), np.random.default_rng(seed)
    close = bars['Close'].copy()
    close.iloc[:, 1:3] = close.iloc[:, 1:3].mask(rng.random((t, 2)) < .01)
    close.iloc[:t // 3, 3] = np.nan
    close.iloc[t // 2:, 0] = np.nan
    close.iloc[:, n - 1] = close.iloc[:, n - 2] * 2
    if n > 7: close.iloc[:, 4], close.iloc[:, 5] = np.nan, 50.
    bars['Close'] = close
    return bars


def tables_for(bars, seed):
    "One table of each kind over the symbols of the bars, some of it later than the bars"
    rng, names, days = np.random.default_rng(seed), list(bars['Close'].columns), bars.index
    pick = lambda k: [names[i] for i in rng.integers(0, len(names), k)]
    when = lambda k, spare=10: days[0] + pd.to_timedelta(
        rng.integers(-20, int((days[-1] - days[0]).days) + spare, k), unit='D')
    groups = pd.concat(
        [pd.DataFrame({'symbol': names, 'group': rng.choice(['X', 'Y', 'n/a'], len(names)),
                       'asof': days[0] - pd.Timedelta('9D')}),
         pd.DataFrame({'symbol': pick(6), 'group': rng.choice(['X', 'Y', 'Z'], 6), 'asof': when(6)})]).drop_duplicates(
             ['symbol', 'asof'])
    items = pd.DataFrame({'item': rng.integers(0, 25, 60),
                          'known': when(60) + pd.to_timedelta(rng.integers(0, 86_400, 60), unit='s'),
                          'symbol': pick(60)})
    ends = pd.date_range(days[0] - pd.Timedelta('200D'), periods=5, freq='60D')
    facts = pd.DataFrame([(s, m, e, e + pd.Timedelta(days=int(rng.integers(1, 60))), rng.normal()) for s in names
                          for m in 'abc' for e in ends if rng.random() < .8], columns=filings.FACT)
    again = facts.sample(frac=.3, random_state=seed).assign(filed=lambda f: f['filed'] + pd.Timedelta('33D'),
                                                            value=lambda f: f['value'] * 2)
    pairs = pd.DataFrame({'src': pick(9), 'dst': pick(9), 'relation': rng.choice(['p', 'q'], 9),
                          'weight': rng.random(9), 'asof': when(9)})
    pairs = pd.concat([pairs, pd.DataFrame({'src': names[:2], 'dst': names[1:3], 'relation': ['p', 'q'],
                                            'weight': 1., 'asof': days[0]})])
    return dict(groups=groups, items=items, facts=pd.concat([facts, again]),
                pairs=pairs[pairs['src'] != pairs['dst']].drop_duplicates(['src', 'dst', 'relation', 'asof']))


CASES = {'rolling': dict(window=20, every=7), 'ewma': dict(window=20, top=2, every=7),
         'partial': dict(window=20, top=2, every=7), 'lead_lag': dict(window=20, lags=3, top=2, every=7),
         'sector': dict(every=9), 'industry': dict(), 'co_mention': dict(close=NEW_YORK),
         'fundamentals': dict(top=2, every=9, least=2), 'pairs': dict(both=False, relations=('p', 'q')),
         'rolling threshold': dict(keep='threshold', min_abs=.3, window=20, every=7),
         'rolling mst': dict(keep='mst', window=20, every=7), 'rolling pmfg': dict(keep='pmfg', window=20, every=7),
         'ewma tmfg': dict(keep='tmfg', window=20, every=7), 'partial mst': dict(keep='mst', window=20, every=7),}
SWEEP = pytest.mark.parametrize('case', CASES)


def make(case, bars, tables, **kw):
    name = case.split()[0]
    kind = bd.BUILDERS[name].table
    return bd.build_frames(name, bars, tables[kind] if kind else None, **{**CASES[case], **kw})


def test_every_builder_and_every_filter_is_swept():
    assert {c.split()[0] for c in CASES} == set(bd.BUILDERS)
    assert {p.get('keep', 'top') for p in CASES.values()} == set(sp.KEEP)


# ---- all builders

@SWEEP
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_the_door_lets_every_builder_in(case, seed):
    bars = rough_bars(seed)
    e = make(case, bars, tables_for(bars, seed), cuts=3)
    assert len(e) and rel.relation_types(e)[1].all()


@SWEEP
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_permuted_symbols_give_the_same_named_events_to_the_last_bit(case, seed):
    bars = rough_bars(seed, n=9)
    tables, perm = tables_for(bars, seed), np.random.default_rng(seed).permutation(9)
    moved = pd.concat({'Close': bars['Close'].iloc[:, perm]}, axis=1)
    assert lists(make(case, moved, tables)) == lists(make(case, bars, tables))
    shuffled = {k: t.sample(frac=1, random_state=seed) for k, t in tables.items()}
    assert lists(make(case, bars, shuffled)) == lists(make(case, bars, tables))


@pytest.mark.parametrize('case', [c for c in CASES if not bd.BUILDERS[c.split()[0]].table])
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3))
@settings(max_examples=3, deadline=None)
def test_the_unit_of_a_price_decides_nothing(case, seed, scale):
    bars = toy_bars(n=6, t=50, seed=seed)
    dear = bars.copy()
    dear['Close', 'BBB'] = bars['Close', 'BBB'] * scale
    a, b = make(case, bars, {}), make(case, dear, {})
    assert_allclose(a.msg, b.msg, atol=1e-4)
    assert all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ('src', 'dst', 't'))


@SWEEP
@given(seed=SEEDS)
@settings(max_examples=3, deadline=None)
def test_a_name_that_is_not_known_has_no_edge_from_prices(case, seed):
    bars = rough_bars(seed, n=9)
    e = make(case, bars, tables_for(bars, seed))
    assert len(e) and np.isfinite(e.msg).all() and (e.src != e.dst).all() and (np.diff(e.t) >= 0).all()
    if bd.BUILDERS[case.split()[0]].table: return
    ends = set(e.src.tolist()) | set(e.dst.tolist())
    assert not ends & {4, 5}, 'an unknown name and a constant price'
    delisted = e.t >= instants(bars.index)[35]
    assert not (set(e.src[delisted].tolist()) | set(e.dst[delisted].tolist())) & {0}
    listed = pd.to_datetime(e.t[(e.src == 3) | (e.dst == 3)])
    assert not len(listed) or listed.min() >= bars.index[70 // 3 + 20]


@SWEEP
def test_universes_of_no_use_are_empty_or_refused(case):
    for bars in (toy_bars(n=1, t=40), toy_bars(n=3, t=40).assign(**{}).pipe(lambda b: b.mask(b > 0)),
                 toy_bars(n=2, t=40)):
        tables = tables_for(toy_bars(n=9, t=40), 0)
        names = list(bars['Close'].columns)
        tables['facts'] = tables['facts'][tables['facts']['symbol'].isin(names)]
        tables['pairs'] = tables['pairs'][tables['pairs'][['src', 'dst']].isin(names).all(axis=1)]
        try: e = make(case, bars, tables)
        except (BadData, LookAhead) as err: assert len(str(err)) > 20
        else: assert e.symbols == tuple(names) and (len(names) > 1 or not len(e))


@SWEEP
def test_one_more_row_adds_events_and_changes_none(case):
    bars = rough_bars(3)
    tables = tables_for(bars, 3)
    full = make(case, bars, tables)
    for cut in bars.index[30::6]: assert same(make(case, bars.loc[:cut], tables).until(cut), full.until(cut))


# ---- the door

def restamp(e, t): return ev.make_events(e.src, e.dst, t, e.msg, e.symbols, e.fields)
def graph(b): return ev.correlation_events(b, window=20, top=2, every=7)


def whole_sample(b):
    e = ev.correlation_events(b, window=len(b) - 1, top=2)
    return restamp(e, np.full(len(e), instants(b.index)[0]))


def month_start(b):
    months = [ev.correlation_events(m, window=len(m) - 1, top=2) for _, m in b.groupby(b.index.to_period('M'))
              if len(m) > 3]
    return ev.merge(*[restamp(e, pd.to_datetime(e.t).to_period('M').start_time) for e in months])


def by_label(b):
    up = (returns(b).shift(-1) > 0).to_numpy()
    t, i, j = np.nonzero((up[:, :, None] == up[:, None, :]) & ~np.eye(up.shape[1], dtype=bool))
    return ev.make_events(i, j, b.index[t], np.ones((len(t), 1)), list(b['Close'].columns), ['agree'])


def weighed_by_label(b):
    e, after = graph(b), returns(b).shift(-1).fillna(0).to_numpy()
    return ev.Events(e.src, e.dst, e.t,
                     e.msg * (1 + after[np.searchsorted(instants(b.index), e.t), e.src, None]).astype(np.float32),
                     e.symbols, e.fields)


def in_another_order(b):
    e, last = graph(b), b['Close'].iloc[-1].rank().to_numpy()
    order = np.lexsort((last[e.src], e.t))
    return ev.Events(e.src[order], e.dst[order], e.t[order], e.msg[order], e.symbols, e.fields)


def standardised(b):
    e = graph(b)
    return ev.Events(e.src, e.dst, e.t, e.msg / e.msg.std(axis=0), e.symbols, e.fields)


@pytest.mark.parametrize('leak',
                         [whole_sample, month_start, by_label, weighed_by_label, in_another_order, standardised])
def test_the_door_names_the_leak(leak):
    bars = toy_bars(n=6, t=70)
    assert len(door.vouched(graph, bars))
    with pytest.raises(LookAhead, match=rf'^{leak.__name__}: ') as err: door.vouched(leak, bars)
    if leak is not in_another_order: assert ' -> ' in str(err.value) and ' stamped 2020-' in str(err.value)
    with pytest.raises(LookAhead, match='^my graph: '): door.vouched(leak, bars, who='my graph', cuts=2)


def test_the_door_says_by_how_much():
    bars = toy_bars(n=6, t=70)
    with pytest.raises(LookAhead) as err: door.vouched(weighed_by_label, bars, cuts=[bars.index[34]])
    e, cut = weighed_by_label(bars), bars.index[34]
    other = weighed_by_label(door.another_future(bars, cut, 'noise'))
    move = np.abs(e.until(cut).msg.astype(float) - other.until(cut).msg)
    k, f = np.unravel_index(move.argmax(), move.shape)
    want = (f'{e.symbols[e.src[k]]} -> {e.symbols[e.dst[k]]} stamped {cut:%Y-%m-%d}: '
            f'its {e.fields[f]} moves by {move.max():.3g}')
    assert want in str(err.value)


def test_the_door_knows_the_times_of_a_table():
    bars = toy_bars(n=6, t=70)
    tables = tables_for(bars, 1)
    names = list(bars['Close'].columns)
    items = tables['items']
    timed = door.Timed(items, 'known', lambda t: clock.visible_from(t, NEW_YORK))
    honest = lambda x: news.co_mention_events(x, names, NEW_YORK)
    by_date = lambda x: news.co_mention_events(x.assign(known=x['known'].dt.normalize()), names, 'exact')
    assert len(door.vouched(honest, timed, cuts=0))
    with pytest.raises(LookAhead, match='^by the date: '): door.vouched(by_date, timed, cuts=0, who='by the date')
    facts = filings.check_facts(tables['facts'])
    filed = door.Timed(facts, 'filed', lambda t: clock.visible_from(t))
    honest = lambda f: filings.fundamental_events(f, bars.index, names, every=3, least=1)
    assert len(door.vouched(honest, filed))
    by_period = lambda f: honest(
        f.sort_values('filed').drop_duplicates(['symbol', 'metric', 'end'], keep='last').assign(
            filed=lambda g: g['end']))
    same_day = lambda f: honest(f.assign(filed=f['filed'] - pd.Timedelta('1D'), end=f['end'] - pd.Timedelta('1D')))
    for leak in (by_period, same_day):
        with pytest.raises(LookAhead, match=r' -> .* stamped'): door.vouched(leak, filed, cuts=0)


def test_a_builder_that_needs_the_future_to_run_is_refused():
    bars = toy_bars(n=4, t=70)
    def hungry(b):
        if len(b) < 70: raise BadData('hungry: too few rows')
        return graph(b)
    with pytest.raises(LookAhead, match='cannot be built from what was known then .hungry: too few rows'):
        door.vouched(hungry, bars)
    with pytest.raises(BadData, match='returned list'): door.vouched(lambda b: [], bars)
    with pytest.raises(BadParams, match='no events to check'):
        door.vouched(lambda b: ev.take(graph(b), slice(0, 0)), bars)
    with pytest.raises(BadParams, match='cuts'): door.vouched(graph, bars, cuts=-1)


# ---- filters

def matrix(seed, n, ties=False, w=40):
    f = np.random.default_rng(seed)
    r = f.normal(size=(w, 3)) @ f.normal(size=(3, n)) + 2 * f.normal(size=(w, n))
    c = ev.weighted_corr(r, np.full(w, 1 / w))
    return np.round(c, 1) if ties else c


@given(seed=SEEDS, n=st.integers(2, 25))
@FEW
def test_the_tree_is_that_of_scipy_and_pmfg_holds_it(seed, n):
    c = matrix(seed, n)
    tree = sp.spanning_tree(c)
    assert pairs_of(tree) == pairs_of(np.argwhere(minimum_spanning_tree(sp.mantegna(c)).toarray() > 0))
    planar = sp.planar_graph(c)
    assert len(pairs_of(planar)) == len(planar) == (3 * (n - 2) if n > 2 else n - 1)
    assert nx.check_planarity(nx.Graph(planar.tolist()))[0] and pairs_of(tree) <= pairs_of(planar)


@given(seed=SEEDS, n=st.integers(3, 12))
@FEW
def test_pmfg_takes_every_pair_that_still_fits(seed, n):
    c, g = matrix(seed, n, ties=True), nx.Graph()
    for a, b in sorted(itertools.combinations(range(n), 2), key=lambda p: (-c[p], p)):
        g.add_edge(a, b)
        if not nx.check_planarity(g)[0]: g.remove_edge(a, b)
    assert pairs_of(sp.planar_graph(c)) == pairs_of(list(g.edges))


def slow_tmfg(c):
    "Massara et al. 2016 by the book: search all faces and all free vertices at every step"
    n = len(c)
    mean = c[np.tril_indices(n, -1)].mean()
    strength = [sum(c[i, j] for j in range(n) if j != i and c[i, j] > mean) for i in range(n)]
    four = sorted(sorted(range(n), key=lambda i: (-strength[i], i))[:4])
    edges, faces, free = (set(itertools.combinations(four, 2)), [tuple(x for x in four if x != y) for y in four],
                          [i for i in range(n) if i not in four])
    while free:
        gain = {(f, v): c[v, face[0]] + c[v, face[1]] + c[v, face[2]] for f, face in enumerate(faces) for v in free}
        f, v = max(gain, key=lambda k: (gain[k], -k[0], -k[1]))
        face = faces[f]
        edges |= {tuple(sorted((x, v))) for x in face}
        new = [tuple(sorted((v, *(x for x in face if x != face[k])))) for k in range(3)]
        faces[f] = new[0]
        faces += new[1:]
        free.remove(v)
    return edges


@given(seed=SEEDS, n=st.integers(4, 20), ties=st.booleans())
@FEW
def test_tmfg_is_the_book_and_planar(seed, n, ties):
    c = matrix(seed, n, ties)
    got = sp.triangulated_graph(c)
    assert len(got) == 3 * (n - 2) == len(pairs_of(got)) and nx.check_planarity(nx.Graph(got.tolist()))[0]
    assert pairs_of(got) == slow_tmfg(c)


@given(seed=SEEDS, ties=st.booleans(), keep=st.sampled_from(sp.KEEP))
@FEW
def test_filters_keep_to_the_rules(seed, ties, keep):
    n, low = 9, .3 if keep == 'threshold' else 0.
    c = matrix(seed, n, ties)
    c[4], c[:, 4] = np.nan, np.nan
    names = np.random.default_rng(seed).permutation(n)
    src, dst = sp.keep_edges(c, names, keep, 2, low)
    assert 4 not in src and 4 not in dst and len(set(zip(src, dst))) == len(src) and (src != dst).all()
    assert (np.diff(dst) >= 0).all() and all((np.diff(np.abs(c[d, src[dst == d]])) >= 0).all() for d in range(n)), (
        'the strongest of a node last')
    if keep != 'top': assert set(zip(src, dst)) == set(zip(dst, src))
    if keep == 'threshold':
        assert set(zip(src, dst)) == {(i, j) for i in range(n) for j in range(n) if i != j and abs(c[i, j]) > .3}
    if keep in ('mst', 'pmfg', 'tmfg'): assert len(src) == 2 * dict(mst=n - 2, pmfg=3 * (n - 3), tmfg=3 * (n - 3))[keep]


def test_filters_refuse(monkeypatch):
    bars = toy_bars(n=5, t=40)
    for kw in (dict(keep='best'), dict(keep='threshold'), dict(keep='mst', min_abs=.2), dict(min_abs=1.),
               dict(min_abs=True), dict(top=0), dict(most=1), dict(kind='pearson'), dict(shrink=.1),
               dict(kind='partial', shrink=1.5), dict(kind='partial', halflife=3.),
               dict(kind='ewma', keep='mst', halflife=-1.), dict(window=2), dict(every=0)):
        with pytest.raises(BadParams, match='similarity_events|correlation_events'):
            sim.similarity_events(bars, **{**dict(window=20), **kw})
    with pytest.raises(BadParams, match="5 symbols, at most 4.*tmfg"):
        sim.similarity_events(bars, keep='pmfg', window=20, most=4)
    with pytest.raises(BadData, match='40 rows hold no window of 40'): sim.similarity_events(bars, 'partial', window=40)
    for kw in (dict(lags=0), dict(window=2), dict(top=0), dict(min_abs=-.1)):
        with pytest.raises(BadParams, match='lead_lag_events'): sim.lead_lag_events(bars, **{**dict(window=20), **kw})
    with pytest.raises(BadData, match='no window of 41'): sim.lead_lag_events(bars, window=38, lags=3)
    import sys
    monkeypatch.setitem(sys.modules, 'networkx', None)
    with pytest.raises(MissingExtra, match='networkx'): sp.planar_graph(matrix(0, 5))


# ---- correlation, partial correlation, lead and lag

@given(seed=SEEDS, n=st.integers(1, 11), w=st.integers(3, 13))
@FEW
def test_products_are_plain_sums(seed, n, w):
    z = np.random.default_rng(seed).normal(size=(w, n))
    want = np.zeros((n, n))
    for s in range(w): want += np.outer(z[s], z[s])
    assert np.array_equal(np.tril(kernels.gram(z)), np.tril(want))


@given(seed=SEEDS, n=st.sampled_from([126, 128, 131, 163]), top=st.sampled_from([1, 5, 15, 16]),
       low=st.sampled_from([0., .3]), ties=st.booleans())
@FEW
def test_the_shortcut_of_the_search_changes_no_answer(seed, n, top, low, ties):
    c = matrix(seed, n, ties, w=12)
    c[5], c[:, 5] = np.nan, np.nan
    c[9] = 0
    names = np.random.default_rng(seed).permutation(n)
    src, dst = kernels.strongest(c, top, names, low)
    want = [(j, i) for i in range(n) for j in sorted((j for j in range(n) if j != i and abs(c[i, j]) > low),
                                                     key=lambda j: (-abs(c[i, j]), names[j]))[:top][::-1]]
    assert list(zip(src.tolist(), dst.tolist())) == want


@given(seed=SEEDS, n=st.sampled_from([1, 2, 5, 8, 130]), w=st.integers(3, 21))
@FEW
def test_one_window_is_the_textbook_sum_in_the_order_of_time(seed, n, w):
    rng = np.random.default_rng(seed)
    r, weight = rng.normal(size=(w, n)), rng.random(w)
    weight /= weight.sum()
    r[:, 0] = .5
    if n > 2: r[1, 2] = np.nan
    mean, cov, square = np.zeros(n), np.zeros((n, n)), np.zeros(n)
    for s in range(w): mean, square = mean + weight[s] * r[s], square + weight[s] * r[s] ** 2
    for s in range(w):
        z = np.sqrt(weight[s]) * (r[s] - mean)
        cov = cov + np.outer(z, z)
    var = np.where(np.diag(cov) > 1e-24 * square, np.diag(cov), np.nan)
    want = np.clip(cov / np.sqrt(np.outer(var, var)), -1, 1)
    assert np.array_equal(kernels.weighted_corr(r, weight), want, equal_nan=True)


@given(seed=SEEDS, n=st.integers(2, 60), w=st.integers(5, 40), shrink=st.sampled_from([0., .05, .5]))
@FEW
def test_partial_correlations_are_those_of_the_inverse(seed, n, w, shrink):
    rng = np.random.default_rng(seed)
    r = rng.normal(size=(w, 1)) + rng.normal(size=(w, n))
    z = (r - r.mean(0)) / r.std(0)
    cov, delta = ledoit_wolf(z, assume_centered=True)
    if shrink: cov, delta = (1 - shrink) * z.T @ z / w + shrink * np.eye(n), shrink
    p = np.linalg.inv(cov)
    want = -p / np.sqrt(np.outer(np.diag(p), np.diag(p)))
    np.fill_diagonal(want, 1)
    assert_allclose(sim.partial_corr(r, shrink), want, atol=1e-8)
    u = z / np.sqrt(w)
    for k in (u @ u.T, u.T @ u):
        assert_allclose(sim.shrinkage(u, k), ledoit_wolf(z, assume_centered=True)[1], atol=1e-9)


def test_a_chain_has_partial_correlation_between_neighbours_only():
    rng, w = np.random.default_rng(0), 4_000
    x = np.zeros((w, 5))
    x[:, 0] = rng.normal(size=w)
    for k in range(1, 5): x[:, k] = .8 * x[:, k - 1] + .6 * rng.normal(size=w)
    p, c = sim.partial_corr(x, 0.), ev.weighted_corr(x, np.full(w, 1 / w))
    apart = np.abs(np.subtract.outer(range(5), range(5))) > 1
    assert np.abs(p[apart]).max() < .06 and c[apart].min() > .35 and p[np.arange(4), np.arange(1, 5)].min() > .4


def test_partial_correlation_of_copies_and_of_nothing():
    r = np.random.default_rng(0).normal(size=(30, 4))
    r[:, 3] = r[:, 2]
    p = sim.partial_corr(r, 0.)
    assert np.isfinite(p).all() and p[2, 3] > .5 and np.abs(p).max() <= 1
    r[:, 1] = .25
    r[4, 0] = np.nan
    q = sim.partial_corr(r, 0.)
    assert np.isnan(q[:2]).all() and np.isnan(q[:, :2]).all() and np.isfinite(q[2:, 2:]).all()
    assert np.isnan(sim.partial_corr(np.full((5, 3), np.nan), 0.)).all()
    assert np.array_equal(sim.partial_corr(r[:, [2]], 0.), [[1.]])


@pytest.mark.parametrize('kind', ['rolling', 'ewma'])
def test_top_is_the_correlation_graph_and_any_filter_keeps_its_numbers(kind):
    bars = rough_bars(1)
    c = ev.correlation_events(bars, 20, 9, 7, kind)
    assert same(sim.similarity_events(bars, kind, window=20, top=9), ev.correlation_events(bars, 20, 9, 5, kind))
    e = sim.similarity_events(bars, kind, 'threshold', 20, every=7, min_abs=.25)
    strong = ev.take(c, c.msg[:, 1] > .25)
    assert named(e) == named(strong) and len(e)


@given(seed=SEEDS, lag=st.integers(0, 4))
@FEW
def test_lagged_correlations_are_those_of_pandas(seed, lag):
    r = pd.DataFrame(np.random.default_rng(seed).normal(size=(24, 5)))
    r.iloc[:, 3] = r.iloc[3, 3]
    r.iloc[2, 4] = np.nan
    got = sim.lagged_corr(r.to_numpy(), np.full(20, 1 / 20), lag)
    for i in range(5):
        for j in range(5):
            lead, late = r[i].iloc[4 - lag:24 - lag].to_numpy(), r[j].iloc[4:].to_numpy()
            if 3 in (i, j) or np.isnan(lead).any() or np.isnan(late).any(): assert np.isnan(got[j, i])
            else: assert_allclose(got[j, i], np.corrcoef(lead, late)[0, 1], atol=1e-12)


@given(seed=SEEDS, lag=st.integers(1, 4), sign=st.sampled_from([-1, 1]))
@FEW
def test_a_planted_lead_is_found_with_its_lag_sign_and_direction(seed, lag, sign):
    bars, rng = toy_bars(n=5, t=120, seed=seed), np.random.default_rng(seed)
    r = returns(bars)['AAA'].shift(lag).fillna(0) * sign + rng.normal(0, .002, 120)
    bars['Close', 'EEE'] = 20 * (1 + r).cumprod()
    e = sim.lead_lag_events(bars, window=60, lags=4, top=1, min_abs=.6)
    lead = e.msg[(e.src == 0) & (e.dst == 4)]
    assert len(lead) == len(range(64, 120, 5)) and (lead[:, 2] == lag).all() and (np.sign(lead[:, 0]) == sign).all()
    assert not ((e.src == 4) & (e.dst == 0)).any()


@given(seed=SEEDS)
@FEW
def test_a_lead_runs_one_way(seed):
    e = sim.lead_lag_events(rough_bars(seed), window=20, lags=3, top=9, every=10)
    at = set(zip(e.t, e.src, e.dst))
    assert len(e) and not at & set(zip(e.t, e.dst, e.src)) and np.isin(e.msg[:, 2], [1, 2, 3]).all()


# ---- types, lists and maps

def test_types_are_numbered_by_the_fields_and_refused_when_they_contradict():
    bars = toy_bars(n=4, t=40)
    e = ev.correlation_events(bars, 20, 1)
    assert rel.relation_types(e)[0] == ('edge',) and not rel.relation_types(e)[1].any()
    a, b = rel.typed(e, 'corr'), rel.typed(e, 'news')
    m = ev.merge(a, e, b)
    names, kind = rel.relation_types(m)
    assert names == ('edge', 'corr', 'news') and np.bincount(kind).tolist() == [len(e)] * 3 and kind.dtype == np.int64
    assert rel.relation_types(ev.take(m, slice(0, 1)))[0] == names and len(rel.of_type(m, 'news')) == len(e)
    for bad in ('is it', '', 3, 'a-b'):
        with pytest.raises(BadParams, match='name='): rel.typed(e, bad)
    with pytest.raises(BadParams, match='typed already'): rel.typed(a, 'news')
    with pytest.raises(BadParams, match='no type'): rel.of_type(m, 'sector')
    two = ev.Events(e.src, e.dst, e.t, np.ones((len(e), 2), np.float32), e.symbols, ('is_a', 'is_b'))
    half = ev.Events(e.src, e.dst, e.t, np.full((len(e), 1), .5, np.float32), e.symbols, ('is_a',))
    for bad, words in ((two, 'is_a=1, is_b=1'), (half, 'is_a=0.5')):
        with pytest.raises(BadData, match=words): rel.relation_types(bad)


DAYS = pd.bdate_range('2020-01-01', periods=30)


def test_pairs_are_dated_both_ways_and_never_doubled():
    p = pd.DataFrame({'src': ['A', 'B'], 'dst': ['B', 'C'], 'asof': [DAYS[3], DAYS[5]]})
    e = rel.static_events(p, DAYS, list('ABC'))
    assert e.fields == ('weight',) and named(e) == [
        (instants(DAYS)[3], 'A', 'B', 1.), (instants(DAYS)[3], 'B', 'A', 1.), (instants(DAYS)[5], 'B', 'C', 1.),
        (instants(DAYS)[5], 'C', 'B', 1.)]
    both = pd.concat([p, p.rename(columns=dict(src='dst', dst='src'))])
    assert (named(rel.static_events(both, DAYS, list('ABC'))) == named(e)
            == named(rel.static_events(both, DAYS, list('ABC'), both=False)))
    one = rel.static_events(p.drop(columns='asof'), DAYS, list('ABC'), asof=DAYS[0], relation='supply', both=False,
                            every=10)
    assert (one.fields == ('weight', 'is_supply')
            and np.unique(one.t).tolist() == instants(DAYS)[[0, 10, 20]].tolist() and len(one) == 6)
    weekend = rel.static_events(p.assign(asof=pd.Timestamp('2020-01-04')), DAYS, list('ABC'))
    assert set(weekend.t) == {ev.as_instant('2020-01-06')}, "Saturday's list is read on Monday"
    late = rel.static_events(p.assign(asof=[DAYS[2], DAYS[-1] + pd.Timedelta('1D')]), DAYS, list('ABC'), both=False)
    assert len(late) == 1
    assert (len(
        rel.static_events(p.assign(asof=pd.Timestamp('2030-01-01')), DAYS, list('ABC'), assume_static=True).until(
            DAYS[0])) == 4)


def test_pairs_refuse():
    p = pd.DataFrame({'src': ['A', 'B'], 'dst': ['B', 'C'], 'asof': DAYS[:2]})
    make = lambda x, **kw: rel.static_events(x, DAYS, list('ABC'), **kw)
    for bad, words in ((p.assign(src=['A', 'Z']), "'Z' is not among"), (p.assign(dst=['A', 'C']), 'to itself'),
                       (p[['src']], 'no columns'), (p.assign(weight=[1, np.nan]), 'no finite weight'),
                       (p.assign(asof=[DAYS[0], pd.NaT]), 'no naive as-of'),
                       (pd.concat([p.assign(weight=1.), p.assign(weight=2.)]), 'two weights')):
        with pytest.raises(BadData, match=words): make(bad)
    with pytest.raises(BadParams, match='date once'): make(p, asof=DAYS[0])
    with pytest.raises(BadParams, match='date once'): make(p.drop(columns='asof'))
    with pytest.raises(BadData, match="'r' is not among p"): make(p.assign(relation='r'), relations=('p',))
    with pytest.raises(LookAhead, match='no row may use it'): make(p.assign(asof=DAYS[-1] + pd.Timedelta('1D')))
    with pytest.raises(BadData, match='no rows'): rel.static_events(p, DAYS[:0], list('ABC'))


def test_after_a_change_everybody_in_the_group_is_told_who_is_in_it():
    g = pd.DataFrame({'symbol': list('ABCDEA'), 'group': list('XXYYYY'), 'asof': [DAYS[0]] * 5 + [DAYS[3]]})
    e = rel.group_events(g, DAYS, list('ABCDE'))
    last = {i: sorted(e.src[(e.dst == i) & (e.t == e.t[e.dst == i].max())].tolist()) for i in range(5)}
    assert last == {0: [2, 3, 4], 1: [0], 2: [0, 3, 4], 3: [0, 2, 4], 4: [0, 2, 3]}


def test_a_map_with_dates_changes_when_it_was_known_to():
    g = pd.DataFrame({'symbol': ['A', 'B', 'C', 'D', 'C'], 'group': ['X', 'X', 'Y', 'n/a', 'X'],
                      'asof': [DAYS[0]] * 4 + [DAYS[10]]})
    e = rel.group_events(g, DAYS, list('ABCD'))
    assert ({(int(t), *sorted((s, d))) for t, s, d in zip(e.t, e.src.tolist(), e.dst.tolist())}
            == {(instants(DAYS)[0], 0, 1), *((instants(DAYS)[10], *p) for p in ((0, 1), (0, 2), (1, 2)))})
    again = rel.group_events(g, DAYS, list('ABCD'), every=8)
    assert ({int(t): int((again.t == t).sum()) for t in np.unique(again.t)}
            == dict(zip(instants(DAYS)[[0, 8, 10, 16, 24]].tolist(), (2, 2, 6, 6, 6))))
    assert rel.group_events(g, DAYS, list('ABCD'), assume_static=True).until(DAYS[0]).src.size == 6
    whole = ev.sector_events(g.iloc[:4].set_index('symbol')['group'], DAYS, list('ABCD'), asof=DAYS[2])
    series = rel.group_events(g.iloc[:4].set_index('symbol')['group'], DAYS, list('ABCD'), asof=DAYS[2])
    assert named(whole) == named(series) and series.fields == ('is_sector',)
    with pytest.raises(LookAhead, match='industry: this map was known on'):
        rel.group_events(g.iloc[:4].assign(asof=pd.Timestamp('2030-01-01')), DAYS, list('ABCD'), relation='industry')


@pytest.mark.parametrize('word', ['n/a', 'N/A ', None, np.nan, '', 'Unknown', 'nan'])
def test_unknown_is_a_type_and_never_a_clique(word):
    names = [f'S{i}' for i in range(12)]
    g = pd.Series(['X', 'X', *[word] * 10], index=names, dtype=object)
    assert len(rel.group_events(g, DAYS, [*names, 'absent'], asof=DAYS[0], relation='industry')) == 2
    assert len(rel.group_events(g, DAYS, names, asof=DAYS[0], relation='industry', every=10)) == 6
    kinds, kind = rel.group_types(rel.dated_map(g, DAYS[0]), [*names, 'absent'], instants(DAYS)[0])
    assert kinds == ('unknown', 'X') and kind.tolist() == [1, 1] + [0] * 11
    ring = ev.make_events(range(12), [*range(1, 12), 0], np.repeat(instants(DAYS)[5], 12), np.ones((12, 1)), names,
                          ['w'])
    marked = rel.typed_by_group(ring, g, asof=DAYS[0])
    assert np.bincount(rel.relation_types(marked)[1], minlength=4).tolist() == [0, 1, 0, 11]
    early = rel.typed_by_group(ring, g, asof=DAYS[9])
    assert np.bincount(rel.relation_types(early)[1], minlength=4).tolist() == [0, 0, 0, 12]
    with pytest.raises(BadParams, match='typed already'): rel.typed_by_group(marked, g, asof=DAYS[0])


def test_maps_refuse():
    g = pd.DataFrame({'symbol': ['A', 'A'], 'group': ['X', 'Y'], 'asof': [DAYS[0]] * 2})
    for bad, words in ((g, 'two groups on one date'), (g.assign(asof=[DAYS[0], pd.NaT]), 'no naive'),
                       (g[['symbol']], 'wanted a Series'), (g.to_numpy(), 'wanted a Series')):
        with pytest.raises(BadData, match=words): rel.group_events(bad, DAYS, list('AB'))
    for kw in (dict(groups=g, asof=DAYS[0]), dict(groups=g.set_index('symbol')['group'])):
        with pytest.raises(BadParams, match='asof'): rel.group_events(index=DAYS, symbols=list('AB'), **kw)


# ---- clock, news and filings

def test_the_clock_of_the_close():
    at = pd.DatetimeIndex(['2020-03-06 21:00', '2020-03-06 21:00:01', '2020-03-09 20:00', '2020-03-09 20:00:01'])
    assert (pd.to_datetime(clock.visible_from(at, NEW_YORK)).strftime('%m-%d').tolist()
            == ['03-06', '03-07', '03-09', '03-10']), 'the clock went forward on 8 March'
    assert pd.to_datetime(clock.visible_from(at)).strftime('%m-%d').tolist() == ['03-07', '03-07', '03-10', '03-10']
    assert (np.array_equal(clock.visible_from(at, 'exact'), instants(at))
            and np.array_equal(clock.visible_from(at.tz_localize('UTC').tz_convert('Asia/Tokyo'), NEW_YORK),
                               clock.visible_from(at, NEW_YORK)))
    assert pd.to_datetime(clock.visible_from(at[:1], NEW_YORK, delay='1s')).day.tolist() == [7]
    table = pd.Series(pd.to_datetime(['2020-03-06 21:00', '2020-03-09 20:00']),
                      pd.to_datetime(['2020-03-06', '2020-03-09']))
    assert (pd.to_datetime(clock.visible_from(at, table)).strftime('%m-%d').tolist()
            == ['03-06', '03-09', '03-09', '03-10'])
    assert pd.to_datetime(clock.visible_from(pd.DatetimeIndex(['2020-03-06']), NEW_YORK)).day.tolist() == [7], (
        'a date counts from the next day')
    for kw in (dict(close='noon'), dict(close=5), dict(delay='-1s')):
        with pytest.raises(BadParams): clock.visible_from(at, **kw)
    with pytest.raises(BadData, match='no time'): clock.visible_from(pd.DatetimeIndex([pd.NaT]))
    with pytest.raises(BadData, match='not sorted'): clock.visible_from(at, table.iloc[::-1])


@given(seed=SEEDS)
@FEW
def test_co_mentions_are_those_of_a_slow_count(seed):
    rng, names = np.random.default_rng(seed), list('ABCDE')
    items = pd.DataFrame(
        {'known': pd.Timestamp('2020-01-02') + pd.to_timedelta(rng.integers(1, 30 * 86_400, 15), unit='s'),
         'symbols': [list(rng.choice([*names, 'Z'], rng.integers(0, 6), replace=True)) for _ in range(15)]})
    e = news.co_mention_events(items, names, most=4, halflife='5D')
    want = []
    for i, r in items.iterrows():
        group = set(r['symbols'])
        if not 2 <= len(group) <= 4: continue
        for a, b in itertools.permutations(sorted(group - {'Z'}), 2):
            strength = sum(.5 ** ((r['known'] - q['known']) / pd.Timedelta('5D')) / (len(set(q['symbols'])) - 1)
                           for _, q in items.iterrows() if {a, b} <= set(q['symbols'])
                           and len(set(q['symbols'])) <= 4 and q['known'] <= r['known'])
            want.append(((r['known'].normalize() + pd.Timedelta('1D')).as_unit('ns').value, a, b,
                         1 / (len(group) - 1), strength))
    got = named(e)
    assert [g[:3] for g in got] == [w[:3] for w in sorted(want)]
    assert_allclose(np.array([g[3:] for g in got]).reshape(-1, 2),
                    np.array([w[3:] for w in sorted(want)]).reshape(-1, 2), rtol=1e-5)


def test_a_story_that_develops_makes_its_later_pairs_later():
    at = pd.to_datetime(['2020-01-06 10:00', '2020-01-06 10:00', '2020-01-08 10:00', '2020-01-09 10:00'])
    items = pd.DataFrame({'item': 'x', 'known': at, 'symbol': ['A', 'B', 'C', 'A']})
    p = news.item_pairs(news.mention_table(items), 10)
    assert (p[['a', 'b', 'share']].to_numpy().tolist() == [['A', 'B', 1.], ['A', 'C', .5], ['B', 'C', .5]]
            and p['known'].dt.day.tolist() == [6, 8, 8])
    assert len(news.item_pairs(news.mention_table(items), 2)) == 1, 'the list grew too long, what was said stays'
    empty = news.co_mention_events(items.iloc[:0], list('AB'))
    assert len(empty) == 0 and empty.fields == ('share', 'strength')


def test_news_refuse():
    good = pd.DataFrame({'item': [1, 1], 'known': pd.to_datetime(['2020-01-06 10:00'] * 2), 'symbol': ['A', 'B']})
    for bad in (good.assign(known=[pd.NaT, pd.NaT]), good.assign(symbol=['A', None]), good[['known']], good.to_numpy()):
        with pytest.raises(BadData, match='items'): news.co_mention_events(bad, list('AB'))
    for kw in (dict(most=1), dict(halflife='0D'), dict(close='noon'), dict(delay='-1h')):
        with pytest.raises(BadParams): news.co_mention_events(good, list('AB'), **kw)


def fact_rows(*rows): return pd.DataFrame(rows, columns=filings.FACT)


def test_a_restatement_counts_from_its_own_filing():
    d = pd.Timestamp
    old, new = ('A', 'm', d('2019-09-30'), d('2019-11-05'), 1.), ('A', 'm', d('2019-12-31'), d('2020-02-10'), 2.)
    f = fact_rows(new, ('A', 'm', d('2019-12-31'), d('2020-03-02'), 9.), old,
                  ('A', 'm', d('2019-09-30'), d('2020-03-09'), 7.))
    books = filings.Books(filings.check_facts(f), ['A'], ['m'])
    seen = [float(books.until(ev.as_instant(t))[0][0, 0]) for t in (
        '2019-11-05', '2019-11-06', '2020-02-10', '2020-02-11', '2020-03-02', '2020-03-03', '2020-03-20')]
    assert np.array_equal(seen, [np.nan, 1, 1, 2, 2, 9, 9], equal_nan=True), (
        'the newest period stays the newest, whichever is restated')


def test_bad_facts_are_set_aside_with_a_reason():
    d = pd.Timestamp
    raw = fact_rows(
        ('A', 'm', d('2019-09-30'), d('2019-11-05'), 1.), ('A', 'm', d('2019-12-31'), d('2019-11-05'), 1.),
        ('A', 'm', d('2019-09-30'), d('2019-11-05'), 1.), ('B', 'm', d('2019-09-30'), d('2019-11-05'), 1.),
        ('B', 'm', d('2019-09-30'), d('2019-11-05'), 2.), (None, 'm', d('2019-09-30'), d('2019-11-05'), 1.),
        ('C', 'm', pd.NaT, d('2019-11-05'), 1.), ('C', 'm', d('2019-09-30'), pd.NaT, 1.),
        ('C', 'm', d('2019-09-30'), d('2019-11-05'), np.inf), ('C', 'm', d('2019-11-05'), d('2019-11-05'), 4.))
    good, bad = filings.clean_facts(raw)
    assert good['symbol'].tolist() == ['A', 'C'] and len(good) + len(bad) == len(raw)
    assert bad['reason'].tolist() == ['end after filed', 'filed twice, same value', 'filed twice, values differ',
                                      'filed twice, values differ', 'no symbol or metric', 'no end date',
                                      'no filed date', 'value is not a number']
    with pytest.raises(BadData, match='A m: end after filed .*8 such rows.*clean_facts'):
        filings.fundamental_events(raw, DAYS, list('ABC'))
    assert len(filings.check_facts(good)) == 2
    with pytest.raises(BadData, match='wanted a frame with columns'): filings.clean_facts(raw.drop(columns='filed'))


@given(seed=SEEDS)
@FEW
def test_similar_books_are_those_of_a_slow_search(seed):
    rng, names = np.random.default_rng(seed), list('ABCDEF')
    ends = pd.to_datetime(['2019-06-30', '2019-09-30', '2019-12-31'])
    f = fact_rows(*[(s, m, e, e + pd.Timedelta(days=int(rng.integers(1, 70))), float(rng.integers(-3, 9)))
                    for s in names for m in 'pqr' for e in ends if rng.random() < .7])
    metrics = {'p': 'p', 'ratio': ('q', 'r')}
    e = filings.fundamental_events(f, DAYS, names, metrics, top=2, every=10, least=1, max_age='150D')
    for t in DAYS[::10]:
        known = f[(f['filed'] < t) & (f['end'] >= t - pd.Timedelta('150D'))]
        filed = f[f['filed'] < t].sort_values(['end', 'filed'])
        newest = filed.drop_duplicates(['symbol', 'metric'], keep='last').set_index(
            ['symbol', 'metric'])
        newest = newest[newest['end'] >= t - pd.Timedelta('150D')]
        x = pd.DataFrame(np.nan, names, list(metrics))
        for s in names:
            if (s, 'p') in newest.index: x.loc[s, 'p'] = newest.loc[(s, 'p'), 'value']
            if {(s, 'q'), (s, 'r')} <= set(newest.index) and newest.loc[(s, 'q'), 'end'] == newest.loc[
                (s, 'r'), 'end'] and newest.loc[(s, 'r'), 'value'] > 0:
                x.loc[s, 'ratio'] = newest.loc[(s, 'q'), 'value'] / newest.loc[(s, 'r'), 'value']
        rank = (x.rank() - 1) / (x.count() - 1).clip(lower=1)
        rank = rank.mask(x.notna() & (x.count() == 1), .5)
        for d in names:
            gap = (rank - rank.loc[d]).abs()
            s = (1 - gap.mean(axis=1)).drop(d).dropna()
            s = s[s > 0].sort_index().sort_values(ascending=False, kind='stable').round(12)
            at = (e.t == ev.as_instant(t)) & (e.dst == names.index(d))
            assert sorted(s.iloc[:2], reverse=True) == pytest.approx(e.msg[at, 0][::-1].tolist(), abs=1e-6)
        assert len(known) >= len(newest)


def test_ranks_are_among_those_known():
    x = filings.rank_columns(np.array([[5., np.nan, 1.], [5., 3., np.nan], [9., np.nan, 2.]]))
    assert np.array_equal(x, [[.25, np.nan, 0], [.25, .5, np.nan], [1, np.nan, 1]], equal_nan=True)


def test_filings_refuse():
    d = pd.Timestamp
    f = fact_rows(('A', 'm', d('2019-09-30'), d('2019-11-05'), 1.), ('B', 'm', d('2019-09-30'), d('2019-11-05'), 1.))
    for kw in (dict(top=0), dict(every=0), dict(least=0), dict(metrics=[]), dict(metrics={'x': ('a', 'b', 'c')}),
               dict(delay='-1D')):
        with pytest.raises(BadParams): filings.fundamental_events(f, DAYS, list('AB'), **kw)
    with pytest.raises(LookAhead, match='first of them was known on'):
        filings.fundamental_events(f.assign(filed=d('2021-01-01')), DAYS, list('AB'))
    assert (len(filings.fundamental_events(f, DAYS, list('AB'), least=2)) == 0
            and len(filings.fundamental_events(f, DAYS, list('AB'), least=1)) == 4)


# ---- by name

def test_names_and_parameters_are_checked():
    bars = toy_bars(n=4, t=40)
    for name, table, params, words in (('granger', None, {}, 'no builder'),
                                       ('ewma', None, dict(kind='rolling'), "no parameter 'kind'"),
                                       ('sector', None, {}, 'table of groups, and got none'),
                                       ('rolling', toy_sectors(4), {}, 'bars alone, and got a table')):
        with pytest.raises(BadParams, match=words): bd.build_frames(name, bars, table, **params)
    with pytest.raises(BadParams, match='no builder wanted'): bd.build_graph(bars, {})
    with pytest.raises(BadParams, match='got none'): bd.build_graph(bars, {'sector': {}})


def test_a_graph_of_everything_is_typed_and_checked():
    bars = toy_bars(n=6, t=70)
    tables = tables_for(bars, 2)
    wanted = {c: CASES[c] for c in bd.BUILDERS}
    e = bd.build_graph(bars, wanted, tables)
    names, kind = rel.relation_types(e)
    assert (set(names) == {'edge', 'p', 'q', *bd.BUILDERS} - {'pairs'} and kind.all()
            and set(kind) == set(range(1, len(names))))
    assert same(e, bd.build_graph(bars, wanted, tables, cuts=1))
    with pytest.raises(LookAhead, match='^sector: .* stamped'):
        bd.build_graph(bars, {'sector': dict(assume_static=True)}, tables, cuts=0)
    own = bd.build_graph(bars, {'sector': {}, 'industry': {}},
                         {'groups': tables['groups'], 'industry': tables['groups'].assign(group='n/a')})
    assert len(rel.of_type(own, 'sector')) and not len(rel.of_type(own, 'industry'))


# ---- real data

def test_real_tweets_make_pairs_that_no_close_saw_early(shared_data):
    path = shared_data / 'news/stocknet_tweets_2014_2015H1.parquet'
    if not path.is_file(): pytest.skip('no StockNet tweets')
    x = pd.read_parquet(path)
    items = pd.DataFrame({'item': pd.factorize(x['created_at'].astype(str) + x['text'])[0],
                          'known': x['created_at'], 'symbol': x['symbol']})
    names = sorted(items['symbol'].unique())
    e = news.co_mention_events(items, names, NEW_YORK)
    assert len(e) > 1_000 and (e.msg > 0).all()
    first = items.groupby('item').agg(known=('known', 'max'), n=('symbol', 'nunique'))
    evening = first[(first['n'] == 2) & (first['known'].dt.tz_convert('America/New_York').dt.hour >= 17)]
    assert len(evening) > 10
    for item in evening.index[:20]:
        pair, day = (sorted(items.loc[items['item'] == item, 'symbol'].unique()),
                     evening.loc[item, 'known'].tz_convert('America/New_York').normalize().tz_localize(None))
        at = (e.t == ev.as_instant(day + pd.Timedelta('1D'))) & (e.src == names.index(pair[0])) & (
            e.dst == names.index(pair[1]))
        assert at.any(), (item, pair, day)
    door.vouched(lambda t: news.co_mention_events(t, names, NEW_YORK),
                 door.Timed(items, 'known', lambda t: clock.visible_from(t, NEW_YORK)), cuts=1, who='tweets')


def test_real_filings_pass_the_door_and_the_bad_ones_are_named(shared_data):
    path = shared_data / 'edgar_fundamentals/edgar_pit.parquet'
    if not path.is_file(): pytest.skip('no EDGAR facts')
    raw = pd.read_parquet(path).rename(columns=dict(ticker='symbol', val='value'))
    assert (filings.clean_facts(raw)[1]['reason'] == 'end after filed').sum() == 29
    names = sorted(raw['symbol'].unique())[:60]
    yearly = raw[raw['symbol'].isin(names) & raw['form'].isin(['10-K', '10-K/A'])
                 & (raw['duration_d'].isna() | raw['duration_d'].between(350, 380))]
    facts, bad = filings.clean_facts(yearly)
    days = pd.bdate_range('2014-01-01', '2015-06-30')
    metrics = {'margin': ('net_income', 'revenue'), 'leverage': ('equity', 'assets'), 'size': 'assets'}
    make = lambda f: filings.fundamental_events(f, days, names, metrics, top=3, every=60, least=2)
    e = door.vouched(make, door.Timed(facts, 'filed', lambda t: clock.visible_from(t)), cuts=2, who='books')
    assert len(e) > 500 and len(np.unique(e.dst)) > 30 and len(bad)
    with pytest.raises(LookAhead, match='^by period: '):
        by_period = lambda f: make(f.assign(filed=f['end']).drop_duplicates(filings.FACT[:3], keep='last'))
        door.vouched(by_period, door.Timed(facts, 'filed', lambda t: clock.visible_from(t)), cuts=3, who='by period')


def test_the_industries_of_the_ranking_set_have_no_clique_of_unknowns(shared_data):
    import json
    path = shared_data / 'rsr_nasdaq/NASDAQ_industry_ticker.json'
    if not path.is_file(): pytest.skip('no NASDAQ industries')
    g = pd.Series({s: k for k, names in json.loads(path.read_text()).items() for s in names})
    e = rel.group_events(g, DAYS, list(g.index), asof=DAYS[0], relation='industry')
    size = g[rel.known_sectors(g, g.index) != np.array(None)].value_counts()
    assert len(e) == (size * (size - 1)).sum() and (g == 'n/a').sum() > 100 and not (g.to_numpy()[e.src] == 'n/a').any()
