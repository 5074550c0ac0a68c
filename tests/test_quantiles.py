"Quantile pages agree with alphalens where both mean the same; regimes are told by what was known before"
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.stats.ic import daily_ic, hac_t, stationary_rows
from gnn_quant.stats.quantiles import (decay, months, quantile_days, quantile_of, quantile_table, quantile_turnover,
                                       rank_autocorrelation)
from gnn_quant.stats.regimes import _resampled_sharpe, by_regime, level_regime, regime_table, regimes
from gnn_quant.data.target import forward_return

BARS = toy_bars(20, 330, seed=2)
PX = BARS['Close']
RNG = np.random.default_rng(4)
SCORES = -PX.pct_change(3, fill_method=None) + pd.DataFrame(RNG.normal(0, .01, PX.shape), PX.index, PX.columns)
HORIZONS = (1, 5, 10)


# --- alphalens ------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def lens():
    "alphalens' frame of the same scores, and the same fill-to-fill returns instead of its own close-to-close ones"
    utils = pytest.importorskip('alphalens.utils')
    later = pd.concat({f'{h}D': forward_return(BARS, h).stack() for h in HORIZONS}, axis=1)
    later.index = later.index.set_names(['date', 'asset'])
    factor = SCORES.iloc[3:].stack()
    factor.index = factor.index.set_names(['date', 'asset'])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return utils.get_clean_factor(factor, later.dropna(), quantiles=5, max_loss=.2)


@pytest.fixture(scope='module')
def perf(): return pytest.importorskip('alphalens.performance')


@pytest.fixture(scope='module')
def same(lens):
    "Our scores on the dates that alphalens kept: those whose returns are known for all horizons"
    return SCORES.loc[lens.index.get_level_values('date').unique()]


def test_quantiles_are_those_of_alphalens(lens, same):
    theirs = lens['factor_quantile'].unstack()
    assert (
        (quantile_of(same).to_numpy() == theirs.reindex(index=same.index, columns=same.columns).to_numpy()).all()
        and len(same) > 300)


@pytest.mark.parametrize('relative', [True, False])
def test_mean_returns_by_quantile_are_those_of_alphalens(lens, perf, same, relative):
    theirs, _ = perf.mean_return_by_quantile(lens, demeaned=relative)
    ours = quantile_table(same, BARS, HORIZONS, relative=relative)
    assert np.allclose(ours[['1', '5', '10']], theirs[['1D', '5D', '10D']], rtol=0, atol=1e-14)
    daily, _ = perf.mean_return_by_quantile(lens, by_date=True, demeaned=relative)
    assert np.allclose(quantile_days(quantile_of(same), forward_return(BARS, 5).loc[same.index], relative).stack(),
                       daily['5D'].unstack(0).stack(), atol=1e-14)


def test_the_spread_is_twice_that_of_alphalens_which_halves_it(lens, perf, same):
    theirs, _ = perf.compute_mean_returns_spread(perf.mean_return_by_quantile(lens, by_date=True)[0], 5, 1)
    d = decay(same, BARS, HORIZONS)
    assert np.allclose(d['spread'], 2 * theirs.mean(), rtol=0, atol=1e-14)


def test_turnover_and_persistence_are_those_of_alphalens(lens, perf, same):
    for lag in (1, 5):
        for k in (1, 3, 5):
            theirs = perf.quantile_turnover(lens['factor_quantile'], k, lag)
            assert np.allclose(quantile_turnover(quantile_of(same), k, lag).to_numpy(), theirs.to_numpy(),
                               equal_nan=True)
        assert np.allclose(rank_autocorrelation(same, lag).iloc[lag:],
                           perf.factor_rank_autocorrelation(lens, lag).iloc[lag:])


def test_information_coefficients_are_those_of_alphalens(lens, perf, same):
    theirs = perf.factor_information_coefficient(lens)
    d = decay(same, BARS, HORIZONS)
    assert np.allclose(d['rank_ic'], theirs[['1D', '5D', '10D']].mean(), rtol=0, atol=1e-12)
    monthly = perf.mean_information_coefficient(lens, by_time='ME')['5D']
    ours = months(daily_ic(same, forward_return(BARS, 5), 'rank')).drop(columns='all').stack().dropna()
    assert np.allclose(ours, monthly, atol=1e-12) and len(ours) == len(monthly)


# --- what alphalens does not have -----------------------------------------------------------------

def test_quantiles_do_not_ask_who_still_had_a_price():
    "A name whose later return is not known keeps its place, and the others theirs"
    gone = BARS.copy()
    gone.loc[gone.index[200]:, (slice(None), 'AAA')] = np.nan
    q = quantile_of(SCORES)
    assert not peeks(lambda b: quantile_of(-b['Close'].pct_change(3, fill_method=None)), gone, gone.index[199])
    known = forward_return(gone, 5).iloc[198]
    assert np.isnan(known['AAA']) and q.iloc[198].equals(quantile_of(SCORES.iloc[:199]).iloc[198])
    theirs = pd.qcut(SCORES.iloc[198][known.notna()], 5, labels=False) + 1
    assert (theirs != q.iloc[198][theirs.index]).any(), 'cut among survivors, others would have moved'


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.integers(-3, 3), st.floats(-1e6, 1e6), st.just(float('nan'))), min_size=2, max_size=12),
    st.integers(2, 6))
def test_quantiles_order_names_and_ignore_scale(row, k):
    s = pd.DataFrame([row], PX.index[:1], range(len(row)), dtype=float)
    q, v = quantile_of(s, k).iloc[0], s.iloc[0]
    assert q.isna().equals(v.isna()) or (v.notna().sum() < k and q.isna().all())
    for a in v.dropna().index:
        for b in v.dropna().index:
            if q.notna().any():
                assert (q[a] == q[b]) if v[a] == v[b] else ((q[a] <= q[b]) == (v[a] < v[b]) or q[a] == q[b])
    assert q.dropna().between(1, k).all() and quantile_of(s * 4, k).equals(quantile_of(s, k))
    wide = s.iloc[:, ::-1]
    assert quantile_of(wide, k)[s.columns].equals(quantile_of(s, k)), 'the order of names does not matter'


def test_a_quantile_of_ties_is_empty_and_not_a_number():
    s = pd.DataFrame([[0., 0., 0., 0., 1.]], PX.index[:1], list('ABCDE'))
    q = quantile_of(s, 5)
    assert q.iloc[0].tolist() == [1, 1, 1, 1, 5]
    assert quantile_days(q, s * 0 + .1).iloc[0].isna().tolist() == [False, True, True, True, False]


def test_later_returns_start_at_the_next_fill():
    "A score that knows the way from this close to the next open earns nothing: that price was gone"
    night, day = (RNG.normal(0, .01, PX.shape) for _ in range(2))
    close = 100 * pd.DataFrame(np.cumprod((1 + night) * (1 + day), axis=0), PX.index, PX.columns)
    gaps = pd.concat(dict(Open=close / (1 + day), Close=close), axis=1)
    known = pd.DataFrame(night, PX.index, PX.columns).shift(-1)
    assert (abs(decay(known, gaps, (1,)).ic_t[1]) < 2.5
            and daily_ic(known, close.pct_change().shift(-1), 'rank').mean() > .6)
    assert decay(forward_return(gaps, 1), gaps, (1,)).rank_ic[1] == pytest.approx(1)


def test_names_that_were_not_scored_are_not_in_the_mean():
    s, y = SCORES.iloc[50:60].copy(), forward_return(BARS, 1).iloc[50:60].copy()
    s['AAA'], y['AAA'] = np.nan, 9.
    rest = [c for c in s if c != 'AAA']
    assert np.allclose(quantile_days(quantile_of(s), y), quantile_days(quantile_of(s[rest]), y[rest]))


def test_t_values_allow_for_the_overlap_of_the_returns():
    days = quantile_days(quantile_of(SCORES), forward_return(BARS, 10))
    d = decay(SCORES, BARS, (10,))
    assert (d.spread_t[10] == hac_t(days[5] - days[1], 10) != hac_t(days[5] - days[1], 1)
            and d.ic_t[10] == hac_t(daily_ic(SCORES, forward_return(BARS, 10), 'rank'), 10))


def test_names_that_come_and_go_are_no_turnover_of_their_own():
    q = pd.DataFrame([[1, 2, np.nan], [1, 2, 2], [1, 2, 2.]], PX.index[:3], list('ABC'))
    assert (quantile_turnover(q, 2).tolist()[1:] == [.5, 0] and np.isnan(quantile_turnover(q, 2).iloc[0])
            and quantile_turnover(q, 3).isna().all())


@pytest.mark.parametrize('bad', [1, 0, 2.5, True, None])
def test_quantiles_are_a_whole_number(bad):
    with pytest.raises(BadParams, match='quantiles'): quantile_of(SCORES, bad)


def test_scores_and_bars_have_to_fit():
    with pytest.raises(BadData, match='no prices, first ZZ'): quantile_table(SCORES.rename(columns={'AAA': 'ZZ'}), BARS)
    with pytest.raises(BadData, match='scored rows have no prices'): decay(SCORES, BARS.iloc[:100])
    with pytest.raises(BadData, match='other rows'): quantile_days(quantile_of(SCORES), PX.iloc[:50])
    with pytest.raises(BadParams, match='lag=0'): rank_autocorrelation(SCORES, 0)
    with pytest.raises(BadData, match='no day'): months(pd.Series(np.nan, PX.index))


def test_scores_on_some_rows_only_are_judged_on_those():
    part = SCORES.iloc[100:200]
    assert decay(part, BARS, (5,)).rows[5] == 100 and quantile_table(part, BARS, (5,)).index.tolist() == [1, 2, 3, 4, 5]


# --- regimes --------------------------------------------------------------------------------------

LONG = toy_bars(5, 900, seed=3)
MKT = LONG['Close'].mean(axis=1).rename('MKT')


@pytest.fixture(scope='module')
def labels(): return regimes(MKT, LONG)


def test_labels_know_only_their_past(labels):
    cut = LONG.index[700]
    assert not peeks(lambda b: regimes(b['Close'].mean(axis=1), b).fillna('?'), LONG, cut)
    assert peeks(lambda b: regimes(b['Close'].mean(axis=1), b).shift(-1).fillna('?'), LONG, cut)
    holes = MKT.drop(MKT.index[[300, 301, 699, 700]])
    bent = holes.where(holes.index <= cut, holes * 7)
    a, b = (regimes(x, LONG).loc[:cut].fillna('?') for x in (holes, bent))
    assert a.equals(b) and len(regimes(holes, LONG)) == 900


def test_labels_are_what_they_say(labels):
    vol = MKT.pct_change().rolling(21).std()
    at = LONG.index[800]
    far = vol.loc[:at].dropna()
    want = 'stormy' if far[at] > far.quantile(2 / 3) else 'usual' if far[at] > far.quantile(1 / 3) else 'calm'
    assert labels.loc[at, 'volatility'] == want
    assert labels.loc[at, 'trend'] == ('rising' if MKT[at] > MKT.loc[:at].iloc[-200:].mean() else 'falling')
    assert (labels['volatility'].first_valid_index() == LONG.index[21 + 251]
            and labels['trend'].first_valid_index() == LONG.index[199])


def test_a_return_is_held_against_the_label_of_the_row_before(labels):
    r = pd.Series(RNG.normal(0, .01, 900), LONG.index)
    x = by_regime(r, labels, draws=50).set_index(['kind', 'regime'])
    m = labels['trend'].shift(1).eq('rising')
    assert (x.rows['trend', 'rising'] == m.sum()
            and x.sharpe['trend', 'rising'] == pytest.approx(r[m].mean() / r[m].std() * 252**.5, abs=1e-12))
    assert (x.annual_return['trend', 'rising'] == pytest.approx(r[m].mean() * 252)
            and x.volatility['trend', 'rising'] == pytest.approx(r[m].std() * 252**.5))
    assert list(x.loc['volatility'].index) == ['calm', 'usual', 'stormy'] and x.loc['volatility', 'share'].sum() < 1


def test_resampled_ratios_are_those_of_the_resampled_rows():
    r, m = RNG.normal(0, .01, 120), RNG.random(120) < .5
    ours = _resampled_sharpe(r, [m, ~m], 30, 5, 7)
    at = stationary_rows(120, 30, 5, np.random.default_rng(7))
    want = [[r[a][k[a]].mean() / r[a][k[a]].std(ddof=1) for a in at] for k in (m, ~m)]
    assert np.allclose(ours, want)


def test_intervals_of_a_regime_cover_as_often_as_they_say():
    kinds, hit = pd.DataFrame({'k': np.where(np.arange(1000) // 50 % 2, 'a', 'b')},
                              pd.bdate_range('2016-01-01', periods=1000)), 0
    for seed in range(100):
        r = pd.Series(np.random.default_rng(seed).normal(.0005, .01, 1000), kinds.index)
        x = by_regime(r, kinds, draws=200, block=5, seed=seed)
        hit += int(((x.lo < .05 * 252**.5) & (.05 * 252**.5 < x.hi)).sum())
    assert 176 <= hit <= 198, f'{hit} of 200 intervals hold the true ratio, about 190 wanted'


def test_few_rows_have_no_interval(labels):
    r = pd.Series(RNG.normal(0, .01, 900), LONG.index)
    x = by_regime(r, labels, draws=50, block=60)
    assert x['lo'].notna().equals(x['rows'] >= 300) and x['sharpe'].notna().all()


def test_information_by_regime_uses_the_label_of_the_decision(labels):
    ic = pd.Series(np.where(labels['trend'].eq('rising'), .1, -.1), LONG.index) + RNG.normal(0, .01, 900)
    x = by_regime(pd.Series(RNG.normal(0, .01, 900), LONG.index), labels[['trend']], ic, draws=10).set_index('regime')
    assert (x.rank_ic['rising'] == pytest.approx(.1, abs=.005)
            and x.rank_ic['falling'] == pytest.approx(-.1, abs=.005) and x.ic_t['rising'] > 50)


def test_regimes_refuse_what_would_mislead(labels):
    r = pd.Series(RNG.normal(0, .01, 900), LONG.index)
    with pytest.raises(BadData, match='not known'): by_regime(r.mask(r > .02), labels)
    with pytest.raises(BadData, match='no labels'): by_regime(r, labels.iloc[:-1])
    with pytest.raises(BadParams, match='block'): by_regime(r, labels, block=0)
    with pytest.raises(BadData, match='a str'): regimes('SPY', LONG)
    with pytest.raises(BadParams, match='at least two names'): level_regime(MKT, ('one',))


def test_a_short_history_has_fewer_labels_and_says_so():
    r = pd.Series(RNG.normal(0, .01, 100), LONG.index[:100])
    with pytest.raises(BadData, match='none of 100 rows has a label'): regime_table(r, MKT.iloc[:100], draws=10)
    assert set(regime_table(r.set_axis(LONG.index[-100:]), MKT, draws=10)['kind']) == {'volatility', 'trend'}, (
        'labels may begin before the returns do')
