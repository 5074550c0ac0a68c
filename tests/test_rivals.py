"""What one notebook cannot say of the rivals:
the same doors and symmetries for all of them, sums by brute force, kills, strict time"""
import os, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from gnn_quant.core import (BadData, BadParams, CheckpointMismatch, LookAhead, MissingExtra, instants, peeks,
                            query_instants, toy_bars, toy_sectors, toy_symbols)
from gnn_quant.features.registry import make_features
from gnn_quant.data.target import Target, make_target
from gnn_quant.data.events import correlation_events, make_events, merge, take
from gnn_quant.graph.relations import group_events, typed
from gnn_quant.models.tabular import LightGBM, Ridge
from gnn_quant.models.graph_features import (GraphAverage, LightGBMGraph, RidgeGraph, column_names, graph_features,
                                             neighbor_array, relations_by)
from gnn_quant.models.neighborhood import TieRule, around
from gnn_quant.models.recurrent import MLP, Recurrent, Windows
from gnn_quant.models.rules import Constant, GroupReversal, Random, Reversal
from gnn_quant.models.gnn import RGCN, GATv2, Snapshots
from gnn_quant.training.task import feature_array, rank_ic
from gnn_quant.training.walk_forward import make_folds, run_walk_forward

DAY = 86_400 * 10**9
QUICK = dict(width=8, schedule=dict(epochs=2, patience=2, batch_rows=8))
TREES = dict(trees=8, min_leaf=5)
ALL = dict(random=lambda seed=0: Random(seed), constant=lambda seed=0: Constant(seed),
           reversal=lambda seed=0: Reversal('a', seed),
           group_reversal=lambda seed=0: GroupReversal('a', 'is_group', seed=seed), ridge=lambda seed=0: Ridge(),
           lightgbm=lambda seed=0: LightGBM(seed=seed, **TREES), ridge_graph=lambda seed=0: RidgeGraph(),
           lightgbm_graph=lambda seed=0: LightGBMGraph(seed=seed, **TREES),
           graph_average=lambda seed=0: GraphAverage(seed=seed, **TREES),
           mlp=lambda seed=0: MLP(seed=seed, **QUICK), gru=lambda seed=0: Recurrent(window=4, seed=seed, **QUICK),
           lstm=lambda seed=0: Recurrent(cell='lstm', window=4, seed=seed, **QUICK),
           gatv2=lambda seed=0: GATv2(neighbors=3, seed=seed, **QUICK),
           rgcn=lambda seed=0: RGCN(neighbors=3, seed=seed, **QUICK))
GRAPH = [k for k, make in ALL.items() if make().reads_graph]
EVERY = pytest.mark.parametrize('name', list(ALL))


def market(n=6, t=70, seed=0, every=4):
    "Simulated panel: a feature with gaps, a random graph told anew every few rows, and groups that are told on row 3"
    rng, idx, names = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=t, name='date'), toy_symbols(n)
    f = rng.normal(size=(2, t, n))
    f[1][rng.random((t, n)) < .1] = np.nan
    x = pd.concat({k: pd.DataFrame(v, idx, names) for k, v in zip('ab', f)}, axis=1, names=['feature', 'symbol'])
    stamps = np.repeat(np.arange(0, t, every), n)
    dst = np.tile(np.arange(n), len(stamps) // n)
    src = (dst + rng.integers(1, n, len(dst))) % n
    told = typed(make_events(src, dst, instants(idx)[stamps], rng.normal(size=(len(dst), 1)), names, ['corr']), 'corr')
    e = merge(told, group_events(toy_sectors(n).iloc[:-1], idx, names, asof=idx[3], relation='group'))
    return x, e, Target(pd.DataFrame(np.roll(f[0], 1, axis=1) + rng.normal(size=(t, n)), idx, names), horizon=1), idx


@pytest.fixture(scope='module')
def panel(): return market()


@pytest.fixture(scope='module')
def fitted(panel):
    "Every rival, fitted once"
    x, e, y, idx = panel
    return {k: make().fit(x, e, y, idx[:40], idx[42:52]) for k, make in ALL.items()}


def permuted(x, e, p):
    names = [e.symbols[i] for i in p]
    at = np.argsort(p)
    return (pd.concat({f: x[f][names] for f in 'ab'}, axis=1, names=['feature', 'symbol']),
            make_events(at[e.src], at[e.dst], e.t, e.msg, names, e.fields))


# the neighbourhood of a row

def by_hand(v, e, times, rule):
    "The rule read literally, one name and one row at a time"
    out = {k: np.full(v.shape, np.nan) for k in ('mean', 'spread')} | dict(degree=np.zeros(v.shape[:2]))
    for r, now in enumerate(times):
        for i in range(v.shape[1]):
            seen = [p for p in range(len(e)) if e.dst[p] == i and e.t[p] < now]
            if rule.keep == 'last' and seen: seen = [p for p in seen if e.t[p] == e.t[seen[-1]]]
            latest = sorted({e.src[p]: p for p in seen}.values())
            held = [p for p in latest[-rule.neighbors if rule.neighbors else 0:]
                    if not rule.max_age or now - 1 - e.t[p] <= rule.max_age * DAY]
            out['degree'][r, i] = len(held)
            u = np.array([(e.msg[p, e.fields.index(rule.weight)] if rule.weight else 1.)
                          * (.5 ** ((now - 1 - e.t[p]) / DAY / rule.halflife) if rule.halflife else 1.)
                          for p in held])
            for f in range(v.shape[2]):
                w = v[r, e.src[held], f].astype(float) if held else np.zeros(0)
                ok = ~np.isnan(w)
                if np.abs(u[ok]).sum() > 0:
                    m = (u[ok] * w[ok]).sum() / np.abs(u[ok]).sum()
                    out['mean'][r, i, f] = m
                    out['spread'][r, i, f] = np.sqrt(
                        max((np.abs(u[ok]) * w[ok]**2).sum() / np.abs(u[ok]).sum() - m**2, 0))
    return out


@pytest.mark.parametrize('rule', [TieRule(), TieRule(keep='all'), TieRule(neighbors=2), TieRule(2, 'all'),
                                  TieRule(0, 'all', 6.), TieRule(3, 'all', 0., 2.), TieRule(0, 'all', 4., 1., 'w')])
@pytest.mark.parametrize('seed', range(3))
def test_the_neighbourhood_is_what_the_rule_says(rule, seed):
    rng, n, t = np.random.default_rng(seed), 6, 14
    idx = pd.bdate_range('2020-01-01', periods=t)
    v = rng.normal(size=(t, n, 2)).astype(np.float32)
    v[rng.random(v.shape) < .2] = np.nan
    dst = rng.integers(0, n - 1, 70)
    src = (dst + rng.integers(1, n, 70)) % n
    e = make_events(src, dst, instants(idx)[np.sort(rng.integers(0, t, 70))], rng.normal(size=(70, 1)),
                    toy_symbols(n), ['w'])
    a, b = around(v, e, query_instants(idx), rule), by_hand(v, e, query_instants(idx), rule)
    assert np.array_equal(a.degree, b['degree']) and a.degree.max() > 1
    for k in ('mean', 'spread'): assert np.allclose(getattr(a, k), b[k], atol=2e-5, equal_nan=True), k
    some = [0, 3, 4, 11]
    assert np.array_equal(around(v[some], e, query_instants(idx[some]), rule).mean, a.mean[some], equal_nan=True)


def test_an_event_is_heard_at_its_own_close_and_a_nanosecond_later_it_is_not():
    idx, v = pd.bdate_range('2020-01-01', periods=3), np.ones((3, 2, 1), np.float32)
    one = lambda t: make_events([1], [0], np.array([t]), [[1.]], ['A', 'B'], ['w'])
    at = lambda t: around(v, one(t), query_instants(idx)).degree[
        :, 0].tolist()
    t = int(instants(idx)[1])
    assert at(t) == [0, 1, 1] and at(t + 1) == [0, 0, 1]


def test_a_clique_is_heard_whole():
    n, idx = 300, pd.bdate_range('2020-01-01', periods=4)
    g = group_events(pd.Series('g', toy_symbols(n)), idx, toy_symbols(n), asof=idx[0])
    v = np.random.default_rng(0).normal(size=(4, n, 3)).astype(np.float32)
    a = around(v, g, query_instants(idx))
    assert (len(g) == n * (n - 1) and (a.degree == n - 1).all()
            and np.allclose(a.mean, (v.sum(1, keepdims=True) - v) / (n - 1), atol=1e-6))


# columns

def test_columns_are_named_in_the_order_of_the_array(panel):
    x, e, y, idx = panel
    g = graph_features(x, e)
    assert (list(g.columns.unique(0)) == column_names(['a', 'b'], ('corr', 'group'))
            and list(g.columns.unique(1)) == list(e.symbols))
    assert np.allclose(g['a less group'], g['a'] - g['a mean group'], equal_nan=True, atol=1e-6)
    assert np.array_equal(feature_array(g),
                          neighbor_array(feature_array(x), e, query_instants(idx), ('corr', 'group')),
                          equal_nan=True)
    assert g['degree group'].iloc[2].eq(0).all() and g['degree group'].iloc[3].tolist() == [2, 2, 2, 1, 1, 0]


def test_a_name_of_which_nothing_is_known_gets_no_columns(panel):
    x, e, y, idx = panel
    x = x.copy()
    x.loc[idx[30], pd.IndexSlice[:, 'AAA']] = np.nan
    row = graph_features(x, e).loc[idx[30]]
    assert row.xs('AAA', level=1).isna().all() and row.xs('BBB', level=1)['degree group'] == 2
    assert np.isclose(row['a mean group']['BBB'], x['a']['CCC'].loc[idx[30]])


def test_a_relation_that_begins_after_training_is_left_out(panel):
    x, e, y, idx = panel
    new = typed(make_events([0, 1], [1, 0], idx[[45, 45]], [[1.], [1.]], e.symbols, ['corr']), 'merger')
    both = merge(e, new)
    assert (relations_by(both, idx[44]) == ('corr', 'group')
            and relations_by(both, idx[45]) == ('corr', 'group', 'merger'))
    m = RidgeGraph().fit(x, both, y, idx[:40], idx[42:52])
    assert m.relations == ('corr', 'group') and m.predict(x, both, idx[54:]).notna().all(axis=None)
    assert relations_by(take(both, slice(0, 0)), idx[5]) == ('edge',)


def test_graph_columns_refuse_what_they_do_not_know(panel):
    x, e, y, idx = panel
    for call, says in (
        (lambda: graph_features(x, e, relations=('sector',)),
         "no relation 'sector', the events have edge, corr, group"),
        (lambda: graph_features(x, e, parts=('median',)), 'parts='),
        (lambda: graph_features(x, e, TieRule(weight='beta')), "no message column 'beta'"),
        (lambda: RidgeGraph(parts=()), 'parts='), (lambda: LightGBMGraph(keep='some'), "keep='some'"),
        (lambda: GraphAverage(max_age=-1.), 'max_age=-1'), (lambda: GraphAverage(halflife=np.nan), 'halflife=nan')):
        with pytest.raises(BadParams, match=says): call()
    with pytest.raises(BadData, match='another order'):
        graph_features(x, make_events(e.src, e.dst, e.t, e.msg, e.symbols[::-1], e.fields))


def test_the_average_is_the_average_of_the_ranks(panel, fitted):
    x, e, y, idx = panel
    both = [fitted[k].predict(x, e, idx[54:]).rank(axis=1, pct=True) for k in ('ridge_graph', 'lightgbm_graph')]
    assert np.allclose(fitted['graph_average'].predict(x, e, idx[54:]), sum(both) / 2)


# all rivals through the same doors

@EVERY
def test_every_rival_keeps_the_contract(name, panel, fitted):
    x, e, y, idx = panel
    m = fitted[name]
    s = m.predict(x, e, idx[54:])
    assert (m.name == name and m.params['model'] == name
            and all(isinstance(v, (str, int, float, bool)) for v in m.params.values()))
    assert s.index.equals(idx[54:]) and list(s.columns) == list(e.symbols) and s.notna().all(axis=None)
    assert (list(m.history.columns[:3]) == ['epoch', 'train_loss', 'valid_ic']
            and np.isfinite(m.history[['epoch']]).all(axis=None))
    again = ALL[name]().fit(x, e, y, idx[:40], idx[42:52])
    assert again.predict(x, e, idx[54:]).equals(s) and again.history.equals(m.history)


@pytest.mark.parametrize('name', ['random', 'lightgbm', 'lightgbm_graph', 'mlp', 'gru', 'lstm', 'gatv2', 'rgcn'])
def test_another_seed_is_another_model(name, panel, fitted):
    x, e, y, idx = panel
    assert not ALL[name](1).fit(x, e, y, idx[:40], idx[42:52]).predict(x, e, idx[54:]).equals(
        fitted[name].predict(x, e, idx[54:]))


@EVERY
def test_every_rival_refuses_what_it_cannot_learn_from(name, panel, fitted):
    x, e, y, idx = panel
    fit = lambda x=x, e=e, y=y, train=idx[:40], valid=idx[42:52]: ALL[name]().fit(x, e, y, train, valid)
    with pytest.raises(BadData, match='no feature is known'): fit(x=x * np.nan)
    with pytest.raises(BadData, match='two known labels'): fit(y=Target(y.frame * np.nan, 1))
    with pytest.raises(LookAhead, match='1 rows between'): fit(train=idx[:41])
    with pytest.raises(BadData, match='another order'):
        fit(e=make_events(e.src, e.dst, e.t, e.msg, e.symbols[::-1], e.fields))
    with pytest.raises(BadParams, match='not fitted'): ALL[name]().predict(x, e, idx)
    with pytest.raises(BadData, match='fitted on features a, b'):
        fitted[name].predict(x.rename(columns=dict(b='z'), level=0), e, idx[54:])
    with pytest.raises(BadData, match='symbols'): fitted[name].predict(x.drop(columns='CCC', level=1), e, idx[54:])
    one = x.loc[:, pd.IndexSlice[:, ['AAA']]]
    with pytest.raises(BadData, match='two known labels'):
        fit(x=one, e=make_events([], [], [], np.zeros((0, 3)), ['AAA'], e.fields), y=Target(y.frame[['AAA']], 1))


@pytest.mark.parametrize('name', GRAPH)
def test_a_graph_model_wants_a_graph_like_the_one_it_learned(name, panel, fitted):
    x, e, y, idx = panel
    with pytest.raises(BadData, match='no events'): ALL[name]().fit(x, None, y, idx[:40], idx[42:52])
    with pytest.raises(BadData, match='no events'): fitted[name].predict(x, None, idx[54:])
    with pytest.raises(BadData, match='fitted on events corr, is_corr, is_group; got corr'):
        fitted[name].predict(x, make_events(e.src, e.dst, e.t, e.msg[:, :1], e.symbols, ['corr']), idx[54:])


@EVERY
def test_the_universe_may_change_between_fit_and_predict(name, fitted):
    x, e, y, idx = market(n=8, seed=3)
    s = fitted[name].predict(x, e, idx[54:])
    assert s.shape == (len(idx) - 54, 8) and s.notna().all(axis=None)
    one = x.loc[:, pd.IndexSlice[:, ['AAA']]]
    alone = fitted[name].predict(one, make_events([], [], [], np.zeros((0, 3)), ['AAA'], e.fields), idx[54:])
    assert alone.notna().all(axis=None) and (name in ('random', 'constant', 'reversal', *GRAPH)
                                             or np.allclose(alone['AAA'], s['AAA'], atol=1e-5))


@EVERY
def test_an_empty_graph_and_unknown_names_are_defined(name, panel):
    x, e, y, idx = panel
    x, nobody = x.copy(), take(e, slice(0, 0))
    x.loc[idx[60]:, pd.IndexSlice[:, 'CCC']] = np.nan
    s = ALL[name]().fit(x, nobody, y, idx[:40], idx[42:52]).predict(x, nobody, idx[54:])
    assert (s['CCC'].iloc[6:].isna().all() and s.drop(columns='CCC').notna().all(axis=None)
            and s['CCC'].iloc[:6].notna().all())


@EVERY
def test_relabelled_names_get_relabelled_scores(name, panel, fitted):
    x, e, y, idx = panel
    p = np.random.default_rng(1).permutation(6)
    a, b = fitted[name].predict(x, e, idx[54:]), fitted[name].predict(*permuted(x, e, p), idx[54:])
    assert np.allclose(b[list(a.columns)], a, atol=1e-5) and list(b.columns) != list(a.columns)
    assert name == 'constant' or a.to_numpy().std() > 0


@EVERY
def test_no_rival_knows_what_came_after(name):
    bars = toy_bars(n=6, t=130)
    idx = bars.index
    def scores(b, lead=0, early=0):
        e = merge(typed(correlation_events(b, window=20, top=2), 'corr'),
                  group_events(toy_sectors(6), b.index, toy_symbols(6), asof=b.index[0], relation='group'))
        e = make_events(e.src, e.dst, e.t - early * DAY, e.msg, e.symbols, e.fields)
        x = make_features(b, ['ret_1', 'vol_20']).rename(columns=dict(ret_1='a', vol_20='b'), level=0).shift(-lead)
        return ALL[name]().fit(x, e, make_target(b, 1), idx[25:75], idx[78:90]).predict(x, e, x.index[92:-lead or None])
    cut = idx[110]
    assert not peeks(scores, bars, cut)
    if name not in ('random', 'constant'): assert peeks(lambda b: scores(b, lead=1), bars, cut, how=('noise',))
    if name in ('ridge_graph', 'graph_average', 'gatv2', 'rgcn'):
        assert peeks(lambda b: scores(b, early=7), bars, cut, how=('noise',))


@EVERY
def test_a_score_does_not_depend_on_which_rows_are_asked(name, panel, fitted):
    x, e, y, idx = panel
    whole = fitted[name].predict(x, e, idx[20:])
    assert np.allclose(fitted[name].predict(x, e, idx[[33, 40, 61]]), whole.loc[idx[[33, 40, 61]]], atol=1e-5)
    assert np.allclose(fitted[name].predict(x.iloc[:45], e, idx[43:45]), whole.loc[idx[43:45]], atol=1e-5)


# rules

def test_a_random_score_belongs_to_seed_date_and_symbol():
    x, e, y, idx = market(n=40, t=300)
    s = Random(7).fit(x, e, y, idx[:40], idx[42:52]).predict(x, e, idx)
    few = x.loc[:, pd.IndexSlice[:, ['CCC', 'AAA']]]
    assert Random(7).fit(few, None, Target(y.frame[['CCC', 'AAA']], 1), idx[:40], idx[42:52]).predict(
        few, None, idx[5:9]).equals(s[['CCC', 'AAA']].iloc[5:9])
    v = s.to_numpy()
    assert (len(np.unique(v)) == v.size and 0 <= v.min() < .01 and .99 < v.max() < 1 and abs(v.mean() - .5) < .01
            and abs(v.std() - 12**-.5) < .005)
    assert (abs(rank_ic(s, y.frame).mean()) < 4 / np.sqrt(39 * 300)
            and abs(s.corr().to_numpy()[np.triu_indices(40, 1)].mean()) < .01)
    assert abs(np.corrcoef(v[:-1].ravel(), v[1:].ravel())[0, 1]) < .03
    for bad in (-1, 2**32):
        with pytest.raises(BadParams, match='seed'): Random(bad)


def test_a_constant_has_no_ic_and_says_so(panel, fitted, tmp_path):
    x, e, y, idx = panel
    assert (rank_ic(fitted['constant'].predict(x, e, idx), y.frame).isna().all()
            and np.isnan(fitted['constant'].history['valid_ic'][0]))
    walk = lambda: run_walk_forward(ALL['constant'], x, e, y, make_folds(idx, 2, 24, 8, 10), checkpoint_dir=tmp_path)
    a, b = walk(), walk()
    assert a.scores.equals(b.scores) and b.history['valid_ic'].isna().all()


def test_reversal_is_the_feature_upside_down(panel, fitted):
    x, e, y, idx = panel
    assert np.allclose(fitted['reversal'].predict(x, e, idx), -x['a'].astype('float32'))
    m = Reversal('b').fit(x, e, y, idx[:40], idx[42:52])
    assert m.predict(x, e, idx).isna().equals(x['b'].isna().rename_axis(columns='symbol'))
    with pytest.raises(BadParams, match="no feature 'ret_1' among a, b"): Reversal().fit(x, e, y, idx[:40], idx[42:52])
    with pytest.raises(BadParams, match="no message column 'is_sector', the events have corr, is_corr, is_group"):
        GroupReversal('a', 'is_sector').fit(x, e, y, idx[:40], idx[42:52])


def test_group_reversal_is_pandas_by_group_and_market_where_there_is_none(panel):
    x, e, y, idx = panel
    s = GroupReversal('b', 'is_group').fit(x, e, y, idx[:40], idx[42:52]).predict(x, e, idx)
    groups, b = toy_sectors(6).where(lambda g: g.index != 'FFF'), x['b'].astype('float32')
    mean = b.T.groupby(groups).transform('mean').T.reindex(columns=b.columns)
    others = b.notna().astype(float).T.groupby(groups).transform('sum').T.reindex(columns=b.columns) - b.notna() > 0
    want = -(b - mean.where(others & (np.arange(len(idx)) >= 3)[:, None], b.mean(axis=1), axis=0))
    assert np.allclose(s, want, atol=1e-6, equal_nan=True) and others['DDD'].any() and not others['DDD'].iloc[3:].all()


# networks

def test_windows_hold_the_rows_up_to_the_one_that_asks():
    x = np.random.default_rng(0).normal(size=(9, 3, 2)).astype(np.float32)
    x[4, 1] = np.nan
    w, = Windows(x, 4).batch(np.array([1, 8, 5]))
    w = w.view(4, 3, 3, 4)
    for b, row in enumerate((1, 8, 5)):
        for k in range(4):
            want = x[row - 3 + k] if row - 3 + k >= 0 else np.full((3, 2), np.nan)
            assert (np.array_equal(w[k, b, :, :2], np.nan_to_num(want))
                    and np.array_equal(w[k, b, :, 2:], ~np.isnan(want)))


def test_snapshots_are_the_most_recent_events_of_each_relation_before_the_query(panel):
    x, e, y, idx = panel
    a = Snapshots(feature_array(x), instants(idx), e, e.msg, 3).edges(np.array([2, 9, 40]))
    got = sorted(zip(a.index[1].tolist(), a.index[0].tolist(), a.tie[:, 0].tolist(), a.kind.tolist()))
    want = []
    for b, row in enumerate((2, 9, 40)):
        for i in range(6):
            for kind in (1, 2):
                seen = [p for p in range(len(e))
                        if e.dst[p] == i and e.t[p] <= instants(idx)[row] and e.msg[p, kind]][-3:]
                want += [(b * 6 + i, b * 6 + int(e.src[p]), float(e.msg[p, 0]), kind) for p in seen]
    assert got == sorted(want)


def test_graph_layers_are_the_formulas(fitted):
    g = torch.Generator().manual_seed(0)
    h, index, tie, kind = (torch.randn(5, 8, generator=g), torch.tensor([[1, 2, 3, 0, 4], [0, 0, 0, 1, 1]]),
                           torch.randn(5, 4, generator=g), torch.tensor([1, 1, 2, 0, 2]))
    from gnn_quant.models.gnn import EdgeArrays
    edges = EdgeArrays(index, tie, kind)
    gat, rgcn = fitted['gatv2'].net, fitted['rgcn'].net
    with torch.no_grad():
        layer, said = gat.layers[0], gat.hear(gat.layers[0], h, edges)
        for i in (0, 1):
            at = (index[1] == i).nonzero()[:, 0]
            left, right, t = (layer.lin_l(h[index[0, at]]).view(-1, 2, 4), layer.lin_r(h[i]).view(1, 2, 4),
                              layer.lin_edge(tie[at]).view(-1, 2, 4))
            w = (torch.nn.functional.leaky_relu(left + right + t, .2) * layer.att).sum(-1).softmax(0)
            assert torch.allclose(said[i], (w[..., None] * left).sum(0).view(-1), atol=1e-6)
        assert (said[2:] == 0).all()
        layer, said = rgcn.layers[0], rgcn.hear(rgcn.layers[0], h, edges)
        assert torch.allclose(said[0], (h[[1, 2]].mean(0) @ layer.weight[1]) + h[3] @ layer.weight[2], atol=1e-6)
        assert (torch.allclose(said[1], h[0] @ layer.weight[0] + h[4] @ layer.weight[2], atol=1e-6)
                and (said[2:] == 0).all())


@pytest.mark.parametrize('name', ['mlp', 'gru', 'gatv2', 'rgcn'])
def test_networks_learn_several_horizons_and_a_spread(name, panel):
    x, e, y, idx = panel
    far = Target(y.frame.rolling(3).sum().shift(-2), 3)
    m = ALL[name]()
    m = type(m)(**{k: getattr(m.how, k) for k in m.how.__dataclass_fields__}
                | dict(loss='nll', horizon_weights=(2., 1.)))
    with pytest.raises(LookAhead, match='needs 4 rows'): m.fit(x, e, (y, far), idx[:40], idx[42:52])
    m.fit(x, e, (y, far), idx[:36], idx[42:52])
    assert list(m.net.parameters())[-1].shape == (4,) and m.predict(x, e, idx[54:]).notna().all(axis=None)
    with pytest.raises(BadParams, match='for 1 targets'): m.fit(x, e, y, idx[:36], idx[42:52])


def test_networks_refuse_parameters_that_make_no_sense():
    for make in (lambda: MLP(layers=0), lambda: MLP(dropout=1.), lambda: Recurrent(cell='rnn'),
                 lambda: Recurrent(window=0), lambda: GATv2(neighbors=0), lambda: RGCN(heads=2),
                 lambda: MLP(loss='auc'), lambda: MLP(schedule=dict(epoch=1)), lambda: MLP(max_cells=0)):
        with pytest.raises(BadParams): make()
    x, e, y, idx = market()
    with pytest.raises(BadParams, match='width 9 does not divide into 2 heads'):
        GATv2(width=9).fit(x, e, y, idx[:40], idx[42:52])
    with pytest.raises(BadParams, match='seed'): MLP(seed=-1).fit(x, e, y, idx[:40], idx[42:52])


def test_without_torch_geometric_the_error_names_the_extra(monkeypatch, panel):
    x, e, y, idx = panel
    monkeypatch.setitem(sys.modules, 'torch_geometric.nn', None)
    for M in (GATv2, RGCN):
        with pytest.raises(MissingExtra, match=r'gnn_quant\[graph\]'): M(**QUICK).fit(x, e, y, idx[:40], idx[42:52])


def test_batches_in_parts_are_the_same_batches(panel):
    x, e, y, idx = panel
    a, b = (GATv2(max_cells=c, dropout=0., **QUICK).fit(x, e, y, idx[:40], idx[42:52]) for c in (200_000, 400))
    a, b, parts = a.predict(x, e, idx[54:]), b.predict(x, e, idx[54:]), b._rows_at_once(x)
    assert (parts == 3 and a.to_numpy().std() > .001
            and np.allclose(a.sub(a.mean(axis=1), axis=0), b.sub(b.mean(axis=1), axis=0), atol=1e-4))


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from gnn_quant.models.panel_net import PanelNet
from test_rivals import ALL, market
kept, calls = PanelNet._verdict, []
def killing(self, *a):
    verdict = kept(self, *a)
    def once():
        calls.append(0)
        if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)
        return verdict()
    return once
PanelNet._verdict = killing
x, e, y, idx = market()
for name in ('gru', 'gatv2'):
    calls.clear()
    if os.fork() == 0: ALL[name]().fit(x, e, y, idx[:40], idx[42:52], checkpoint=name + '.pt')
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""


def test_a_killed_training_ends_where_the_undisturbed_one_does(tmp_path, panel, fitted):
    x, e, y, idx = panel
    child = subprocess.run([sys.executable, '-c', CHILD.format(tests=str(Path(__file__).parent))], cwd=tmp_path,
                           capture_output=True, text=True,
                           env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1])))
    assert child.returncode == 0, child.stderr[-800:]
    for name in ('gru', 'gatv2'):
        m = ALL[name]().fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / f'{name}.pt')
        assert m.history.equals(fitted[name].history) and len(m.history) == 2
        assert m.predict(x, e, idx).equals(fitted[name].predict(x, e, idx))
        for a, b in zip(m.net.state_dict().values(), fitted[name].net.state_dict().values()): assert torch.equal(a, b)
    with pytest.raises(CheckpointMismatch, match='model was gru, is lstm'):
        ALL['lstm']().fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'gru.pt')
    with pytest.raises(CheckpointMismatch, match='seed was 0, is 1'):
        ALL['gatv2'](1).fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'gatv2.pt')
    other = make_events(e.src, e.dst, e.t, e.msg * 2, e.symbols, ['corr', 'other', 'more'])
    with pytest.raises(CheckpointMismatch, match='events was'):
        ALL['gatv2']().fit(x, other, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'gatv2.pt')


@pytest.mark.parametrize('name', ['group_reversal', 'graph_average', 'gru', 'rgcn'])
def test_rivals_walk_forward_and_resume(name, panel, tmp_path):
    x, e, y, idx = panel
    walk = lambda: run_walk_forward(ALL[name], x, e, y, make_folds(idx, 2, 30, 10, 12), checkpoint_dir=tmp_path)
    a, b = walk(), walk()
    assert a.scores.equals(b.scores) and a.scores.notna().any(axis=1).sum() == len(idx) - 44
