"Two engines agree to the cent, and every figure is what its formula says"
import warnings
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.backtest.engine import (_vectorbt_run, agree, backtest, benchmark_metrics, break_even, drawdown,
                                       drawdown_rows, ledger_returns, metrics, return_metrics, round_trips,
                                       trip_metrics, vectorbt_ledger)
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import (cap_turnover, dollar_neutral, equal_weight, long_only, rebalance_every,
                                        vol_target)
from test_market import market

CENT = .005
seeds, rates = st.integers(0, 10_000), st.sampled_from([Costs(0, 0), Costs(), Costs(.01, .02)])


def same(w, bars, c=Costs(), cash=1e6):
    a, b = simulate(w, bars, c, cash), vectorbt_ledger(w, bars, c, cash)
    assert np.allclose(a.fills, b.fills, rtol=1e-7, atol=1e-6) and np.allclose(a.shares, b.shares, rtol=1e-7, atol=1e-6)
    both = (a.fills.abs() > 1e-6) & (b.fills.abs() > 1e-6)
    assert np.allclose(a.price[both], b.price[both], equal_nan=True)
    assert np.allclose(a.book, b.book, rtol=0, atol=CENT)
    return agree(a, b)


@settings(max_examples=30, deadline=None)
@given(seeds, rates, st.sampled_from([0., .15]), st.booleans())
def test_parity_long_short_with_gaps(seed, c, gaps, close_only):
    w, bars = market(seed, gaps=gaps)
    assert same(w, bars[['Close']] if close_only else bars, c) < CENT


@settings(max_examples=20, deadline=None)
@given(seeds, rates, st.sampled_from([1., 1.3]))
def test_parity_at_and_beyond_full_investment(seed, c, gross):
    w, bars = market(seed, n=5, lo=.05, gross=gross, still=.05)
    assert same(w, bars, c) < CENT


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_parity_of_dollar_neutral_books_of_gross_two(seed):
    w, bars = market(seed, n=6, gaps=.05)
    assert same(dollar_neutral(w, gross=2.), bars) < CENT


def test_parity_of_every_sizing_rule_on_a_longer_market():
    bars = toy_bars(n=20, t=1000, seed=5)
    bars.loc[bars.index[600]:, (slice(None), 'CCC')] = np.nan
    score = bars['Close'].pct_change(10, fill_method=None)
    books = [equal_weight(bars), long_only(score), dollar_neutral(score), rebalance_every(long_only(score, top=3), 21),
             vol_target(long_only(score), bars, .1), cap_turnover(dollar_neutral(score, 1.5), .1)]
    assert max(same(w, bars) for w in books) < CENT


def test_parity_of_a_ruined_account():
    bars = toy_bars(t=30)
    for f in ('Open', 'High', 'Low', 'Close'): bars.loc[bars.index[10]:, (f, 'AAA')] *= 5
    w = pd.DataFrame(0., bars.index, bars['Close'].columns).assign(AAA=-.9, BBB=.3)
    assert same(w, bars) < CENT and (simulate(w, bars).equity < 0).any()
    m = metrics(backtest(w, bars), bars['Close']['BBB'])
    assert m['total_return'] < -1 and m['max_drawdown'] < -1
    assert np.isnan([m[k] for k in ('annual_return', 'volatility', 'sharpe', 'sortino', 'calmar', 'hit_rate',
                                    'beta', 'alpha', 'correlation')]).all()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([Costs(lot=7), Costs(volume_cap=.02), Costs(1e-3, 2e-3, lot=5, volume_cap=.03)]),
       st.booleans())
def test_parity_of_lots_and_volume_caps(seed, c, long):
    w, bars = market(seed, gaps=.1, **(dict(lo=.05, gross=1.2) if long else {}))
    assert same(w, bars, c) < CENT


def test_agree_sees_a_difference_and_a_hole():
    w, bars = market(1)
    a, b = simulate(w, bars), simulate(w, bars, Costs(5e-4, 5.1e-4))
    assert agree(a, a) == 0 and agree(a, b) > 1
    hole = simulate(w, bars)
    hole.book.iloc[3, 0] = np.nan
    assert agree(a, hole) == float('inf')
    with pytest.raises(BadData, match='ledgers'): agree(a, simulate(w.iloc[:9], bars.iloc[:9]))


def test_vectorbt_is_refused_what_it_does_not_know():
    w, bars = market(1)
    with pytest.raises(BadParams, match='borrow'): vectorbt_ledger(w, bars, Costs(borrow=.01))
    with pytest.raises(BadParams, match='impact'): vectorbt_ledger(w, bars, Costs(impact=1.))
    with pytest.raises(BadData, match='rows'): vectorbt_ledger(w.iloc[1:], bars)


def test_a_backtest_without_a_decision_is_refused():
    bars = toy_bars()
    w = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    with pytest.raises(BadData, match='none decided'): backtest(w, bars)
    w.iloc[-1] = .2
    with pytest.raises(BadData, match='none decided'): backtest(w, bars)
    with pytest.raises(BadData, match='at least 3'): metrics(simulate(w, bars))


def test_metrics_by_hand():
    bars = toy_bars(t=120)
    w = pd.DataFrame([[.4, -.2, .3, 0.]], bars.index, bars['Close'].columns)
    w.iloc[:10] = np.nan
    led = backtest(w, bars, Costs(1e-3, 2e-3, .02))
    m, eq = metrics(led), led.equity.iloc[10:]
    r = (eq / eq.shift() - 1).iloc[1:]
    assert m['start'] == bars.index[10] and m['rows'] == len(r) == 109
    assert m['total_return'] == pytest.approx(eq.iloc[-1] / 1e6 - 1)
    assert m['annual_return'] == pytest.approx((eq.iloc[-1] / 1e6) ** (252 / 109) - 1)
    assert m['sharpe'] == pytest.approx(r.mean() / r.std() * 252 ** .5)
    assert m['sortino'] == pytest.approx(r.mean() * 252 ** .5 / (r[r < 0].pow(2).sum() / 109) ** .5)
    assert (m['max_drawdown'] == pytest.approx((eq / eq.cummax() - 1).min())
            and m['calmar'] == pytest.approx(m['annual_return'] / -m['max_drawdown']))
    assert m['hit_rate'] == pytest.approx((r > 0).sum() / (r != 0).sum())
    notional = (led.fills.abs() * bars['Open']).sum(axis=1)
    assert m['turnover'] == pytest.approx((notional / led.equity.shift()).iloc[11:].mean() * 252)
    assert (m['traded'] == pytest.approx(notional.sum())
            and m['trades'] == int((led.fills.abs() * bars['Open'] > .01).sum().sum()))
    assert (m['costs'] == pytest.approx(led.costs.sum()) and m['net_exposure'] == pytest.approx(.5, abs=.02)
            and m['gross_exposure'] == pytest.approx(.9, abs=.02))


def test_break_even_of_the_trades_made_is_exact():
    w, bars = market(11, t=120, gaps=0., lo=-.1, hi=.2, still=.5)
    led = backtest(w, bars, Costs(3e-4, 4e-4, .03))
    shares, op, px = led.shares, bars['Open'], bars['Close']
    gross = (((px - op) * led.fills + (px - px.shift()) * shares.shift().fillna(0)).sum().sum()
             - led.book['borrow'].sum())
    bp = metrics(led)['break_even_bp']
    assert gross - bp * 1e-4 * (led.fills.abs() * op).sum().sum() == pytest.approx(0, abs=1e-4)


def test_break_even_by_the_fold_is_a_root():
    bars = toy_bars(t=300)
    up = (bars['Close'].shift(-40) > bars['Close']).astype(float) / 5
    bp = break_even(up, bars)
    assert abs(backtest(up, bars, Costs(bp * 1e-4, 0)).equity.iloc[-1] - 1e6) < 100 and bp > 1
    assert np.isnan(break_even(.2 - up, bars))


def test_warm_up_does_not_dilute():
    bars = toy_bars(t=200)
    w = equal_weight(bars)
    w.iloc[:120] = np.nan
    long, short = metrics(backtest(w, bars)), metrics(backtest(w.iloc[120:], bars.iloc[120:]))
    assert ({k: long.pop(k) for k in ('start', 'end')} == {k: short.pop(k) for k in ('start', 'end')}
            and long == pytest.approx(short, nan_ok=True))


def test_decided_cash_is_a_decision():
    bars = toy_bars(t=60)
    w = pd.DataFrame(0., bars.index, bars['Close'].columns)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        m = metrics(backtest(w, bars), benchmark=bars['Close']['AAA'])
    assert m['rows'] == 59 and m['total_return'] == m['trades'] == m['turnover'] == m['max_drawdown'] == 0
    assert (
        np.isnan([m[k] for k in ('sharpe', 'sortino', 'calmar', 'break_even_bp', 'hit_rate', 'correlation')]).all()
        and m['beta'] == 0)


def test_ratios_agree_with_quantstats_and_vectorbt():
    import quantstats.stats as qs, vectorbt as vbt
    r = pd.Series(np.random.default_rng(3).normal(-2e-4, .01, 400), pd.bdate_range('2020-01-01', periods=400))
    m, v = return_metrics(r), vbt.returns.accessors.ReturnsSRAccessor(r, freq='D', year_freq='252 days')
    for k, theirs in dict(sharpe=(qs.sharpe(r), v.sharpe_ratio()), sortino=(qs.sortino(r), v.sortino_ratio()),
                          volatility=(qs.volatility(r), v.annualized_volatility()),
                          annual_return=(qs.cagr(r), v.annualized()), total_return=(qs.comp(r), v.total()),
                          hit_rate=(qs.win_rate(r), qs.win_rate(r))).items():
        assert theirs == pytest.approx((m[k], m[k])), k


def test_benchmark_must_be_known_on_the_same_rows():
    bars = toy_bars(t=80)
    led, level = backtest(equal_weight(bars), bars), bars['Close'].mean(axis=1)
    m = metrics(led, level)
    r, b = ledger_returns(led), level.pct_change().iloc[1:]
    beta, const = np.polyfit(b, r, 1)
    assert (m['beta'], m['alpha'], m['correlation']) == pytest.approx((beta, const * 252, np.corrcoef(b, r)[0, 1]))
    for bad in (level.drop(level.index[5]), level.mask(level.index == level.index[7]), level * 0):
        with pytest.raises(BadData, match='benchmark'): metrics(led, bad)
    assert benchmark_metrics(b, level, led.start)['beta'] == pytest.approx(1)


def test_every_shared_metric_agrees_with_three_libraries(monkeypatch):
    "empyrical calls a name that numpy dropped; it is lent one for the length of this test"
    monkeypatch.setattr(np, 'NINF', -np.inf, raising=False)
    import empyrical as ep, quantstats.stats as qs, vectorbt as vbt
    for seed in range(3):
        rng = np.random.default_rng(seed)
        r = pd.Series(rng.standard_t(4, 500) * .008 + 2e-4, pd.bdate_range('2020-01-01', periods=500), name='r')
        b = (.6 * r + rng.normal(0, .01, 500)).rename('b')
        level = pd.concat([pd.Series([1.], [r.index[0] - pd.offsets.BDay()]), (1 + r).cumprod()])
        against = benchmark_metrics(r, pd.concat([level.iloc[:1], (1 + b).cumprod()]), level.index[0])
        m = return_metrics(r) | against | dict(max_drawdown=drawdown(level).min())
        m['calmar'] = m['annual_return'] / -m['max_drawdown']
        v = vbt.returns.accessors.ReturnsSRAccessor(r, freq='D', year_freq='252 days', benchmark_rets=b)
        greeks, compounded = qs.greeks(r, b, prepare_returns=False), (1 + m['alpha'] / 252) ** 252 - 1
        per_row = m['information_ratio'] / 252 ** .5
        theirs = dict(total_return=(qs.comp(r), ep.cum_returns_final(r), v.total()),
                      annual_return=(qs.cagr(r), ep.annual_return(r), v.annualized()),
                      volatility=(qs.volatility(r), ep.annual_volatility(r), v.annualized_volatility()),
                      sharpe=(qs.sharpe(r), ep.sharpe_ratio(r), v.sharpe_ratio()),
                      sortino=(qs.sortino(r), ep.sortino_ratio(r), v.sortino_ratio()),
                      calmar=(qs.calmar(r), ep.calmar_ratio(r), v.calmar_ratio()),
                      max_drawdown=(qs.max_drawdown(r), ep.max_drawdown(r), v.max_drawdown()),
                      profit_factor=(qs.profit_factor(r), ep.omega_ratio(r), v.omega_ratio()),
                      beta=(greeks['beta'], ep.beta(r, b), v.beta()), hit_rate=(qs.win_rate(r),),
                      best=(qs.best(r),), worst=(qs.worst(r),), alpha=(greeks['alpha'],))
        for k, x in theirs.items(): assert np.allclose(x, m[k], rtol=1e-9), k
        assert (np.allclose((ep.alpha(r, b), v.alpha()), compounded)
                and np.allclose((qs.information_ratio(r, b, prepare_returns=False), ep.excess_sharpe(r, b),
                                 v.information_ratio()), per_row))
        assert v.drawdowns.max_duration().days == drawdown_rows(level)


def test_a_loss_on_the_first_row_is_a_drawdown():
    r = pd.Series([-.05, .01, .02, -.01, .005, 0., .03], pd.bdate_range('2020-01-01', periods=7))
    level = pd.Series(np.r_[1., (1 + r).cumprod()])
    import quantstats.stats as qs
    assert (drawdown(level).min() == pytest.approx(-.05) == pytest.approx(qs.max_drawdown(r))
            and drawdown_rows(level) == 6)


@settings(max_examples=20, deadline=None)
@given(seeds, rates)
def test_round_trips_are_vectorbts_positions(seed, c):
    w, bars = market(seed, gaps=.05)
    w = w.where(np.random.default_rng(seed).random(w.shape) < .6, 0.).where(w.notna())
    led = simulate(w, bars, c)
    ours, theirs = round_trips(led), _vectorbt_run(w, bars, c, 1e6).positions
    rec = theirs.records.sort_values(['col', 'entry_idx'], kind='stable').reset_index(drop=True)
    closed = ours['closed'].notna()
    assert (len(ours) == len(rec) and (closed == (rec['status'] == 1)).all()
            and (w.columns[rec['col']] == ours['symbol']).all())
    for k, x in dict(shares='size', entry='entry_price').items(): assert np.allclose(ours[k], rec[x])
    for k, x in dict(exit='exit_price', profit='pnl').items():
        assert np.allclose(ours[k][closed], rec[x][closed], atol=1e-5)
    assert (np.allclose(ours['return'][closed], rec['return'][closed])
            and (ours['side'] == np.where(rec['direction'] == 0, 1, -1)).all())
    assert np.allclose(ours['rows'][closed], (rec['exit_idx'] - rec['entry_idx'])[closed])
    m = trip_metrics(led)
    if closed.any():
        assert m['round_trips'] == closed.sum() and m['win_rate'] == pytest.approx(theirs.closed.win_rate())


def test_round_trips_by_hand():
    bars = toy_bars(n=2, t=8)[['Close']] * 0 + 10.
    bars['Close', 'AAA'] = [10., 10, 12, 14, 14, 11, 11, 11]
    w = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    w.iloc[0, 0], w.iloc[1, 0], w.iloc[2, 0], w.iloc[4, 0] = .1, .2, 0., -.1
    led = simulate(w, bars, Costs(0, 0), 1000.)
    t = round_trips(led)
    assert t['side'].tolist() == [1, -1] and t['closed'].isna().tolist() == [False, True] and t['rows'].iloc[0] == 2
    bought = 10 * 1 + (20 - 10)
    first = t.iloc[0]
    assert (first['shares'] == pytest.approx(bought) and first['entry'] == pytest.approx((10 * 10 + 10 * 12) / 20)
            and first['exit'] == 14)
    assert first['profit'] == pytest.approx(20 * (14 - 11)) and first['return'] == pytest.approx(3 / 11)
    assert (trip_metrics(led)
            == pytest.approx(dict(round_trips=1, win_rate=1., average_win=3 / 11, average_loss=np.nan,
                                  trip_profit_factor=np.nan, rows_held=2.), nan_ok=True))
    none = trip_metrics(simulate(w.where(w.index.to_series() < w.index[2], axis=0), bars, Costs(0, 0), 1000.))
    assert none.pop('round_trips') == 0 and np.isnan(list(none.values())).all()


def test_profits_of_names_add_up_to_the_account():
    w, bars = market(4, t=80, gaps=0.)
    w.iloc[-6:] = 0.
    led = simulate(w, bars, Costs(1e-3, 2e-3))
    assert (led.shares.iloc[-1] == 0).all() and round_trips(led)['profit'].sum() == pytest.approx(
        led.equity.iloc[-1] - 1e6)


@pytest.mark.parametrize('path, rows', [([1, 2, 3], 0), ([3, 2, 1], 2), ([3, 2, 3, 2, 1, 2, 3], 3), ([1, 1, 1], 0)])
def test_drawdown_rows(path, rows):
    assert drawdown_rows(pd.Series(path, dtype=float)) == rows


def test_no_engine_peeks():
    bars = toy_bars(t=60)
    def book(b): return dollar_neutral(b['Close'].pct_change(5, fill_method=None))
    assert not peeks(lambda b: backtest(book(b), b), bars, bars.index[40])
    assert not peeks(lambda b: vectorbt_ledger(book(b), b), bars, bars.index[40])
    assert peeks(lambda b: vectorbt_ledger(book(b).shift(-2), b), bars, bars.index[40])
