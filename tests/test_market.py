"""The step and its fold: money is accounted for, cash stays above zero, orders are filled or listed,
nothing is known early"""
import subprocess, sys
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.data.bars import fill_price
from gnn_quant.kernels.market_step import simulate_rows
from gnn_quant.costs import Costs
from gnn_quant.market import (Account, REASONS, Tape, check_weights, simulate, liquidity, open_account,
                              orders_for_tomorrow, step, stranded)


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
    led = simulate(w, bars, c)
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
    led = simulate(w, bars, c)
    for t in range(1, len(w)):
        acc, f = step(acc, w.iloc[t-1], bars['Close'].iloc[t-1], bars['Open'].iloc[t], c)
        assert (np.array_equal(f.shares, led.fills.iloc[t])
                and np.array_equal(f.price, led.price.iloc[t], equal_nan=True))
        assert acc.cash == led.cash.iloc[t] and f.costs == pytest.approx(led.costs.iloc[t])
        assert acc.marked(bars['Close'].iloc[t]).equity == led.equity.iloc[t]


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1., 1.5, 3.]))
def test_cash_never_below_zero_and_cuts_are_listed(seed, gross):
    w, bars = market(seed, lo=.1, gaps=0., gross=gross)
    led = simulate(w, bars)
    assert (led.cash >= 0).all() and led.cash.min() == 0
    assert 'out of cash' in set(led.unfilled['reason']) and (led.unfilled['filled'] < led.unfilled['wanted']).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_every_order_is_filled_or_listed(seed):
    w, bars = market(seed)
    led = simulate(w, bars)
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
    u = simulate(w, bars).unfilled
    assert (u.index == d[2]).all()
    assert (dict(zip(u['symbol'], u['reason']))
            == dict(AAA='no price at the decision', BBB='no price at the fill', DDD='out of cash'))
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
    led, other = simulate(w, bars), w.columns[::-1]
    turned = pd.concat({f: bars[f][other] for f in bars.columns.get_level_values(0).unique()}, axis=1)
    assert np.allclose(simulate(w[other], turned).shares[w.columns], led.shares, rtol=1e-9, atol=1e-6)
    assert np.allclose(simulate(w, bars, cash=2e6).equity, 2 * led.equity)


def test_nan_holds_zero_sells_and_last_row_waits():
    bars = toy_bars(t=8)
    w = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    w.iloc[1], w.iloc[4], w.iloc[7] = .2, 0., .2
    led = simulate(w, bars)
    assert led.start == bars.index[1] and np.flatnonzero((led.fills != 0).any(axis=1)).tolist() == [2, 5]
    assert (led.shares.iloc[5:] == 0).all(axis=None) and led.equity.iloc[-1] == led.cash.iloc[-1]
    assert (orders_for_tomorrow(led, w, bars)['order'] > 0).all()


def test_delisted_symbol_is_carried_listed_and_tradable_again_when_it_returns():
    bars = toy_bars(t=30)
    bars.loc[bars.index[10:20], (slice(None), 'BBB')] = np.nan
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    w.iloc[10:] = 0.
    led = simulate(w, bars)
    held = led.shares['BBB']
    assert (held.iloc[10:20] == held.iloc[9]).all() and held.iloc[9] > 0
    assert set(led.unfilled.loc[bars.index[11]:, 'symbol']) == {'BBB'} and held.iloc[21] == 0
    short = simulate(w.iloc[:20], bars.iloc[:20])
    lost = stranded(short, bars.iloc[:20])
    assert list(lost.index) == ['BBB'] and lost['last_date'].iloc[0] == bars.index[9]
    assert lost['value'].iloc[0] == pytest.approx(held.iloc[9] * bars['Close']['BBB'].iloc[9])
    assert stranded(led, bars).empty


def test_symbol_never_priced_never_traded():
    bars = toy_bars(t=10)
    bars.loc[:, (slice(None), 'CCC')] = np.nan
    led = simulate(pd.DataFrame(.2, bars.index, bars['Close'].columns), bars)
    assert (led.fills['CCC'] == 0).all() and led.equity.notna().all() and (led.unfilled['symbol'] == 'CCC').sum() == 9
    none = simulate(pd.DataFrame(0., bars.index, bars['Close'].columns), bars)
    assert none.unfilled.empty and (none.equity == 1e6).all()


def test_ruined_account_stops_trading():
    acc, _ = step(open_account(1, 100.), [-1.], [1.], [1.], Costs(0, 0))
    acc, f = step(acc, [0.], [3.], [3.], Costs(0, 0))
    assert acc.equity == -100 and f.shares[0] == 0 and f.reason == ('equity not positive',)


def test_borrow_is_charged_on_shorts_only():
    bars = toy_bars(t=60)
    w = pd.DataFrame([[.3, -.3, .2, -.2]], bars.index, bars['Close'].columns)
    led = simulate(w, bars, Costs(0, 0, .05))
    short = (led.shares.clip(upper=0) * bars['Close']).sum(axis=1).abs()
    assert np.allclose(led.book['borrow'].iloc[1:], short.shift().iloc[1:] * .05 / 252) and led.book['borrow'].sum() > 0
    assert simulate(w.clip(lower=0), bars, Costs(0, 0, .05)).book['borrow'].sum() == 0


def test_step_leaves_its_inputs_alone():
    acc = Account(100., np.array([1., 2.]), np.array([10., 10.]))
    step(acc, [.5, .5], [10., 11.], [10., 11.])
    assert acc.cash == 100 and acc.shares.tolist() == [1, 2] and acc.mark.tolist() == [10, 10]


TIGHT = [Costs(impact=1.), Costs(lot=7), Costs(volume_cap=.05), Costs(1e-3, 2e-3, .05, 2., 1, .02, 10),
         Costs(0, 0, 0, .5, 25, 1.), Costs(.01, 0, 0, 30., 0, .5)]
tight, sizes = st.sampled_from(TIGHT), st.sampled_from([1e4, 1e6, 1e8])


def whole(q, lot): return int(q / lot + 1e-9) * lot if lot else q


def paid_for(q, p, slip, k, com): return q * p * (1 + slip + k * q ** .5) * (1 + com)


def affordable(cash, p, slip, k, com):
    "By bisection: as many shares as the cash pays for"
    lo, hi = 0., cash / p
    for _ in range(80):
        lo, hi = ((lo + hi) / 2, hi) if paid_for((lo + hi) / 2, p, slip, k, com) <= cash else (lo, (lo + hi) / 2)
    return lo


def by_hand(w, bars, c, cash):
    """The rules as the prose tells them, in plain Python:
    (row, symbol) -> (wanted, filled, price, reason), cash and equity of each row"""
    close, fill, volume = bars['Close'], fill_price(bars), bars.get('Volume')
    sigma, adv = (liquidity(bars, c.window)[k] for k in ('sigma', 'adv')) if c.impact else (None, None)
    held, mark, seen, out, books = dict.fromkeys(w, 0.), {}, {}, {}, []
    for t in range(len(w)):
        if t:
            worth = cash + sum(held[s] * mark[s] for s in w if held[s])
            wish, orders = w.iloc[t-1], []
            cash -= sum(-held[s] * mark[s] for s in w if held[s] < 0) * c.borrow / 252
            for s in w:
                if np.isnan(wish[s]) or (wish[s] == 0 and not held[s]): continue
                if worth <= 0 or np.isnan(close[s].iloc[t-1]):
                    out[t, s] = (np.nan, 0., np.nan,
                                 'equity not positive' if worth <= 0 else 'no price at the decision')
                    continue
                q = wish[s] * worth / close[s].iloc[t-1] - held[s]
                order = q * close[s].iloc[t-1]
                if c.lot and wish[s]: q = np.sign(q) * whole(abs(q), c.lot)
                if abs(q) <= 1e-12:
                    if c.lot and not held[s]: out[t, s] = (0., 0., np.nan, 'less than one lot')
                    continue
                p, n, why = fill[s].iloc[t], abs(q), ''
                if np.isnan(p):
                    out[t, s] = (q, 0., np.nan, 'no price at the fill')
                    continue
                if c.volume_cap:
                    v = volume[s].iloc[t]
                    most = 0. if np.isnan(v) else whole(c.volume_cap * v, c.lot)
                    if n > most: n, why = most, 'volume cap'
                k = (c.impact * sigma[s].iloc[t-1] / adv[s].iloc[t-1] ** .5 if c.impact and adv[s].iloc[t-1] != 0
                     else np.nan if c.impact else 0.)
                if np.isnan(k): n, why, k = 0., 'no volatility or volume known', 0.
                orders.append((s, q, order, n, p, k, why))
            for s, q, order, n, p, k, why in [o for o in orders if o[1] < 0]:
                price = p * max(0., 1 - c.slippage - k * n ** .5)
                cash += n * price * (1 - c.commission)
                held[s] -= n
                out[t, s] = (q, -n, price, why)
            buys = [o for o in orders if o[1] > 0]
            if sum(paid_for(o[3], o[4], c.slippage, o[5], c.commission) for o in buys) > cash:
                buys.sort(key=lambda o: o[2])
            for s, q, order, n, p, k, why in buys:
                cost = paid_for(n, p, c.slippage, k, c.commission)
                if cost > cash:
                    if cost > cash * (1 + 1e-9): why = 'out of cash'
                    n = whole(affordable(cash, p, c.slippage, k, c.commission), c.lot) if cash > 0 else 0.
                    cost = paid_for(n, p, c.slippage, k, c.commission) if c.lot else max(cash, 0.)
                if n: cash -= cost
                held[s] += n
                out[t, s] = (q, n, p * (1 + c.slippage + k * n ** .5), why)
        for s in w:
            if not np.isnan(close[s].iloc[t]): mark[s] = close[s].iloc[t]
        books.append((cash, cash + sum(held[s] * mark[s] for s in w if held[s])))
    return out, np.array(books)


@settings(max_examples=40, deadline=None)
@given(seeds, tight, sizes, st.sampled_from([0., .1]), st.booleans())
def test_the_fold_does_what_a_plain_loop_does(seed, c, cash, gaps, long):
    w, bars = market(seed, gaps=gaps, gross=1.2 if long else None, lo=.05 if long else -.6)
    led, (out, books) = simulate(w, bars, c, cash), by_hand(w, bars, c, cash)
    filled = pd.DataFrame(0., w.index, w.columns)
    for (t, s), o in out.items(): filled.loc[w.index[t], s] = o[1]
    scale = filled.abs().to_numpy().max() + 1
    assert np.allclose(led.fills, filled, rtol=1e-8, atol=1e-9 * scale)
    assert np.allclose(led.book[['cash', 'equity']], books, rtol=1e-8, atol=1e-8 * cash)
    listed = {(w.index.get_loc(d), s): why
              for d, s, why in zip(led.unfilled.index, led.unfilled['symbol'], led.unfilled['reason'])}
    assert ({k: v for k, v in listed.items() if v != 'out of cash'}
            == {k: o[3] for k, o in out.items() if o[3] not in ('', 'out of cash')})
    for (t, s), o in out.items():
        if abs(o[1]) > 1e-6: assert led.price[s].iloc[t] == pytest.approx(o[2], rel=1e-7)


@settings(max_examples=25, deadline=None)
@given(seeds, tight, sizes)
def test_money_is_accounted_for_with_frictions(seed, c, cash):
    w, bars = market(seed)
    led, paid = simulate(w, bars, c, cash), None
    paid = led.fills * led.price.fillna(0)
    out = paid.sum(axis=1) + led.book['fees'] + led.book['borrow']
    assert np.abs(led.cash.diff().iloc[1:] + out.iloc[1:]).max() <= 1e-9 * max(cash, led.book['gross'].max())
    assert np.allclose(led.book['slippage'],
                       (led.fills.abs() * (led.price - fill_price(bars)).abs().fillna(0)).sum(axis=1))
    if c.lot: assert (led.shares % c.lot).min(axis=None) == 0
    if c.volume_cap: assert (led.fills.abs() <= c.volume_cap * bars['Volume'].fillna(0) + 1e-9).all(axis=None)


def test_cash_is_conserved_to_a_billionth():
    rng = np.random.default_rng(0)
    for i in range(300):
        c, n = TIGHT[i % len(TIGHT)], 5
        px, fill, w = rng.uniform(1, 50, n), rng.uniform(1, 50, n), rng.uniform(-.8, .8, n)
        tape = Tape(rng.uniform(.005, .05, n), rng.uniform(1, 1e3, n), rng.uniform(0, 1e3, n))
        was = Account(rng.uniform(10, 1000), rng.integers(-20, 20, n).astype(float), px)
        now, f = step(was, w, px, fill, c, tape)
        spent = np.nansum(f.shares * f.price) + f.fees + f.borrow
        assert abs(was.cash - spent - now.cash) < 1e-9 and (now.shares == was.shares + f.shares).all()


@pytest.mark.parametrize('name, values', [('commission', (0, 1e-3, .05)), ('slippage', (0, 1e-3, .05)),
                                          ('impact', (0, .3, 3., 90.)), ('borrow', (0, .1, .9))])
def test_more_cost_never_leaves_more(name, values):
    rng, n = np.random.default_rng(1), 5
    for _ in range(100):
        px, fill, w = rng.uniform(1, 50, n), rng.uniform(1, 50, n), rng.uniform(-.8, .8, n)
        tape, was = (Tape(rng.uniform(.005, .05, n), rng.uniform(1, 1e3, n), np.full(n, 1e3)),
                     Account(500., rng.normal(0, 10, n), px))
        left = [step(was, w, px, fill, Costs(**dict(dict(commission=0, slippage=0), **{name: v})), tape)[0].marked(
            fill).equity for v in values]
        assert all(a >= b - 1e-9 for a, b in zip(left, left[1:]))
    bars = toy_bars(t=60)
    once = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    once.iloc[20] = [.5, -.3, .3, -.2]
    ends = [simulate(once, bars, Costs(**dict(dict(commission=0, slippage=0), **{name: v}))).equity.iloc[-1]
            for v in values]
    assert all(a > b for a, b in zip(ends, ends[1:]))


def test_impact_grows_with_the_root_of_the_order_and_with_volatility():
    def slid(q, sigma=.02, adv=1e4, y=1.):
        a, f = step(open_account(1, 1e12), [q * 10 / 1e12], [10.], [10.], Costs(0, 0, impact=y),
                    Tape([sigma], [adv], [0.]))
        return f.price[0] / 10 - 1
    q = np.geomspace(1, 1e7, 15)
    cost = np.array([slid(x) for x in q])
    slope, at = np.polyfit(np.log(q), np.log(cost), 1)
    assert slope == pytest.approx(.5, abs=1e-6) and np.exp(at) == pytest.approx(.02 / 100, rel=1e-5)
    assert (slid(1e4) == pytest.approx(.02) and slid(1e4, sigma=.06) == pytest.approx(.06)
            and slid(1e4, adv=4e4) == pytest.approx(.01) and slid(1e4, y=.5) == pytest.approx(.01))


def test_a_sale_pays_the_impact_too_and_never_below_zero():
    held = Account(0., np.array([400.]), np.array([10.]))
    _, f = step(held, [0.], [10.], [10.], Costs(0, 0, impact=1.), Tape([.02], [400.], [0.]))
    assert f.price[0] == pytest.approx(9.8) and f.slippage == pytest.approx(80)
    a, f = step(held, [0.], [10.], [10.], Costs(0, 0, impact=90.), Tape([.02], [1.], [0.]))
    assert f.price[0] == 0 and a.cash == 0 and f.slippage == pytest.approx(4000)


def test_lots_are_cut_towards_zero_and_a_closing_order_is_whole():
    c = Costs(0, 0, lot=100)
    held = Account(1000., np.array([150., -130., 0., 0.]), np.full(4, 10.))
    _, f = step(held, [0., 0., .9, .1], np.full(4, 10.), np.full(4, 10.), c)
    assert f.shares.tolist() == [-150, 130, 100, 0] and f.reason == ('', '', '', 'less than one lot')
    _, f = step(Account(0., np.array([500.]), np.array([10.])), [.5], [10.], [10.], c)
    assert f.shares[0] == -200
    _, f = step(open_account(2, 10_000.), [.55, .45], [10., 10.], [12., 12.], c)
    assert f.shares.tolist() == [400, 400] and f.reason == ('out of cash', '')


def test_unknown_volume_and_volatility_stop_an_order():
    c, p = Costs(0, 0, impact=1., volume_cap=.5), np.full(4, 10.)
    nan = np.nan
    _, f = step(open_account(4, 4000.), np.full(4, .25), p, p, c,
                Tape([nan, .02, .02, .02], [1e4, nan, 0., 1e4], [1e4, 1e4, 1e4, nan]))
    assert (f.shares == 0).all() and f.reason == ('no volatility or volume known',) * 3 + ('volume cap',)
    bars = toy_bars(t=40)
    bars.loc[bars.index[:25], ('Volume', 'AAA')] = np.nan
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    u = simulate(w, bars, Costs(impact=1.)).unfilled
    first = u[u['reason'] == 'no volatility or volume known'].groupby('symbol').size()
    assert first.to_dict() == dict(AAA=34, BBB=10, CCC=10, DDD=10)


def test_what_was_not_taken_is_listed_and_asked_again():
    bars = toy_bars(t=30)
    once = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    once.iloc[3, 0] = .5
    led = simulate(once, bars, Costs(volume_cap=.1), 1e6)
    u = led.unfilled
    assert (len(u) == 1 and u['filled'].iloc[0] == pytest.approx(.1 * bars['Volume']['AAA'].iloc[4])
            and u['wanted'].iloc[0] > 4000)
    held = simulate(once.ffill(), bars, Costs(volume_cap=.1), 1e6).shares['AAA']
    assert (held.diff().iloc[4:10] > 0).all() and held.iloc[10] > 5 * u['filled'].iloc[0]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_frictions_of_nothing_change_nothing(seed):
    w, bars = market(seed, lo=-.6, hi=.9)
    a, led = ([np.ascontiguousarray(x, dtype=float) for x in (w, bars['Close'], bars['Open'])],
              simulate(w, bars, Costs(1e-3, 2e-3, .1)))
    book, why = np.empty((len(w), 7)), np.zeros(w.shape, np.int8)
    held, fills, price, want = np.empty(w.shape), np.zeros(w.shape), np.full(w.shape, np.nan), np.empty(w.shape)
    simulate_rows(*a, 1e6, (1e-3, 2e-3, .1, 252.), book, held, fills, price, want, why, 0.,
                  np.full(w.shape, np.inf), np.zeros(w.shape))
    for k, x in dict(book=book, shares=held, fills=fills, price=price).items():
        assert np.allclose(getattr(led, k), x, rtol=1e-10, atol=1e-6, equal_nan=True)
    assert len(led.unfilled) == (why > 0).sum()


@settings(max_examples=20, deadline=None)
@given(seeds, tight, sizes)
def test_python_steps_are_the_fold_with_frictions(seed, c, cash):
    w, bars = market(seed)
    known, acc, led = liquidity(bars, c.window), open_account(4, cash), simulate(w, bars, c, cash)
    for t in range(1, len(w)):
        tape = Tape(known['sigma'].iloc[t-1], known['adv'].iloc[t-1], bars['Volume'].iloc[t])
        acc, f = step(acc, w.iloc[t-1], bars['Close'].iloc[t-1], bars['Open'].iloc[t], c, tape)
        assert (np.array_equal(f.shares, led.fills.iloc[t])
                and np.array_equal(f.price, led.price.iloc[t], equal_nan=True) and acc.cash == led.cash.iloc[t])


def test_missing_volume_is_refused_by_name():
    bars = toy_bars()
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    for c in (Costs(impact=1.), Costs(volume_cap=.1)):
        with pytest.raises(BadParams, match='bars no field Volume'):
            simulate(w, bars.drop(columns='Volume', level=0), c)
        with pytest.raises(BadParams, match=c.frictions[0]): step(open_account(1), [1.], [1.], [1.], c)
    assert simulate(w, bars[['Close']], Costs(lot=1)).fills.abs().sum().sum() > 0
    with pytest.raises(BadData, match='no field Volume'): liquidity(bars[['Close']])
    with pytest.raises(BadData, match='shape'):
        step(open_account(1), [1.], [1.], [1.], Costs(impact=1.), Tape([1.], [1., 2.], [1.]))
    for bad in (dict(impact=-1), dict(impact=1e9), dict(lot=float('inf')), dict(volume_cap=1.5),
                dict(volume_cap=True), dict(window=1), dict(window=2.5)):
        with pytest.raises(BadParams, match='costs'): Costs(**bad)


def test_orders_for_tomorrow_come_in_lots():
    bars = toy_bars(t=30)
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    o = orders_for_tomorrow(simulate(w, bars, Costs(lot=50)), w.assign(AAA=.01), bars, Costs(lot=50))['order']
    assert (o % 50 == 0).all() and o['AAA'] < 0 and set(REASONS) >= set(
        orders_for_tomorrow(simulate(w, bars), w, bars)['note'])


@pytest.mark.parametrize('cut', [20, 45])
@pytest.mark.parametrize('c', TIGHT)
def test_frictions_know_nothing_early(cut, c):
    bars = toy_bars(t=60)
    def book(b): return b['Close'].pct_change(3, fill_method=None).rank(axis=1).sub(2.5).div(4)
    assert not peeks(lambda b: simulate(book(b), b, c, 1e7), bars, bars.index[cut])
    assert not peeks(lambda b: liquidity(b, c.window), bars, bars.index[cut])
    if c.impact:
        assert not peeks(
            lambda b: simulate(book(b), b, Costs(impact=1.), 1e7).fills.where(lambda f: f < 0).shift(-1), bars,
            bars.index[cut], how=('noise',))


@pytest.mark.parametrize('close_only', [False, True])
@pytest.mark.parametrize('cut', [20, 45])
def test_nothing_is_known_early(close_only, cut):
    bars = toy_bars(t=60)[['Close']] if close_only else toy_bars(t=60)
    def book(b): return b['Close'].pct_change(3, fill_method=None).rank(axis=1).sub(2.5).div(4)
    assert not peeks(lambda b: simulate(book(b), b, Costs(borrow=.02)), bars, bars.index[cut])
    assert peeks(lambda b: simulate(book(b).shift(-2), b), bars, bars.index[cut])
    assert not peeks(lambda b: simulate(book(b), b).fills.shift(-1), bars, bars.index[cut], how=('noise',))
    assert peeks(lambda b: simulate(book(b).shift(-1), b).fills.shift(-1), bars, bars.index[cut], how=('noise',))


@pytest.mark.parametrize('change, word',
                         [(lambda w: w.iloc[1:], 'rows'), (lambda w: w.shift(1, freq='B'), 'rows'),
                          (lambda w: w.iloc[:, 1:], 'symbols'), (lambda w: w.iloc[:, ::-1], 'another order'),
                          (lambda w: w * np.inf, 'infinite'), (lambda w: w.astype(str), 'not numbers'),
                          (lambda w: w.to_numpy(), 'ndarray'), (lambda w: w.iloc[::-1], 'not sorted')])
def test_weights_that_do_not_fit_are_refused(change, word):
    bars = toy_bars()
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    with pytest.raises(BadData, match=word): simulate(change(w), bars)
    assert check_weights(w, bars) is w


def test_other_bad_input_is_refused():
    bars = toy_bars()
    w = pd.DataFrame(.2, bars.index, bars['Close'].columns)
    for c in (dict(commission=-.1), dict(slippage=1.), dict(borrow=float('inf')), dict(commission=True),
              dict(slippage=None)):
        with pytest.raises(BadParams, match='costs'): Costs(**c)
    for cash in (0, -1., float('nan'), True):
        with pytest.raises(BadParams, match='cash'): simulate(w, bars, cash=cash)
    with pytest.raises(BadParams, match='Costs'): simulate(w, bars, 5e-4)
    with pytest.raises(BadData, match='shape'): step(open_account(2), [1.], [1., 1.], [1., 1.])
    with pytest.raises(BadData, match='infinite'): step(open_account(1), [np.inf], [1.], [1.])
    with pytest.raises(BadData, match='positive'): step(open_account(1), [1.], [0.], [1.])
    with pytest.raises(BadData, match='other rows'): orders_for_tomorrow(simulate(w, bars), w.iloc[:9], bars.iloc[:9])


def test_import_stays_light():
    code = ("import sys, gnn_quant.market, gnn_quant.signals, gnn_quant.portfolio.sizing, "
            "gnn_quant.backtest.engine; "
            "print([m for m in ('vectorbt', 'torch', 'quantstats') if m in sys.modules])")
    assert (subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
            == '[]')
