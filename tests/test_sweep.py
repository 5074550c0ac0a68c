"Sweeps: the house's own engine and figures for every set, chunks, failures, and every set a trial in the ledger"
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hyp, strategies as st

from gnn_quant.backtest.engine import backtest, ledger_returns, metrics, vectorbt_ledger
from gnn_quant.core import BadData, BadParams, frame_hash, peeks, toy_bars
from gnn_quant.stats.pbo import cscv
from gnn_quant.evidence.trial_ledger import count, recorded, trial_returns
from gnn_quant.costs import Costs
from gnn_quant.portfolio.sizing import dollar_neutral, long_only
from gnn_quant.backtest.sweep import SWEEP_COLUMNS, parameter_sets, set_name, sweep

BARS = toy_bars(n=5, t=120)


def momentum(n, top=2): return long_only(BARS['Close'].pct_change(n, fill_method=None), top=top)


# ---- the same as the house's engine

def market_of(seed, t=60, n=4):
    "Bars in which names come, go and pause, and blocks of weights that hold, go short, and go beyond the equity"
    rng, bars = np.random.default_rng(seed), toy_bars(n=n, t=t, seed=seed)
    gone = pd.DataFrame(rng.random((t, n)) < .05, bars.index, bars['Close'].columns)
    gone.iloc[:rng.integers(0, 20), 0] = True
    bars = bars.mask(pd.concat({f: gone for f in ('Open', 'High', 'Low', 'Close', 'Volume')}, axis=1))
    ws = rng.normal(.1, .25, (3, t, n))
    ws[rng.random(ws.shape) < .2] = np.nan
    ws[:, rng.random(t) < .3] = np.nan
    ws[1] = np.abs(ws[1])
    return bars, ws


@given(st.integers(0, 10**6))
@hyp(max_examples=15)
def test_every_set_is_what_market_fold_makes_of_it(seed):
    bars, ws = market_of(seed)
    s = sweep(bars, ws, dict(k=[0, 1, 2]), Costs(3e-4, 7e-4), checks=0)
    for i, w in enumerate(ws):
        led = backtest(pd.DataFrame(w, bars.index, bars['Close'].columns), bars, Costs(3e-4, 7e-4))
        want = ledger_returns(led)
        got = s.returns[i].loc[want.index]
        assert (s.returns[i].notna().sum() == want.notna().sum()
                and (want.isna().all() or np.abs(got - want).max() < 1e-9))


def test_every_figure_is_that_of_the_backtest():
    s = sweep(BARS, momentum, dict(n=[2, 5, 9], top=[1, 3]))
    for (n, top), row in s.table.iterrows():
        led = backtest(momentum(n, top), BARS)
        assert all(np.isclose(row[k], metrics(led)[k], rtol=1e-9) for k in SWEEP_COLUMNS)
        assert np.allclose(s.returns[(n, top)].dropna(), ledger_returns(led), atol=1e-13)
        assert np.allclose(s.returns[(n, top)].dropna(), ledger_returns(vectorbt_ledger(momentum(n, top), BARS)),
                           atol=1e-13)
    assert list(s.table.columns) == list(SWEEP_COLUMNS) and s.gap < 1e-12 and s.names[0] == 'n=2 top=1'


def test_parts_of_the_memory_change_no_bit_and_one_call_is_made_for_each(monkeypatch):
    import vectorbt as vbt
    calls, real = [], vbt.Portfolio.from_orders
    monkeypatch.setattr(vbt.Portfolio, 'from_orders',
                        staticmethod(lambda **k: calls.append(k['close'].shape[1]) or real(**k)))
    grid = dict(n=range(2, 12))
    whole = sweep(BARS, momentum, grid)
    assert calls == [50]
    parts = sweep(BARS, momentum, grid, memory=4 * 200 * 600 / 1e9)
    assert calls == [50, 20, 20, 10] and parts.returns.equals(whole.returns) and parts.table.equals(whole.table)


def test_blocks_and_lists_are_the_same_as_a_recipe():
    frames = [momentum(n) for n in (2, 5, 9)]
    want = sweep(BARS, momentum, dict(n=[2, 5, 9]))
    for w in (frames, [f.to_numpy() for f in frames], np.stack(frames)):
        assert sweep(BARS, w, dict(n=[2, 5, 9])).returns.equals(want.returns)


def test_disagreeing_engines_are_not_passed_over(monkeypatch):
    import gnn_quant.backtest.sweep as module
    def wrong(*a, **k):
        pf = real(*a, **k)
        pf.order_records['price'][3] *= 1.001
        return pf
    real = module._simulate
    monkeypatch.setattr(module, '_simulate', wrong)
    with pytest.raises(BadData, match='vectorbt and market.simulate differ'): sweep(BARS, momentum, dict(n=[2, 5]))


def test_a_set_that_never_decides_or_is_ruined_has_no_figures():
    rocket = BARS.copy()
    for f in ('Open', 'High', 'Low', 'Close'):
        rocket[(f, 'AAA')] = BARS[(f, 'AAA')] * np.r_[np.ones(60), np.full(60, 50.)]
    short = pd.DataFrame(0., BARS.index, BARS['Close'].columns).assign(AAA=-1.)
    s = sweep(rocket, [momentum(2), short * np.nan, short], dict(k=['fine', 'silent', 'ruined']))
    assert (s.table['sharpe'].notna().tolist() == [True, False, False]
            and s.returns[['silent', 'ruined']].isna().all(axis=None))
    assert s.table.loc['silent', 'trades'] == 0 and s.table['rows'].tolist() == [117, 0, 0]


def test_the_past_stands_still():
    run = lambda b: sweep(b, lambda n: dollar_neutral(b['Close'].pct_change(n, fill_method=None)),
                          dict(n=[2, 5])).returns
    assert not peeks(run, BARS, BARS.index[70])
    assert peeks(lambda b: run(b).shift(-1), BARS, BARS.index[70])


# ---- grids and bad input

def test_grids():
    assert (parameter_sets(dict(a=[1, 2], b='x y'.split()))
            == [dict(a=1, b='x'), dict(a=1, b='y'), dict(a=2, b='x'), dict(a=2, b='y')])
    assert set_name(dict(a=1, b=.5)) == 'a=1 b=0.5' and parameter_sets(iter([dict(a=1)])) == [dict(a=1)]
    one = sweep(BARS, momentum, [dict(n=3)])
    assert one.table.index.name == 'n' and one.names == ['n=3']


@pytest.mark.parametrize(
    'grid, words', [({}, 'empty'), ([], 'empty'), ([{}], 'empty'), (dict(n=[]), 'empty'), (dict(n=3), 'one value'),
                    (dict(n='ab'), 'one value'), (dict(n=[3, 3]), 'twice'), ([dict(n=3), dict(m=3)], 'same names')])
def test_bad_grids_are_named(grid, words):
    with pytest.raises(BadParams, match=words): sweep(BARS, momentum, grid)


@pytest.mark.parametrize('weights, ask, error, words', [
    (lambda n: momentum(n).iloc[1:], {}, BadData, 'n=2: 119 rows'),
    (lambda n: momentum(n).iloc[:, ::-1], {}, BadData, 'n=2: symbols differ'),
    (lambda n: momentum(n).to_numpy()[:, 1:], {}, BadData, r'n=2: weights of shape \(120, 4\)'),
    (lambda n: momentum(n) * np.inf, {}, BadData, 'infinite'),
    (np.zeros((3, 120, 5)), {}, BadData, 'weights of 3 sets, the grid has 2'),
    (momentum, dict(costs=Costs(borrow=.01)), BadParams, 'costs.borrow is 0.01'),
    (momentum, dict(costs=None), BadParams, 'costs.Costs'),
    (momentum, dict(cash=0), BadParams, 'cash is 0'),
])
def test_bad_input_is_named(weights, ask, error, words):
    with pytest.raises(error, match=words): sweep(BARS, weights, dict(n=[2, 5]), **ask)


def test_costs_that_vectorbt_does_not_know_are_refused():
    for k, v in dict(impact=1., lot=1., volume_cap=.1).items():
        with pytest.raises(BadParams, match=f'costs.{k}'): sweep(BARS, momentum, dict(n=[2]), Costs(**{k: v}))


# ---- every set a trial

def ledger_of(path): return lambda p: recorded(path, 'momentum', p, frame_hash(BARS))


def test_every_set_is_a_trial_with_its_returns(tmp_path):
    path = tmp_path / 'trials.jsonl'
    s = sweep(BARS, momentum, dict(n=[2, 5, 9], top=[1, 3]), record=ledger_of(path))
    c, kept = count(path), trial_returns(path)
    assert (c.n, c.returns, c.failed, c.abandoned) == (6, 6, 0, 0) and kept.shape[1] == 6
    want = sorted(s.returns[k].dropna().round(12).tolist() for k in s.returns)
    assert sorted(kept[k].dropna().round(12).tolist() for k in kept) == want
    assert cscv(kept.dropna(), 4).trials == 6


def test_when_a_recipe_fails_all_sets_are_counted_and_those_done_stay_done(tmp_path):
    path = tmp_path / 'trials.jsonl'
    def fails(n):
        if n == 9: raise BadParams('no such average')
        return momentum(n)
    with pytest.raises(BadParams, match='no such average'):
        sweep(BARS, fails, dict(n=[2, 5, 9, 11]), record=ledger_of(path), memory=2 * 200 * 600 / 1e9)
    c = count(path)
    assert (c.n, c.returns, c.failed, c.abandoned) == (4, 2, 2, 0)


KILLED = '''
import os, signal, sys
from gnn_quant.core import frame_hash, toy_bars
from gnn_quant.evidence.trial_ledger import recorded
from gnn_quant.backtest.sweep import sweep
bars = toy_bars(n=5, t=120)
sweep(bars, lambda n: os.kill(os.getpid(), signal.SIGKILL), dict(n=[2, 5, 9]), record=lambda p: recorded(sys.argv[1], \
'momentum', p, frame_hash(bars)))
'''


def test_a_killed_sweep_is_counted(tmp_path):
    path = tmp_path / 'trials.jsonl'
    out = subprocess.run([sys.executable, '-c', KILLED, str(path)], capture_output=True, text=True, env=os.environ)
    assert out.returncode == -signal.SIGKILL, out.stderr
    c = count(path)
    assert (c.n, c.returns, c.abandoned) == (3, 0, 3)


def test_all_sets_are_begun_before_anything_is_computed():
    log = []
    class Noted(SimpleNamespace):
        def __enter__(self): log.append(f'begin {self.n}'); return self
        def __exit__(self, *error): log.append(f'end {self.n}')
    def told(n): log.append(f'weights {n}'); return momentum(n)
    sweep(BARS, told, dict(n=[2, 5, 9]), record=lambda p: Noted(**p), memory=2 * 200 * 600 / 1e9)
    assert log == ['begin 2', 'begin 5', 'begin 9', 'weights 2', 'weights 5', 'end 5', 'end 2', 'weights 9', 'end 9']
