"The permutation test: a draw is what the fold makes of it, keeps what is no knowledge, and errs as often as it says"
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.backtest.engine import ledger_returns
from gnn_quant.core import BadData, BadParams, toy_bars
from gnn_quant.kernels import accounting
from gnn_quant.backtest.permutation import (KINDS, p_value, permutation_test, permutation_words, permuted_weights,
                                            signal_memory)
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral, equal_weight, long_only, rebalance_every


def momentum(bars, k=20): return dollar_neutral(bars['Close'].pct_change(k, fill_method=None))


def hollow(bars, seed, holes=.05):
    "Names that are listed late or leave early, days without a price, and opens that are missing alone"
    rng, out = np.random.default_rng(seed), bars.copy()
    t, names = len(bars), list(bars['Close'].columns)
    for k, s in enumerate(names):
        a, b = (rng.integers(0, t // 2), rng.integers(t // 2 + 10, t)) if k % 3 else (0, t)
        gone = rng.random(t) < holes
        gone[:a], gone[b:] = True, True
        out.loc[gone, (slice(None), s)] = np.nan
        out.loc[rng.random(t) < holes, ('Open', s)] = np.nan
    return out


def sharpe_of(weights, bars, costs):
    r = ledger_returns(simulate(weights, bars, costs))
    return r.mean() / r.std() if r.std() > 0 else np.nan


def against_the_fold(weights, bars, costs, kind, draws=6, seed=0, memory=None):
    test = permutation_test(weights, bars, costs, kind, draws, seed, memory=memory)
    a = test.accounts
    mine = (a['mean'] / a['deviation']).to_numpy()
    theirs = [sharpe_of(permuted_weights(weights, bars, s, l), bars, costs) for s, l in zip(a['shift'], a['relabel'])]
    np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-11)
    led = simulate(weights, bars, costs)
    before = led.equity.shift().loc[ledger_returns(led).index]
    assert (np.isclose(a['turnover'][0], (led.book['traded'].loc[before.index] / before).mean())
            and np.isclose(a['cost'][0], (led.costs.loc[before.index] / before).mean()))
    return test


BOOKS = dict(neutral=lambda s: dollar_neutral(s), long=lambda s: long_only(s, 3),
             levered=lambda s: dollar_neutral(s, 3.), weekly=lambda s: rebalance_every(dollar_neutral(s), 5),
             some_hold=lambda s: dollar_neutral(s).mask(np.random.default_rng(1).random(s.shape) < .3))


@settings(max_examples=25)
@given(st.sampled_from(KINDS), st.sampled_from(sorted(BOOKS)), st.integers(0, 99), st.booleans(), st.integers(3, 20))
def test_each_draw_is_the_fold_of_its_weights(kind, book, seed, full, n):
    bars = toy_bars(n, 90, seed)
    bars = bars if full else hollow(bars, seed)
    against_the_fold(BOOKS[book](bars['Close'].pct_change(5, fill_method=None)), bars, Costs(1e-3, 2e-3, .05), kind,
                     seed=seed)


@pytest.mark.parametrize('make', [equal_weight, lambda b: long_only(b['Close'].pct_change(fill_method=None), 2)],
                         ids=['equal', 'two names'])
def test_a_book_that_is_short_of_cash_every_day_is_the_fold_too(make):
    bars = toy_bars(17, 120)
    for kind in KINDS: against_the_fold(make(bars), bars, Costs(.01, .02), kind)
    assert len(simulate(make(bars), bars, Costs(.01, .02)).unfilled) > 50


def test_closes_alone_will_do():
    bars = toy_bars(6, 90)[['Close']]
    against_the_fold(momentum(bars, 5), bars, Costs(5e-4, 1e-3, .05), 'both', 10)


@pytest.mark.parametrize('kind', KINDS)
def test_a_market_with_holes_and_a_book_that_holds(kind):
    bars = hollow(toy_bars(12, 90), 4)
    against_the_fold(BOOKS['some_hold'](bars['Close'].pct_change(5, fill_method=None)), bars,
                     Costs(5e-4, 1e-3, .05), kind, 12)


def test_a_ruined_draw_reached_nothing_and_a_ruined_book_has_no_p():
    bars = toy_bars(4, 80)
    wild = dollar_neutral(bars['Close'].pct_change(fill_method=None), 60.)
    test = permutation_test(wild, bars, Costs(.01, .01), 'names', 20)
    assert (np.isnan(test.found) and np.isnan(test.p) and 'ruined' in permutation_words(test)
            and test.accounts.iloc[0][['mean', 'deviation']].isna().all())
    a = permutation_test(wild, bars, Costs(0., 0.), 'names', 23).accounts
    theirs = [sharpe_of(permuted_weights(wild, bars, s, l), bars, Costs(0., 0.))
              for s, l in zip(a['shift'], a['relabel'])]
    np.testing.assert_allclose(a['mean'] / a['deviation'], theirs, rtol=1e-8)
    assert p_value(.1, np.array([np.nan, np.nan, 0.])) == .25 and np.isnan(p_value(np.nan, np.zeros(3)))
    flat = permutation_test(wild * 0., bars, Costs(), 'names', 20)
    assert np.isnan(flat.p) and np.isnan(flat.draws).all()


def test_impact_lots_and_caps_are_paid_by_the_fold():
    bars = toy_bars(6, 100)
    w = momentum(bars, 5)
    for costs in (Costs(impact=1.), Costs(lot=100.), Costs(volume_cap=.01)):
        a = permutation_test(w, bars, costs, 'both', 5).accounts
        theirs = [sharpe_of(permuted_weights(w, bars, s, l), bars, costs) for s, l in zip(a['shift'], a['relabel'])]
        np.testing.assert_allclose(a['mean'] / a['deviation'], theirs, rtol=1e-9)
        assert abs(a['mean'][0] / a['deviation'][0] - sharpe_of(w, bars, Costs())) > 1e-6
    slow, fast = (permutation_test(w, bars, c, 'both', 20) for c in (Costs(lot=1e-9), Costs()))
    np.testing.assert_allclose(slow.draws, fast.draws, rtol=1e-7)


def test_ties_count_against_the_finding():
    bars = toy_bars(8, 100)
    w = equal_weight(bars)
    assert permutation_test(w, bars, Costs(), 'names', 50).p == 1. and p_value(0., np.zeros(9)) == 1.
    assert p_value(1., np.zeros(99)) == .01 and p_value(1., np.r_[np.full(4, 1 - 1e-12), np.zeros(95)]) == .05


@pytest.mark.parametrize('gaps', [False, True])
def test_turnover_and_exposure_stay_what_they_were(gaps):
    bars = toy_bars(30, 400)
    bars = hollow(bars, 3, 0.) if gaps else bars
    w = rebalance_every(momentum(bars), 5)
    for kind in KINDS:
        a = permutation_test(w, bars, Costs(), kind, 40).accounts
        assert abs(a['turnover'][1:].mean() / a['turnover'][0] - 1) < (.15 if gaps else .03), kind
        for s, l in a[['shift', 'relabel']].iloc[1:4].itertuples(index=False):
            p = permuted_weights(w, bars, s, l).iloc[20:-1]
            told = p.dropna(how='all')
            assert (abs(len(told) - w.iloc[20:-1].notna().any(axis=1).sum()) <= 1
                    and told.iloc[1:].sum(axis=1).abs().max() < 1e-9)
            assert (np.allclose(told.iloc[1:].abs().sum(axis=1), 1.)
                    and (told.where(bars['Close'].isna()).fillna(0.) == 0).all(axis=None))


def test_shuffled_days_would_trade_many_times_as_much():
    bars = toy_bars(20, 300)
    w = momentum(bars)
    mixed = w.copy()
    mixed.iloc[20:] = w.iloc[20:].sample(frac=1, random_state=0).to_numpy()
    traded = lambda v: simulate(v, bars).book['traded'].sum()
    assert traded(mixed) > 3 * traded(w)


def test_one_relabelling_for_all_dates():
    bars = toy_bars(9, 100)
    w = momentum(bars, 5)
    p, w = permuted_weights(w, bars, 0, 7).iloc[5:-1].to_numpy(), w.iloc[5:-1].to_numpy()
    who = [int(np.flatnonzero((w == p[:, [k]]).all(0))[0]) for k in range(9)]
    assert sorted(who) == list(range(9)) and who != list(range(9))
    seen = {tuple(permuted_weights(momentum(bars, 5), bars, 0, 2 * k + 1).iloc[50].argsort()) for k in range(200)}
    assert len(seen) == 200


def test_a_new_partner_takes_over_what_it_was_last_told():
    bars = toy_bars(5, 100)
    w = bars['Close'] * np.nan
    bars.loc[bars.index[60:], (slice(None), 'AAA')] = np.nan
    bars.loc[bars.index[:60], (slice(None), 'EEE')] = np.nan
    w.iloc[5] = [.1, .2, .3, .4, np.nan]
    w.iloc[60, 4], w.iloc[5:, 1] = .5, .2
    for k in range(40):
        p = permuted_weights(w, bars, 0, 2 * k + 1).ffill()
        assert sorted(p.iloc[59, :4]) == [.1, .2, .3, .4] and sorted(p.iloc[70, 1:]) == [.2, .3, .4, .5], k


def test_every_name_may_stand_for_every_other():
    bars = toy_bars(5, 80)
    w = dollar_neutral(pd.DataFrame(np.tile(np.arange(5.), (80, 1)), bars.index, bars['Close'].columns))
    at = (
        np.array([permuted_weights(w, bars, 0, 2 * k + 1).iloc[10].rank().to_numpy() for k in range(2_000)]).astype(
            int))
    for k in range(5): assert np.abs(np.bincount(at[:, k], minlength=6)[1:] / 2_000 - .2).max() < .04


def test_dates_move_and_come_in_at_the_other_end():
    bars = toy_bars(5, 100)
    w = momentum(bars, 5)
    p = permuted_weights(w, bars, 30)
    assert (p.iloc[35:99].to_numpy().tolist() == w.iloc[5:69].to_numpy().tolist()
            and p.iloc[5:35].to_numpy().tolist() == w.iloc[69:99].to_numpy().tolist())
    assert p.iloc[:5].isna().all(axis=None) and p.iloc[99].equals(w.iloc[99])
    held = rebalance_every(w, 10)
    q = permuted_weights(held, bars, 33)
    assert q.iloc[5].equals(held.ffill().iloc[66].rename(q.index[5])) and q.iloc[6:15].notna().any(axis=1).sum() == 1


def test_no_move_sees_what_the_signal_looked_back_at_and_none_is_left_out():
    bars = toy_bars(10, 500)
    w = momentum(bars, 40)
    test, rows = permutation_test(w, bars, Costs(), 'dates', 5_000), 500 - 1 - 40
    s, m = test.accounts['shift'].iloc[1:].to_numpy(), signal_memory(w)
    assert test.memory == m and len(test.draws) == rows - 1 and s.max() == rows - m
    assert np.bincount(s, minlength=rows)[1:].tolist() == [2] * (m - 1) + [1] * (rows - 2 * m + 1) + [0] * (m - 1)
    few = permutation_test(w, bars, Costs(), 'dates', 100, memory=150).accounts['shift'].iloc[1:]
    assert few.max() <= rows - 150 and few.min() >= 1 and few.value_counts().max() <= 2
    both = permutation_test(w, bars, Costs(), 'both', 2_000, memory=150)
    assert (both.accounts['shift'].max() <= rows - 150 and len(both.draws) == 2_000
            and permutation_test(w, bars, Costs(), 'names', 5).memory == 0)


def test_a_reversal_book_is_not_compared_with_books_that_see_its_past():
    "Moved one row back it would bet against returns that have just been paid: worse than chance, for sure"
    bars = toy_bars(20, 400)
    w = dollar_neutral(-bars['Close'].pct_change(fill_method=None))
    rows = 398
    seers = [sharpe_of(permuted_weights(w, bars, rows - k), bars, Costs(0., 0.)) for k in (2, 1)]
    assert min(seers) < -1 and permutation_test(w, bars, Costs(0., 0.), draws=1_000).draws.min() > -.5


def test_memory_is_about_timing_and_never_more_than_a_quarter():
    bars = toy_bars(12, 800)
    assert signal_memory(momentum(bars, 5)) == 20 < 50 < signal_memory(momentum(bars, 60)) <= 200
    assert signal_memory(momentum(bars, 5) + np.linspace(-.5, .5, 12)) == signal_memory(momentum(bars, 5))
    assert signal_memory(equal_weight(bars)) == 20 and signal_memory(equal_weight(bars).iloc[:80]) == 10
    rising = pd.DataFrame(np.linspace(-1, 1, 800)[:, None] * np.ones(12), bars.index, bars['Close'].columns)
    assert signal_memory(rising) == 200
    spread = bars['Close'].rolling(10).mean() - bars['Close'].rolling(60).mean()
    assert signal_memory(dollar_neutral(spread)) >= 30


def test_threads_and_the_order_of_draws_change_no_bit(monkeypatch):
    bars = hollow(toy_bars(9, 100), 1)
    w = momentum(bars, 5)
    one = permutation_test(w, bars, Costs(), 'both', 37)
    monkeypatch.setattr(accounting, 'threads', lambda: 3)
    three = permutation_test(w, bars, Costs(), 'both', 37)
    assert one.draws.tobytes() == three.draws.tobytes() and one.accounts.equals(three.accounts)
    other = permutation_test(w, bars, Costs(), 'both', 37, seed=1)
    assert one.found == other.found and not np.allclose(one.draws, other.draws)


def test_costs_in_units_of_risk_are_those_of_the_found_book():
    bars = toy_bars(12, 300)
    w = momentum(bars, 1)
    net, test = (permutation_test(w, bars, Costs(), 'names', 50, statistic=s) for s in ('net', 'sharpe'))
    a = test.accounts
    gross = (a['mean'] + a['cost']) / a['deviation']
    assert (np.allclose(test.draws, (gross - a['cost'][0] / a['deviation'][0])[1:])
            and np.allclose(net.draws, (a['mean'] / a['deviation'])[1:]))
    assert test.found == net.found and test.p == p_value(gross[0], gross[1:].to_numpy())


def test_words_count_what_was_drawn():
    bars = toy_bars(6, 200)
    test = permutation_test(momentum(bars, 5), bars, Costs(), 'dates', 50)
    b = int((test.draws >= test.found).sum())
    assert (permutation_words(test).startswith(f'{b} of 50 books') and test.p == (1 + b) / 51
            and f'{test.found * 252 ** .5:.2f} a year' in permutation_words(test))


@pytest.mark.parametrize('bad,says', [(dict(kind='weeks'), 'kind='), (dict(statistic='mean'), 'statistic='),
                                      (dict(draws=0), 'draws=0'), (dict(draws=True), 'draws=True'),
                                      (dict(draws=2.5), 'draws=2.5'), (dict(costs=.001), 'costs is a float'),
                                      (dict(memory=90), 'memory=90'), (dict(memory=-1), 'memory=-1')], ids=str)
def test_bad_parameters_are_named(bad, says):
    bars = toy_bars(4, 120)
    with pytest.raises(BadParams, match=says): permutation_test(momentum(bars, 5), bars, **bad)


def test_bad_data_is_named():
    bars = toy_bars(4, 120)
    w = momentum(bars, 5)
    with pytest.raises(BadData, match='39 rows from the first decision'):
        permutation_test(w.mask(np.tile(np.arange(120)[:, None] < 80, 4)), bars)
    with pytest.raises(BadData, match='0 rows'): permutation_test(w * np.nan, bars)
    with pytest.raises(BadData, match='rows'): permutation_test(w.iloc[:-1], bars)
    one = toy_bars(1, 120)
    alone = pd.DataFrame(.5, one.index, one['Close'].columns)
    with pytest.raises(BadParams, match='one symbol'): permutation_test(alone, one, kind='names')
    assert permutation_test(alone, one, draws=10).p == 1.
    assert permutation_test(w.mask(np.tile(np.arange(120)[:, None] < 79, 4)), bars).p > 1 / 41
