"""How sure a figure is, how many were tried and which are real:
papers' numbers, closed forms, independent libraries, and bad input"""
import dataclasses

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA, StationaryBootstrap, StepM, optimal_block_length
from hypothesis import given, settings as hyp, strategies as st
from scipy.special import ndtr
from scipy.stats import kurtosis, norm, skew
from statsmodels.stats.multitest import multipletests

from gnn_quant.backtest.engine import backtest, metrics

from gnn_quant.stats.performance import drawdown, drawdown_rows, return_metrics
from gnn_quant.core import BadData, BadParams, toy_bars
from gnn_quant.backtest.engine import ledger_intervals
from gnn_quant.stats.bootstrap import FIGURES, block_length, intervals, natural_block, paired, resampled_figures
from gnn_quant.stats.multiple_testing import better, bootstrap_error, false_discovery, superior
from gnn_quant.stats.deflated_sharpe import deflated_sharpe, effective_trials, expected_best, normal_best
from gnn_quant.stats.sharpe import (Moments, horizon_factor, min_track_record, moments, probabilistic_sharpe,
                                    sharpe_error)
from gnn_quant.costs import Costs
from gnn_quant.portfolio.sizing import equal_weight


def days(n): return pd.bdate_range('2010-01-04', periods=n, name='date')
def series(v): return pd.Series(np.asarray(v, float), days(len(v)), name='return')
def fat(n, seed=0, mean=.0005): return series(mean + .01 * np.random.default_rng(seed).standard_t(5, n))


def ar(a, n, seed, mean=0.):
    e, x = np.random.default_rng(seed).normal(size=n + 50), np.zeros(n + 50)
    for t in range(1, n + 50): x[t] = a * x[t - 1] + e[t]
    return series(.01 * (x[50:] * np.sqrt(1 - a * a) + mean))


# ---- one Sharpe ratio

def test_moments_are_those_of_scipy_and_unknown_rows_do_not_count():
    r = fat(300)
    holes = r.copy()
    holes.iloc[[3, 50, 299]] = np.nan
    for x in (r, holes):
        m, v = moments(x), x.dropna()
        assert (m.n == len(v) and np.isclose(m.sharpe, v.mean() / v.std()) and np.isclose(m.mean, v.mean())
                and np.isclose(m.sd, v.std()))
        assert np.isclose(m.skew, skew(v)) and np.isclose(m.kurtosis, kurtosis(v, fisher=False))
    assert (moments(r * 3) == dataclasses.replace(moments(r * 3), sharpe=moments(r * 3).sharpe)
            and np.isclose(moments(r * 3).sharpe, moments(r).sharpe))


@pytest.mark.parametrize('r', [series([.01] * 9), series([.01] * 50), series([0.] * 50), series([np.nan] * 50),
                               series([]), fat(40).where(lambda x: x.index < x.index[9])], ids=range(6))
def test_too_short_flat_and_unknown_histories_have_no_sharpe_and_nothing_that_follows_from_it(r):
    m = moments(r)
    d = deflated_sharpe(m, 10, np.nan)
    assert np.isnan([m.sharpe, probabilistic_sharpe(m), min_track_record(m), sharpe_error(m), d.dsr, d.psr]).all()


def test_a_hedge_fund_of_bailey_and_lopez_de_prado_2012():
    fund = Moments(24, .036, .079, .458, -2.448, 10.164)
    assert (round(probabilistic_sharpe(fund), 3) == .913
            and round(probabilistic_sharpe(dataclasses.replace(fund, skew=0., kurtosis=3.)), 3) == .982)
    year = lambda rows, *shape: min_track_record(Moments(rows, 0., 1., 2 / rows**.5, *shape), 1 / rows**.5) / rows
    assert ([round(year(250, 0., 3.), 2), round(year(52, 0., 3.), 2), round(year(12, 0., 3.), 2),
             round(year(12, -.72, 5.78), 2)] == [2.73, 2.83, 3.24, 4.99])


def test_the_worked_example_of_bailey_and_lopez_de_prado_2014():
    shown, sd = Moments(1250, np.nan, np.nan, 2.5 / 250**.5, -3., 10.), np.sqrt(.5 / 250)
    d = deflated_sharpe(shown, 100, sd)
    assert (round(d.dsr, 4) == .9004 and round(d.hurdle, 4) == .1132
            and round(deflated_sharpe(shown, 46, sd).dsr, 4) == .9505)
    assert d.psr == probabilistic_sharpe(shown) and (d.trials, d.sd) == (100., sd)


@hyp(max_examples=60, deadline=None)
@given(st.floats(-.3, .3), st.floats(-2, 2), st.floats(0, 20), st.integers(20, 5000), st.floats(0, .1),
       st.floats(1, 1e6))
def test_more_demands_are_never_easier(sharpe, skewness, extra, n, mark, trials):
    m = Moments(n, sharpe, 1., sharpe, skewness, 1.01 + skewness**2 + extra)
    p = probabilistic_sharpe(m)
    assert 0 <= probabilistic_sharpe(m, mark) <= p <= 1 and np.isclose(probabilistic_sharpe(m, sharpe), .5)
    one, many = deflated_sharpe(m, 1, np.nan), deflated_sharpe(m, trials, np.nan)
    assert (one.dsr == one.psr == p and one.hurdle == 0 and many.dsr <= p
            and deflated_sharpe(m, trials, .5).dsr <= many.dsr)
    rows = min_track_record(m, mark)
    assert (rows == np.inf if sharpe <= mark else rows > 1e6 if sharpe - mark < 1e-5
            else np.isclose(probabilistic_sharpe(dataclasses.replace(m, n=rows), mark), .95))


def test_a_spread_smaller_than_chance_is_not_believed():
    m = moments(fat(400))
    floor = deflated_sharpe(m, 50, np.nan)
    assert floor.sd == 1 / 20 and deflated_sharpe(m, 50, 1e-6) == floor and deflated_sharpe(m, 50, .2).sd == .2


@pytest.mark.parametrize('shape,draw',
                         [('normal', lambda g, s: g.normal(size=s)), ('t6', lambda g, s: g.standard_t(6, s)),
                          ('left', lambda g, s: 1 - g.exponential(size=s))])
def test_the_error_of_a_sharpe_ratio_is_what_simulation_gives(shape, draw):
    g = np.random.default_rng(1)
    big = draw(g, 2_000_000)
    v = (draw(g, (6000, 200)) - big.mean()) / big.std() + .12
    true = Moments(200, .12, 1., .12, skew(big), kurtosis(big, fisher=False))
    assert abs((v.mean(1) / v.std(1, ddof=1)).std() / sharpe_error(true) - 1) < .035
    if shape == 'normal':
        assert np.isclose(sharpe_error(dataclasses.replace(true, skew=0., kurtosis=3.)),
                          np.sqrt((1 + .12**2 / 2) / 199))


def test_annualising_follows_the_order_of_rows():
    a, q = .35, 20
    x = ar(a, 400_000, 3, .2).to_numpy()
    year = x.reshape(-1, q).sum(1)
    assert abs(horizon_factor(a**np.arange(1, q), q) * .2 / (year.mean() / year.std()) - 1) < .02
    assert (horizon_factor([], q) == np.sqrt(q)
            and np.isclose(horizon_factor(a**np.arange(1, 500), q), horizon_factor(a**np.arange(1, q), q)))
    assert (horizon_factor([.1], 10) < np.sqrt(10) < horizon_factor([-.1], 10)
            and np.isnan(horizon_factor([-.9, -.9], 10)))


@pytest.mark.parametrize(
    'call', [lambda: expected_best(.5, 1), lambda: expected_best(np.nan, 1), lambda: expected_best(np.inf, 1),
             lambda: expected_best(5, -1), lambda: min_track_record(moments(fat(50)), alpha=.5),
             lambda: min_track_record(moments(fat(50)), alpha=0)], ids=range(6))
def test_impossible_questions_about_a_sharpe_ratio_are_refused(call):
    with pytest.raises(BadParams): call()


def test_quantstats_says_the_same_but_for_its_corrected_moments():
    "It takes pandas' skewness and kurtosis, corrected for small samples"
    from quantstats.stats import probabilistic_sharpe_ratio
    for seed in range(3):
        r, m = fat(800, seed), moments(fat(800, seed))
        theirs = dataclasses.replace(m, skew=r.skew(), kurtosis=r.kurt() + 3)
        assert (np.isclose(probabilistic_sharpe(theirs), probabilistic_sharpe_ratio(r), rtol=1e-12)
                and np.isclose(probabilistic_sharpe(m), probabilistic_sharpe(theirs), atol=2e-4))


def test_infinite_returns_and_tables_are_no_returns():
    for bad in (series([.1] * 20 + [np.inf]), pd.DataFrame(np.zeros((20, 2)))):
        with pytest.raises(BadData): moments(bad)


# ---- how many were tried

def test_the_expected_best_is_what_simulation_gives():
    g = np.random.default_rng(2)
    for n in (2, 7, 60):
        best = g.normal(size=(40_000, n)).max(1)
        assert (abs(normal_best(n) - best.mean()) < 4 * best.std() / 200
                and abs(expected_best(n, .3) / .3 - normal_best(n)) < .06)
    assert (abs(normal_best(1)) < 1e-9 and expected_best(1, 1.) == 0
            and np.isclose(normal_best(2), norm.expect(lambda x: 2 * x * ndtr(x)), atol=1e-6))
    z = [expected_best(n, 1.) for n in np.linspace(1, 4, 200)]
    assert min(z) == 0 and (np.diff(z) >= 0).all() and np.isnan(expected_best(10, np.nan))


def exactly(rho, m, t=400):
    "returns whose sample correlations are exactly rho"
    q = np.linalg.qr(np.c_[np.ones(t), np.random.default_rng(4).normal(size=(t, m + 1))])[0][:, 1:]
    return pd.DataFrame(np.sqrt(rho) * q[:, :1] + np.sqrt(1 - rho) * q[:, 1:], days(t))


@pytest.mark.parametrize('rho,m', [(0., 50), (.3, 50), (.5, 100), (.9, 100), (.99, 20), (1., 30)])
def test_effective_trials_of_one_common_correlation_are_known(rho, m):
    want = np.sqrt(1 - rho) * normal_best(m)
    found = effective_trials(exactly(rho, m))
    assert 1 <= found <= m and abs(normal_best(found) - want) < .03 * max(want, .1)
    if rho == 1: assert found == 1


def test_copies_reverses_groups_still_ones_and_other_rows():
    x = exactly(0., 12)
    count = lambda *cols: effective_trials(pd.concat(cols, axis=1))
    assert count(x[0]) == 1 and count(x[0], x[0], x[0] * 7 + .001) == 1 and count(x[0], -x[0]) == 2
    assert abs(count(*[x[k] for k in range(4)] * 5) - 4) < .25
    still = pd.Series(0., x.index)
    assert abs(count(x[0], x[0], still, still) - 3) < 1e-9 and count(still) == 1 and count(still * np.nan, x[0]) == 2
    assert abs(count(x[0].iloc[:200] + .5, x[0].iloc[:200] + .5, x[0].iloc[200:] + .5) - 2) < .1
    assert count((x[0] + .5).iloc[:100].reindex(x.index), (x[1] + .5).iloc[100:200].reindex(x.index)) > 1.9
    half = count(x[0].iloc[:300], x[0].iloc[100:])
    assert 1.15 < half < 2


@hyp(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 8), st.integers(20, 80))
def test_effective_trials_stay_between_one_and_all_and_know_neither_order_nor_scale(seed, m, t):
    g = np.random.default_rng(seed)
    x = pd.DataFrame(g.normal(size=(t, m)) @ g.normal(size=(m, m)))
    n = effective_trials(x, draws=500)
    assert 1 <= n <= m and np.isclose(n, effective_trials(x.iloc[:, ::-1] * 1e-4 + .01, draws=500), rtol=1e-6)


@pytest.mark.parametrize(
    'bad', [pd.DataFrame(index=days(5)), pd.Series([.1, .2]), pd.DataFrame({'a': [.1, np.inf, 0.]})], ids=range(3))
def test_trials_that_cannot_be_counted_are_refused(bad):
    with pytest.raises(BadData): effective_trials(bad)


# ---- intervals

@pytest.mark.parametrize('a', [-.4, 0., .2, .5, .8, .95])
def test_block_lengths_are_those_of_arch(a):
    for n, seed in ((1000, 0), (1000, 1), (2500, 2)):
        x = ar(a, n, seed + 10)
        assert np.isclose(block_length(x), max(1, optimal_block_length(x)['stationary'].iloc[0]), rtol=1e-9)


def test_block_lengths_stay_in_their_bounds_and_gaps_are_refused():
    assert (max(block_length(series(np.diff(fat(201, k)))) for k in range(20)) == np.ceil(3 * np.sqrt(200))
            and np.isnan(block_length(series([1.] * 100))) and np.isnan(block_length(fat(19))))
    assert (block_length(-ar(.5, 500, 1)) == block_length(ar(.5, 500, 1))
            and natural_block(fat(500)) >= block_length(fat(500)))
    wild = fat(1500, 7) * np.exp(ar(.97, 1500, 8) * 60)
    assert (natural_block(wild) == block_length(wild.abs()) > 3 * block_length(wild)
            and natural_block(ar(.8, 500, 2)) >= block_length(ar(.8, 500, 2)) > 5)
    for bad in (np.nan, np.inf):
        with pytest.raises(BadData): block_length(fat(50).where(lambda x: x.index != x.index[7], bad))


def by_hand(r, periods):
    eq = pd.concat([pd.Series([1.]), (1 + pd.Series(np.asarray(r))).cumprod()], ignore_index=True)
    out = return_metrics(pd.Series(np.asarray(r)), periods)
    out |= dict(max_drawdown=drawdown(eq).min(), drawdown_rows=drawdown_rows(eq),
                profit_factor=r[r > 0].sum() / -r[r < 0].sum())
    out = {k: np.float64(v) for k, v in out.items()}
    return {k: out[k] for k in FIGURES if k in out} | dict(calmar=out['annual_return'] / -out['max_drawdown'])


@hyp(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(5, 120), st.floats(1, 20), st.sampled_from([12, 252]))
def test_figures_of_drawn_histories_are_those_of_the_backtest(seed, n, block, periods):
    "A history that is the resampled one, measured by the functions of the backtest"
    from gnn_quant.stats.ic import stationary_rows
    r = fat(n, seed)
    r[np.random.default_rng(seed).random(n) < .2] = 0.
    f = resampled_figures(r, draws=3, block=block, seed=seed, year=periods)
    for k, rows in enumerate([np.arange(n), *stationary_rows(n, 3, block, np.random.default_rng(seed))]):
        with np.errstate(all='ignore'): want = by_hand(r.to_numpy()[rows], periods)
        got = f.iloc[k]
        for name, v in want.items():
            if np.isfinite(v): assert np.isclose(got[name], v, rtol=1e-9, atol=1e-12), (name, got[name], v)
    assert list(f) == list(FIGURES) and f[['turnover', 'break_even_bp']].isna().all(axis=None)


@pytest.mark.parametrize('costs', [Costs(0., 0.), Costs(.0005, .001)], ids=['free', 'dear'])
def test_a_ledgers_table_holds_the_figures_of_the_backtest(costs):
    bars = toy_bars(6, 300, seed=2)
    w = equal_weight(bars) * (np.arange(300)[:, None] % 7 < 4)
    w.iloc[:20] = np.nan
    led = backtest(w, bars, costs)
    t, m = ledger_intervals(led, draws=200), metrics(led)
    assert ({'annual_return', 'volatility', 'sharpe', 'sortino', 'calmar', 'max_drawdown', 'drawdown_rows',
             'hit_rate', 'profit_factor', 'total_return', 'turnover', 'break_even_bp'} == set(t.index))
    for k in t.index.intersection(list(m)): assert np.isclose(t.loc[k, 'value'], m[k], rtol=1e-9), k
    assert ({'turnover', 'break_even_bp', 'sharpe', 'calmar', 'drawdown_rows'} <= set(m)
            and (t['lo'] < t['hi']).all()
            and (t.loc['turnover', 'lo'] < t.loc['turnover', 'value'] < t.loc['turnover', 'hi']))


def test_intervals_repeat_widen_with_the_level_and_agree_with_arch():
    r = fat(600, 3)
    a, wide, other = (intervals(r, draws=800, block=5), intervals(r, draws=800, block=5, level=.99),
                      intervals(r, draws=800, block=5, seed=1))
    assert (a.equals(intervals(r, draws=800, block=5)) and (wide['hi'] >= a['hi']).all()
            and (wide['lo'] <= a['lo']).all() and not a.equals(other) and a['value'].equals(other['value']))
    theirs = StationaryBootstrap(5, r.to_numpy(), seed=0).apply(
        lambda x: np.array([x.mean() / x.std(ddof=1), x.std(ddof=1)]) * 252**.5, 800)
    for k, name in enumerate(('sharpe', 'volatility')):
        edge, spread = np.quantile(theirs[:, k], [.025, .975]), theirs[:, k].std()
        assert np.abs(a.loc[name, ['lo', 'hi']].to_numpy(float) - edge).max() < .25 * spread


def test_days_that_follow_each_other_need_blocks_to_be_covered():
    hold = {b: np.mean([(t := intervals(ar(.4, 500, s, 1 / 252**.5), draws=300, block=b).loc['sharpe'])['lo'] <= 1
                        <= t['hi'] for s in range(120)]) for b in (1, None)}
    assert hold[1] < .86 and hold[None] > .88


def test_short_lost_and_unknown_histories_have_values_without_intervals():
    r = fat(29)
    t = intervals(r, draws=50)
    assert (t['value'].notna().all() and t[['lo', 'hi']].isna().all(axis=None)
            and intervals(fat(60), draws=50, block=13)['lo'].isna().all())
    assert (intervals(fat(60), draws=50, block=12)['lo'].notna().all()
            and intervals(r * np.nan, draws=50).isna().all(axis=None))
    lost = fat(100)
    lost.iloc[50] = -1.
    t = intervals(lost, draws=50)
    assert (
        t.loc[['total_return', 'annual_return', 'max_drawdown', 'drawdown_rows', 'calmar'], 'value'].isna().all()
        and np.isfinite(t.loc['sharpe', 'value']))
    flat = intervals(series([.001] * 60), draws=50)
    assert flat.loc[['sharpe', 'sortino', 'calmar'], 'value'].isna().all() and flat.loc['max_drawdown', 'value'] == 0


@pytest.mark.parametrize(
    'error,call',
    [(BadData, lambda r: intervals(r.where(r.index != r.index[5]))), (BadData, lambda r: intervals(r, r.iloc[1:])),
     (BadData, lambda r: intervals(r.head(1))),
     (BadData, lambda r: intervals(r, r.where(r.index != r.index[5], np.inf))),
     (BadParams, lambda r: intervals(r, level=1.)), (BadParams, lambda r: intervals(r, draws=0)),
     (BadParams, lambda r: intervals(r, block=.5)), (BadParams, lambda r: intervals(r, block=np.nan)),
     (BadData, lambda r: paired(r, r.iloc[1:])), (BadParams, lambda r: paired(r, r, 'turnover'))], ids=range(10))
def test_intervals_refuse_what_they_cannot_judge(error, call):
    with pytest.raises(error): call(fat(50))


def test_a_pair_is_dealt_the_same_days():
    r, g = fat(500, 5), np.random.default_rng(0)
    peer = r - .0004 + .0005 * g.normal(size=500)
    d, back = paired(r, peer, draws=400), paired(peer, r, draws=400)
    assert (paired(r, r, draws=50) == paired(r, r, draws=50)
            and (paired(r, r, draws=50).lo, paired(r, r, draws=50).hi) == (0, 0))
    assert (d.side == 'ahead' and back.side == 'behind'
            and np.isclose([d.diff, d.lo, d.hi], [-back.diff, -back.hi, -back.lo]).all())
    alone = intervals(r, draws=400).loc['sharpe']
    assert d.hi - d.lo < (alone['hi'] - alone['lo']) / 3 and paired(r.head(29), peer.head(29), draws=20).side == 'short'
    assert np.isclose(paired(r, peer, 'max_drawdown', draws=20).diff,
                      intervals(r)['value']['max_drawdown'] - intervals(peer)['value']['max_drawdown'])


# ---- the best of many

def excess(seed, t=300, m=6, a=.3):
    g = np.random.default_rng(seed)
    x = g.normal(size=(t + 1, m)) * np.linspace(.5, 4, m) + g.normal(size=(t + 1, 1))
    return pd.DataFrame(x[1:] + a * x[:-1], days(t), [f'm{k}' for k in range(m)])


def theirs(x, block, cls=SPA, **kw):
    "arch's statistic is not studentised: columns in units of their own error make it so"
    test = cls(np.zeros(len(x)), -x.to_numpy(), block_size=block, reps=2000, seed=1, **kw)
    test.compute()
    return test


@pytest.mark.parametrize('seed', range(4))
def test_reality_check_and_superior_ability_are_those_of_arch(seed):
    x = excess(seed) + np.r_[.25 * seed, np.zeros(3), -.8, -1.]
    w, s = bootstrap_error(x.to_numpy(), 7), superior(x, draws=2000, block=7)
    raw, scaled = theirs(x, 7), theirs(x / w, 7)
    assert np.allclose(w**2, raw._loss_diff_var, rtol=1e-9)
    for mine, their in ((s.reality_check, raw.pvalues['upper']), (s.lower, scaled.pvalues['lower']),
                        (s.consistent, scaled.pvalues['consistent']), (s.upper, scaled.pvalues['upper'])):
        assert abs(mine - their) < .04
    assert (0 < s.lower <= s.consistent <= s.upper <= 1 and (s.models, s.rows, s.block) == (6, 300, 7)
            and s.best == x.columns[(x.mean() / w).argmax()])


def test_of_independent_strategies_the_p_value_is_known():
    for seed, m in ((0, 1), (1, 5), (2, 40)):
        x = pd.DataFrame(np.random.default_rng(seed).normal(.03, 1, (500, m)))
        s = superior(x, draws=3000, block=1)
        assert abs(s.upper - (1 - ndtr(s.t)**m)) < .035
        if m == 1:
            assert (np.isclose(s.t, x[0].mean() / x[0].std(ddof=0) * np.sqrt(500))
                    and abs(s.reality_check - s.upper) < 1e-9)


def test_none_better_is_certain_and_hopeless_ones_do_not_hide_a_good_one():
    x = excess(1)
    bad = x - x.mean() - 1.
    s = superior(bad, draws=200, block=5)
    assert s.lower == s.consistent == s.upper == 1 and better(bad) == []
    good = pd.concat([x[['m0']] + .4, x[['m4', 'm5']] * 10 - 20], axis=1)
    s = superior(good, draws=500, block=5)
    assert s.best == 'm0' and s.consistent < .02 < .2 < s.reality_check and better(good, block=5) == ['m0']


def test_a_strategy_that_is_the_benchmark_neither_wins_nor_breaks_the_test():
    x = excess(2).assign(same=0.)
    a, b = superior(x, draws=300, block=5), superior(x.drop(columns='same'), draws=300, block=5)
    assert ((a.lower, a.consistent, a.upper, a.best, a.t) == (b.lower, b.consistent, b.upper, b.best, b.t)
            and superior(x[['same']], 50).consistent == 1)


@pytest.mark.parametrize('seed', range(3))
def test_the_names_are_those_of_arch(seed):
    x = excess(seed, 400, 10, 0.) + np.r_[np.linspace(.2, .9, 5), np.zeros(5)]
    w = bootstrap_error(x.to_numpy(), 3)
    step = StepM(np.zeros(400), -(x / w).to_numpy(), size=.05, block_size=3, reps=2000, seed=1)
    step.compute()
    mine = better(x, draws=2000, block=3)
    marginal = {f'm{k}' for k in range(10)} - {n for n, t in zip(x.columns, x.mean() / w * 20) if abs(t - 2.6) > .25}
    assert (set(mine) ^ {f'm{k}' for k in step.superior_models} <= marginal
            and mine == sorted(mine, key=lambda n: -(x[n].mean() / w[int(n[1:])])))


def test_who_is_found_makes_room_for_the_next():
    "t of 2.9 is too little among sixty, and enough among the ten that are left when fifty are found"
    x = pd.DataFrame(np.random.default_rng(6).normal(size=(400, 60)), columns=[f'm{k}' for k in range(60)])
    x = (x - x.mean()) / bootstrap_error(x.to_numpy(), 1)
    few = x.iloc[:, :10] + 2.9 / 20
    assert (len(better(pd.concat([few, x.iloc[:, 10:] + 10 / 20], axis=1), block=1)) == 60
            and better(pd.concat([few, x.iloc[:, 10:] - 1], axis=1), block=1) == [])
    assert len(better(few, block=1)) == 10


def test_selection_is_silent_on_short_histories_and_refuses_gaps():
    s = superior(excess(0, 29), 50)
    assert (np.isnan([s.reality_check, s.lower, s.consistent, s.upper]).all() and better(excess(0, 29)) == []
            and np.isnan(superior(excess(0, 60), 50, block=13).upper))
    assert superior(excess(0, 60), 50, seed=3) == superior(excess(0, 60), 50, seed=3)
    for error, call in ((BadData, lambda x: superior(x.where(x > -1))), (BadData, lambda x: superior(x[[]])),
                        (BadData, lambda x: superior(x['m0'])), (BadParams, lambda x: superior(x, draws=0)),
                        (BadParams, lambda x: superior(x, block=0)), (BadParams, lambda x: better(x, alpha=0))):
        with pytest.raises(error): call(excess(0))


# ---- a family

@hyp(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0., .01, .05, 1.])), min_size=1, max_size=40),
       st.sampled_from([.01, .05, .2]))
def test_false_discoveries_are_those_of_statsmodels(values, alpha):
    p = pd.Series(values, [f'f{k}' for k in range(len(values))])
    for how, theirs in (('bh', 'fdr_bh'), ('by', 'fdr_by')):
        keep, q = multipletests(values, alpha, theirs)[:2]
        t = false_discovery(p, alpha, how)
        assert (np.allclose(t['q'], q, rtol=1e-9) and (t['keep'] == (t['q'] <= alpha)).all()
                and (np.abs(t['q'] - alpha) < 1e-12).any() | (t['keep'].to_numpy() == keep).all())
    bh, storey = false_discovery(p, alpha), false_discovery(p, alpha, 'storey')
    pi = min(1, (1 + (p > .5).sum()) / (len(p) * .5))
    assert np.allclose(storey['q'], np.minimum(bh['q'].where(bh['q'] < 1, 1) * pi, 1)) or (bh['q'] >= 1).any()


def test_unknown_p_values_are_not_counted_and_order_does_not_matter():
    p = pd.Series([.001, np.nan, .02, .04, .9, .02], list('abcdef'))
    t = false_discovery(p)
    assert t.index.equals(p.index) and np.isnan(t.loc['b', 'q']) and not t.loc['b', 'keep'] and t['keep'].dtype == bool
    assert (t.drop('b').equals(false_discovery(p.drop('b')))
            and t.loc[list('fedcba')].equals(false_discovery(p[list('fedcba')])))
    assert t.loc['c', 'q'] == t.loc['f', 'q'] and t.loc['a', 'q'] == .005 and len(false_discovery(p[:0])) == 0
    for error, call in ((BadData, lambda: false_discovery(p + .5)),
                        (BadParams, lambda: false_discovery(p, how='holm')),
                        (BadParams, lambda: false_discovery(p, 0))):
        with pytest.raises(error): call()


def test_storey_finds_more_where_much_is_to_be_found_and_never_keeps_a_half():
    p = pd.Series(np.r_[np.linspace(.001, .045, 30), .6, .8])
    assert (false_discovery(p, how='storey')['keep'].sum() >= false_discovery(p)['keep'].sum()
            >= false_discovery(p, how='by')['keep'].sum())
    pi = (1 + 2) / 16
    assert np.isclose(false_discovery(p, how='storey')['q'].iloc[0], pi * false_discovery(p)['q'].iloc[0])
    assert (false_discovery(pd.Series([.45, .5, .55] + [.0001] * 60), .9, 'storey')['keep'].tolist()[:3]
            == [True, True, False])
