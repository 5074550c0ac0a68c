"Features look back, do not know the unit of a price, and labels are two trades"
import numpy as np
import pandas as pd
import pytest
from _outside import Installed
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose

from gnn_quant.core import BadData, BadParams, LookAhead, peeks, toy_bars
from gnn_quant.features import cross_section as cs
from gnn_quant.data import target as tg
from gnn_quant.features import registry as reg
from gnn_quant.features import technical as tech
from gnn_quant.plugins import plugins_of

BARS = toy_bars(n=5, t=300)
CUT = BARS.index[270]
FEATURES = {p.name: p for p in plugins_of('feature', 'gnn_quant')}
FEW = settings(max_examples=8, deadline=None)


def holes(bars, seed, share=.02):
    "Bars with some cells, and the whole first third of one symbol, not known"
    out = bars.mask(np.random.default_rng(seed).random(bars.shape) < share)
    out.loc[out.index[:len(out) // 3], pd.IndexSlice[:, 'CCC']] = np.nan
    return out


# ---- every registered feature

@pytest.mark.parametrize('name', FEATURES)
def test_no_feature_peeks(name):
    f = lambda b: reg.raw_features(b, [name])
    assert not peeks(f, BARS, CUT) and not peeks(f, holes(BARS, 1), CUT)


@pytest.mark.parametrize('name', FEATURES)
def test_every_planted_leak_is_caught(name):
    fn = FEATURES[name].make
    assert peeks(lambda b: fn(b).shift(-1), BARS, CUT), 'the next row used'
    assert peeks(lambda b: fn(b) - fn(b).mean(), BARS, CUT), 'the full-sample mean used'
    if FEATURES[name].lookback: assert peeks(lambda b: fn(b[::-1])[::-1], BARS, CUT), 'time run backwards'


@given(seed=st.integers(0, 10_000), holed=st.booleans())
@FEW
def test_features_do_not_know_the_unit_of_a_price(seed, holed):
    bars = holes(BARS, seed) if holed else BARS
    unit = np.random.default_rng(seed).lognormal(0, 3, 5)
    scaled = bars.copy()
    for f in ('Open', 'High', 'Low', 'Close'): scaled[f] = bars[f] * unit
    assert_allclose(reg.raw_features(scaled).to_numpy(), reg.raw_features(bars).to_numpy(), rtol=1e-6, atol=1e-8)


@given(seed=st.integers(0, 10_000))
@FEW
def test_features_permute_with_the_symbols(seed):
    perm = np.random.default_rng(seed).permutation(5)
    bars = holes(toy_bars(n=5, t=90, seed=seed), seed)
    moved = pd.concat({f: bars[f].iloc[:, perm] for f in ('Open', 'High', 'Low', 'Close', 'Volume')}, axis=1,
                      names=['field', 'symbol'])
    a, b = reg.raw_features(bars), reg.raw_features(moved)
    assert_allclose(b[a.columns].to_numpy(), a.to_numpy(), rtol=1e-8, atol=1e-10)
    x, y = cs.to_array(cs.standardise(a))[1], cs.to_array(cs.standardise(b))[1]
    assert (y == x[:, perm]).all()


@given(seed=st.integers(0, 10_000))
@FEW
def test_nothing_is_infinite_and_nothing_is_filled(seed):
    bars = holes(toy_bars(n=5, t=120, seed=seed), seed, .1)
    bars['Volume'] = bars['Volume'].where(bars['Volume'] > 3_000, 0.)
    x = reg.raw_features(bars)
    assert not np.isinf(x.to_numpy()).any()
    gone = bars['Close'].isna()
    for n in ('ret_1', 'ret_20', 'vol_20', 'dist_20', 'rsi_14', 'macd_12_26', 'beta_60', 'idio_20'):
        assert x[n][gone].isna().all(axis=None), n


def test_flat_prices_are_not_known_rather_than_infinite():
    flat = pd.DataFrame(50., index=BARS.index, columns=BARS.columns)
    x = reg.raw_features(flat)
    assert not np.isinf(x.to_numpy()).any()
    for n in ('rsi_14', 'beta_60', 'close_place'): assert x[n].isna().all(axis=None), n


def test_look_backs_are_declared_as_they_are():
    x = reg.raw_features(BARS)
    for n, f in FEATURES.items():
        assert x[n].iloc[:f.lookback].isna().all(axis=None) and x[n].iloc[f.lookback:].notna().all(axis=None), n


# ---- single features against another way of computing them

def test_smooth_is_wilders_recursion_and_restarts_after_a_gap():
    v = np.random.default_rng(0).normal(size=40)
    s = v[:14].mean()
    for i in range(14, 40): s += (v[i] - s) / 14
    got = tech.smooth(pd.DataFrame({'a': v, 'b': np.r_[v[:20], np.nan, v[21:]]}), 14, 1 / 14)
    assert got['a'].iloc[-1] == pytest.approx(s, abs=1e-14)
    assert got['b'].iloc[20:34].isna().all() and got['b'].iloc[34] == pytest.approx(v[21:35].mean())


def test_beta_and_idio_are_a_trailing_regression_with_an_intercept():
    r = BARS['Close'].pct_change(fill_method=None)
    m = r.mean(axis=1)
    slope = np.polyfit(m.iloc[141:201], r['BBB'].iloc[141:201], 1)[0]
    assert tech.beta_60(BARS)['BBB'].iloc[200] == pytest.approx(slope)
    assert tech.idio_20(BARS)['BBB'].iloc[200] == pytest.approx((r['BBB'] - slope * m).iloc[181:201].sum())


def test_momentum_leaves_the_last_month_out():
    px = BARS['Close'].copy()
    late = px.copy()
    late.iloc[-21:] *= 1.5
    row = lambda p: tech.mom_252_21(pd.concat({'Close': p}, axis=1)).iloc[-1]
    assert_allclose(row(px), px.iloc[-22] / px.iloc[-253] - 1)
    assert_allclose(row(late), row(px))


def test_fields_decide_which_features_there_are():
    close = BARS[['Close']]
    assert set(reg.feature_names(close)) | set(reg.left_out(close)) == set(FEATURES)
    assert not set(reg.feature_names(close)) & set(reg.left_out(close))
    assert 'bars.Open' in reg.left_out(close)['gap_1'] and not reg.left_out(BARS)
    assert 'mom_252_21' not in reg.feature_names(BARS, max_lookback=100)
    assert reg.raw_features(close).columns.get_level_values(0).unique().tolist() == reg.feature_names(close)
    with pytest.raises(BadParams, match='needs bars.Volume'): reg.raw_features(close, ['volume_surprise_20'])
    with pytest.raises(BadParams, match='no feature'): reg.raw_features(close, ['rsi'])
    with pytest.raises(BadData, match='features'): reg.raw_features(BARS.iloc[::-1])


# ---- cross section

@given(seed=st.integers(0, 10_000), n=st.integers(2, 9), share=st.floats(0, .8), k=st.integers(2, 5))
@FEW
def test_ranks_are_what_scipy_says_and_unknown_stays_unknown(seed, n, share, k):
    from scipy.stats import rankdata
    rng = np.random.default_rng(seed)
    v = rng.integers(0, 5, (20, n)).astype(float)
    v[rng.random(v.shape) < share] = np.nan
    got = cs.rank_rows(pd.DataFrame(v), k).to_numpy()
    for row, z in zip(v, got):
        ok = ~np.isnan(row)
        if ok.sum() < k: assert np.isnan(z).all()
        else:
            assert np.isnan(z[~ok]).all()
            assert_allclose(z[ok], (rankdata(row[ok]) - 1) / (ok.sum() - 1) - .5, atol=1e-12)


def test_z_rows_by_hand_and_with_no_spread():
    x = pd.DataFrame([[1., 2., 4., np.nan, 8.], [3., 3., 3., 3., 9.], [1., 2., np.nan, np.nan, np.nan]])
    z = cs.z_rows(x)
    assert_allclose(z.iloc[0], (x.iloc[0] - 3) / (1.4826 * 1.5))
    assert z.iloc[1:].isna().all(axis=None)
    assert cs.z_rows(pd.DataFrame([[0., 1., 2., 1e9]]), clip=3).iloc[0].max() == 3


@pytest.mark.parametrize('how', cs.STANDARDISE)
def test_cross_sections_use_their_own_date_only(how):
    f = lambda b: reg.make_features(b, ['ret_5', 'vol_20'], how)
    assert not peeks(f, holes(BARS, 3), CUT)
    x = f(BARS)
    other = BARS.copy()
    other.iloc[:100] *= 1.7
    pd.testing.assert_frame_equal(f(other).iloc[130:], x.iloc[130:])


def test_scalers_over_time_are_caught():
    raw = tech.ret_5(BARS)
    for leak in (lambda p: (p - p.mean()) / p.std(), lambda p: p.rank(pct=True),
                 lambda p: cs.rank_rows(p).bfill().shift(-1)):
        assert peeks(leak, raw, CUT)


def test_to_array_keeps_places_and_marks_what_is_not_known():
    x = reg.make_features(holes(BARS, 4))
    v, known = cs.to_array(x)
    assert v.shape == known.shape == (300, 5, len(FEATURES)) and v.dtype == np.float32 and v.flags.c_contiguous
    for i, f in enumerate(FEATURES):
        assert (known[:, :, i] == x[f].notna()).all(axis=None)
        assert_allclose(v[:, :, i], x[f].fillna(0), atol=1e-6)
    first = [(f, s) for f in x.columns.levels[0] for s in x[f].columns]
    mixed = x[[*first[:5], *[c for c in first[5:] if c[1] == 'BBB'], *[c for c in first[5:] if c[1] != 'BBB']]]
    order = [list(FEATURES).index(f) for f in dict.fromkeys(mixed.columns.get_level_values(0))]
    assert (cs.to_array(mixed)[0] == v[:, :, order]).all()
    with pytest.raises(BadData, match='missing for'): cs.to_array(x.drop(columns=[('ret_5', 'AAA')]))
    with pytest.raises(BadData, match='columns have 1 level'): cs.to_array(x['ret_5'])


# ---- target

@given(seed=st.integers(0, 10_000), horizon=st.integers(1, 7), delay=st.integers(1, 3), closes=st.booleans())
@FEW
def test_a_label_is_two_trades(seed, horizon, delay, closes):
    bars = toy_bars(n=3, t=30, seed=seed)
    if closes: bars = bars[['Close']]
    px = bars['Close' if closes else 'Open'].to_numpy()
    y = tg.make_target(bars, horizon, relative=False, delay=delay)
    cash = 1_000.
    for t in range(30 - horizon - delay):
        shares = cash / px[t + delay]
        assert_allclose(y.frame.iloc[t], (shares * px[t + delay + horizon] - cash) / cash, atol=1e-12)
    assert y.span == horizon + delay and y.frame.iloc[-y.span:].isna().all(axis=None)


@pytest.mark.parametrize('fields', [['Close'], ['Open', 'High', 'Low', 'Close', 'Volume']])
@pytest.mark.parametrize('relative', [True, 'rank', False])
@pytest.mark.parametrize('horizon,delay', [(1, 1), (5, 1), (3, 2)])
def test_a_target_looks_exactly_span_rows_ahead(fields, relative, horizon, delay):
    bars = toy_bars(n=4, t=60)[fields]
    y = lambda b: tg.make_target(b, horizon, relative, delay)
    cut = bars.index[40]
    assert not peeks(y, bars, cut), 'a resolved label moved'
    assert peeks(lambda b: tg.Target(y(b).frame, horizon, delay).frame, bars, cut)
    if horizon > 1:
        assert peeks(lambda b: tg.Target(y(b).frame, horizon - 1, delay), bars, cut), 'known one row too early'


def test_resolved_counts_rows_and_never_days():
    bars = toy_bars(t=40).drop(index=toy_bars(t=40).index[[12, 13, 14, 15]])
    y = tg.make_target(bars, 5)
    for i in (0, 5, 6, 20, 35):
        got = tg.resolved(y, bars.index[i])
        assert len(got) == max(i + 1 - y.span, 0)
    weekend = bars.index[20] + pd.Timedelta('12h')
    assert len(tg.resolved(y, weekend)) == len(tg.resolved(y, bars.index[20]))


def test_relative_labels():
    bars = toy_bars(n=5, t=40)
    bars.loc[bars.index[10:], pd.IndexSlice[:, ['AAA', 'BBB', 'CCC', 'DDD']]] = np.nan
    y = tg.make_target(bars, 2)
    assert_allclose(y.frame.iloc[:7].sum(axis=1), 0, atol=1e-12)
    assert y.frame.iloc[7:].isna().all(axis=None), 'a single known label has nothing to be relative to'
    assert tg.make_target(bars, 2, 'rank').frame.iloc[0].sort_values().tolist() == [-.5, -.25, 0, .25, .5]


def test_targets_refuse():
    frame = tg.make_target(BARS).frame
    with pytest.raises(LookAhead, match='delay=0'): tg.Target(frame, 5, 0)
    with pytest.raises(LookAhead): tg.make_target(BARS, delay=0)
    for bad in (0, -1, 2., True, '5'):
        with pytest.raises(BadParams, match='horizon'): tg.Target(frame, bad)
    with pytest.raises(BadParams, match='relative'): tg.make_target(BARS, relative='zscore')
    with pytest.raises(BadData, match='not sorted'): tg.Target(frame.iloc[::-1], 5)


# ---- features of other packages, options, look-backs

def outside_bundle():
    from gnn_quant.data.load import load_bundle, load_tables
    return load_tables(load_bundle('outside_pkg:outside_market'), ['outside_pkg:outside_news'], required=True)


def test_a_package_brings_source_table_and_features_and_its_leaks_are_found():
    with Installed():
        b = outside_bundle()
        use = ['ret_5', 'outside_pkg:three_rows', 'mentions', dict(name='outside_pkg:mentions', window='60D')]
        x = reg.make_features(b, use)
        names = ['ret_5', *(f'outside_pkg:{n}' for n in ('three_rows', 'mentions', 'mentions(window=60D)'))]
        assert list(x.columns.unique(0)) == names and x.iloc[80:].notna().all(axis=None)
        assert reg.lookback_of(x.columns.unique(0), b.calendar) == 15
        cut = b.index[300]
        assert not peeks(lambda b: reg.make_features(b, use), b, cut)
        for leak in ('outside_pkg:peeks_ahead', 'outside_pkg:mentions_ahead'):
            assert peeks(lambda b, n=leak: reg.make_features(b, [n], 'raw'), b, cut), leak
        assert not any(n.startswith('outside_pkg') for n in reg.feature_names(b)), 'only ours are used unasked'


def test_needs_of_a_feature_asked_for_by_name():
    with Installed():
        from gnn_quant.data.load import load_bundle
        with pytest.raises(BadParams, match='outside_news'):
            reg.make_features(load_bundle('outside_pkg:outside_market'), ['mentions'])
        with pytest.raises(BadParams, match='Did you mean window'):
            reg.make_features(outside_bundle(), [dict(name='mentions', windw='3D')])
        with pytest.raises(BadParams, match='reads a bundle|outside_news'): reg.make_features(BARS, ['mentions'])


@pytest.mark.parametrize('make, part', [
    (lambda bars: 1 / 0, 'ZeroDivisionError'), (lambda bars: bars['Close'].iloc[1:], 'not the 300'),
    (lambda bars: bars['Close'].rename(columns=dict(AAA='AAB')), 'AAB is no symbol'),
    (lambda bars: bars['Close'] / 0, 'infinite'), (lambda bars: 3, 'int')])
def test_a_feature_of_others_that_goes_wrong_is_named(make, part):
    with Installed() as plugins:
        plugins.feature(make, name='odd')
        with pytest.raises(BadData, match=f'{__name__}:odd.*{part}'): reg.make_features(BARS, ['odd'])


def test_symbols_that_a_feature_leaves_out_are_not_known():
    with Installed() as plugins:
        plugins.feature(lambda bars: bars['Close'][['CCC', 'AAA']], name='some')
        x = reg.raw_features(BARS, ['some'])
        assert list(x.columns.get_level_values(1)) == list(BARS['Close'].columns)
        assert x.iloc[:, [1, 3, 4]].isna().all(axis=None) and x.iloc[:, [0, 2]].notna().all(axis=None)


def test_a_room_stands_for_its_features():
    assert reg.make_features(BARS, ['technical']).equals(reg.make_features(BARS))
    names = [c.label for c in reg.feature_calls(['technical'], BARS[['Close']])]
    assert names == reg.feature_names(BARS[['Close']])


@pytest.mark.parametrize('kw', [dict(use=[]), dict(scale='minmax'), dict(min_known=1), dict(use=['rsi'])])
def test_what_no_features_can_be_made_of(kw):
    with pytest.raises(BadParams): reg.make_features(BARS, **kw)
