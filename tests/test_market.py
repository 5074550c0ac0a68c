"The step and its fold: money is accounted for, cash stays above zero, orders are filled or listed, nothing is known early"
import subprocess, sys
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.market import Account, Costs, check_weights, fold, open_account, orders_for_tomorrow, step, stranded


def market(seed, n=4, t=25, gaps=.1, still=.1, lo=-.6, hi=.6, gross=None):
    "Random bars with gaps and random weights with NaN; the same seed gives the same market"
    rng, bars = np.random.default_rng(seed), toy_bars(n=n, t=t, seed=seed)
    bars = bars.mask(pd.DataFrame(rng.random(bars.shape) < gaps, bars.index, bars.columns))
    w = pd.DataFrame(rng.uniform(lo, hi, (t, n)), bars.index, bars['Close'].columns)
    if gross: w = w.div(w.abs().sum(axis=1), axis=0) * gross
    return w.mask(rng.random(w.shape) < still), bars


seeds, costs = st.integers(0, 10_000), st.sampled_from([Costs(0, 0), Costs(), Costs(.01, .02), Costs(1e-3, 0, .05)])


@settings(max_examples=25, deadline=None)
@given(seeds, costs)
def test_money_is_accounted_for(seed, c):
    w, bars = market(seed)
    led = fold(w, bars, c)
    mark = bars['Close'].ffill()
    assert np.allclose(led.equity, led.cash + (led.shares * mark).sum(axis=1), rtol=0, atol=1e-6)
    assert np.allclose(led.book['gross'], (led.shares.abs() * mark).sum(axis=1), rtol=0, atol=1e-6)
    assert np.allclose(led.shares, led.fills.cumsum(), rtol=0, atol=1e-6)
    paid = (led.fills * led.price.fillna(0)).sum(axis=1) + led.book['fees'] + led.book['borrow']
    assert np.allclose(led.cash.diff().iloc[1:], -paid.iloc[1:], rtol=0, atol=1e-6)
    assert np.allclose(led.book['slippage'], led.book['traded'] * c.slippage) and (led.costs >= 0).all()
    assert np.allclose(led.book['fees'], (led.fills.abs() * led.price.fillna(0)).sum(axis=1) * c.commission)
    assert (led.fills.iloc[0] == 0).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_python_steps_are_the_fold(seed):
    w, bars = market(seed)
    c, acc = Costs(1e-3, 2e-3, .1), open_account(4)
    led = fold(w, bars, c)
    for t in range(1, len(w)):
        acc, f = step(acc, w.iloc[t-1], bars['Close'].iloc[t-1], bars['Open'].iloc[t], c)
        assert np.array_equal(f.shares, led.fills.iloc[t]) and np.array_equal(f.price, led.price.iloc[t], equal_nan=True)
        assert acc.cash == led.cash.iloc[t] and f.costs == pytest.approx(led.costs.iloc[t])
        assert acc.marked(bars['Close'].iloc[t]).equity == led.equity.iloc[t]


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1., 1.5, 3.]))
def test_cash_never_below_zero_and_cuts_are_listed(seed, gross):
    w, bars = market(seed, lo=.1, gaps=0., gross=gross)
    led = fold(w, bars)
    assert (led.cash >= 0).all() and led.cash.min() == 0
    assert 'out of cash' in set(led.unfilled['reason']) and (led.unfilled['filled'] < led.unfilled['wanted']).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_every_order_is_filled_or_listed(seed):
    w, bars = market(seed)
    led = fold(w, bars)
    close, listed = bars['Close'], set(zip(led.unfilled.index, led.unfilled['symbol']))
    before = led.shares
    for t in range(1, len(w)):
        want = w.iloc[t-1] * led.equity.iloc[t-1] / close.iloc[t-1] - before.iloc[t-1]
        wished = w.iloc[t-1].notna() & ((w.iloc[t-1] != 0) | (before.iloc[t-1] != 0))
        for s in w.columns:
            got, missing = led.fills[s].iloc[t], (w.index[t], s) in listed
            if not wished[s]: assert got == 0 and not missing
            elif missing: assert np.isnan(want[s]) or abs(got) < abs(want[s])
            else: assert got == pytest.approx(want[s], abs=1e-6)


def test_reasons_name_what_was_missing():
    bars = toy_bars(t=6)
    d, s = bars.index, bars['Close'].columns
    bars.loc[d[1], ('Close', 'AAA')] = np.nan
    bars.loc[d[2], ('Open', 'BBB')] = np.nan
    w = pd.DataFrame(np.nan, d, s)
    w.loc[d[1]] = [.1, .1, .1, 2.]
    u = fold(w, bars).unfilled
    assert (u.index == d[2]).all()
    assert dict(zip(u['symbol'], u['reason'])) == dict(AAA='no price at the decision', BBB='no price at the fill', DDD='out of cash')
    assert np.isnan(u.set_index('symbol')['wanted']['AAA'])


def test_gap_up_of_a_fully_invested_account_ends_at_exactly_zero_cash():
    acc, f = step(open_account(3, 1e6), [.5, .3, .2], [10., 10., 10.], [12., 12., 12.], Costs(1e-3, 1e-3))
    spent = (f.shares * f.price).sum() * 1.001
    assert acc.cash == 0 and spent == pytest.approx(1e6) and list(f.reason) == ['out of cash', '', '']
    assert f.shares[1:].tolist() == [30_000, 20_000]


def test_sells_pay_for_buys_of_the_same_row():
    held = Account(0., np.array([100., 0.]), np.array([10., 10.]))
    acc, f = step(held, [0., 1.], [10., 10.], [10., 10.], Costs(0, 0))
    assert acc.shares.tolist() == [0, 100] and acc.cash == 0 and f.reason == ('', '')


def test_order_of_columns_and_currency_unit_do_not_matter():
    w, bars = market(3, n=5, lo=0., gross=1.2)
    led, other = fold(w, bars), w.columns[::-1]
    turned = pd.concat({f: bars[f][other] for f in bars.columns.get_level_values(0).unique()}, axis=1)
    assert np.allclose(fold(w[other], turned).shares[w.columns], led.shares, rtol=1e-9, atol=1e-6)
    assert np.allclose(fold(w, bars, cash=2e6).equity, 2 * led.equity)


def test_nan_holds_zero_sells_and_last_row_waits():
    bars = toy_bars(t=8)
    w = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    w.iloc[1], w.iloc[4], w.iloc[7] = .2, 0., .2
    led = fold(w, bars)
    assert led.start == bars.index[1] and np.flatnonzero((led.fills != 0).any(axis=1)).tolist() == [2, 5]
    assert (led.shares.iloc[5:] == 0).all(axis=None) and led.equity.iloc[-1] == led.cash.iloc[-1]
    assert (orders_for_tomorrow(led, w, bars)['order'] > 0).all()


def test_delisted_symbol_is_carried_listed_and_tradable_again_when_it_returns():
    bars = toy_bars(t=30)
    bars.loc[bars.index[10:20], (slice(None), 'BBB')] = np.nan
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    w.iloc[10:] = 0.
    led = fold(w, bars)
    held = led.shares['BBB']
    assert (held.iloc[10:20] == held.iloc[9]).all() and held.iloc[9] > 0
    assert set(led.unfilled.loc[bars.index[11]:, 'symbol']) == {'BBB'} and held.iloc[21] == 0
    short = fold(w.iloc[:20], bars.iloc[:20])
    lost = stranded(short, bars.iloc[:20])
    assert list(lost.index) == ['BBB'] and lost['last_date'].iloc[0] == bars.index[9]
    assert lost['value'].iloc[0] == pytest.approx(held.iloc[9] * bars['Close']['BBB'].iloc[9])
    assert stranded(led, bars).empty


def test_symbol_never_priced_never_traded():
    bars = toy_bars(t=10)
    bars.loc[:, (slice(None), 'CCC')] = np.nan
    led = fold(pd.DataFrame(.2, bars.index, bars['Close'].columns), bars)
    assert (led.fills['CCC'] == 0).all() and led.equity.notna().all() and (led.unfilled['symbol'] == 'CCC').sum() == 9
    none = fold(pd.DataFrame(0., bars.index, bars['Close'].columns), bars)
    assert none.unfilled.empty and (none.equity == 1e6).all()


def test_ruined_account_stops_trading():
    acc, _ = step(open_account(1, 100.), [-1.], [1.], [1.], Costs(0, 0))
    acc, f = step(acc, [0.], [3.], [3.], Costs(0, 0))
    assert acc.equity == -100 and f.shares[0] == 0 and f.reason == ('equity not positive',)


def test_borrow_is_charged_on_shorts_only():
    bars = toy_bars(t=60)
    w = pd.DataFrame([[.3, -.3, .2, -.2]], bars.index, bars['Close'].columns)
    led = fold(w, bars, Costs(0, 0, .05))
    short = (led.shares.clip(upper=0) * bars['Close']).sum(axis=1).abs()
    assert np.allclose(led.book['borrow'].iloc[1:], short.shift().iloc[1:] * .05 / 252) and led.book['borrow'].sum() > 0
    assert fold(w.clip(lower=0), bars, Costs(0, 0, .05)).book['borrow'].sum() == 0


def test_step_leaves_its_inputs_alone():
    acc = Account(100., np.array([1., 2.]), np.array([10., 10.]))
    step(acc, [.5, .5], [10., 11.], [10., 11.])
    assert acc.cash == 100 and acc.shares.tolist() == [1, 2] and acc.mark.tolist() == [10, 10]


@pytest.mark.parametrize('close_only', [False, True])
@pytest.mark.parametrize('cut', [20, 45])
def test_nothing_is_known_early(close_only, cut):
    bars = toy_bars(t=60)[['Close']] if close_only else toy_bars(t=60)
    def book(b): return b['Close'].pct_change(3, fill_method=None).rank(axis=1).sub(2.5).div(4)
    assert not peeks(lambda b: fold(book(b), b, Costs(borrow=.02)), bars, bars.index[cut])
    assert peeks(lambda b: fold(book(b).shift(-2), b), bars, bars.index[cut])
    assert not peeks(lambda b: fold(book(b), b).fills.shift(-1), bars, bars.index[cut], how=('noise',))
    assert peeks(lambda b: fold(book(b).shift(-1), b).fills.shift(-1), bars, bars.index[cut], how=('noise',))


@pytest.mark.parametrize('change, word', [
    (lambda w: w.iloc[1:], 'rows'), (lambda w: w.shift(1, freq='B'), 'rows'), (lambda w: w.iloc[:, 1:], 'symbols'),
    (lambda w: w.iloc[:, ::-1], 'another order'), (lambda w: w * np.inf, 'infinite'), (lambda w: w.astype(str), 'not numbers'),
    (lambda w: w.to_numpy(), 'ndarray'), (lambda w: w.iloc[::-1], 'not sorted')])
def test_weights_that_do_not_fit_are_refused(change, word):
    bars = toy_bars()
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    with pytest.raises(BadData, match=word): fold(change(w), bars)
    assert check_weights(w, bars) is w


def test_other_bad_input_is_refused():
    bars = toy_bars()
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    for c in (dict(commission=-.1), dict(slippage=1.), dict(borrow=float('inf')), dict(commission=True), dict(slippage=None)):
        with pytest.raises(BadParams, match='costs'): Costs(**c)
    for cash in (0, -1., float('nan'), True):
        with pytest.raises(BadParams, match='cash'): fold(w, bars, cash=cash)
    with pytest.raises(BadParams, match='Costs'): fold(w, bars, 5e-4)
    with pytest.raises(BadData, match='shape'): step(open_account(2), [1.], [1., 1.], [1., 1.])
    with pytest.raises(BadData, match='infinite'): step(open_account(1), [np.inf], [1.], [1.])
    with pytest.raises(BadData, match='positive'): step(open_account(1), [1.], [0.], [1.])
    with pytest.raises(BadData, match='other rows'): orders_for_tomorrow(fold(w, bars), w.iloc[:9], bars.iloc[:9])


def test_import_stays_light():
    code = "import sys, gnn_quant.market, gnn_quant.signals, gnn_quant.portfolio.sizing, gnn_quant.backtest; print([m for m in ('vectorbt', 'torch', 'quantstats') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
