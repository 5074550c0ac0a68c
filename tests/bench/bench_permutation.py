"""Permutations a second: the permutation test beside vectorbt called once for each permutation, on the same books;
both end with a Sharpe ratio after costs"""
import os, sys

for k in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'): os.environ.setdefault(k, str(os.cpu_count()))
import numpy as np
import vectorbt as vbt
from vectorbt.portfolio.enums import SizeType

from _bench import in_turns, table
from gnn_quant.core import toy_bars
from gnn_quant.data.bars import fill_price
from gnn_quant.backtest.permutation import permutation_test, permuted_weights
from gnn_quant.kernels.correlation import threads
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral, long_only

NOTE = ('permutations a second, commission and slippage 5 bp, a new target for every symbol on every row, '
        'compile time excluded; `seconds` are those of all draws of ours. '
        'Ours: frames in, checked; draws, p-value and accounts out. '
        'vectorbt: weights permuted beforehand, Portfolio.from_orders on ready-made arrays, then value(), '
        'once for each of a few permutations. Ours on the threads of the column, '
        'the peers on the one they can use. '
        'Sharpe ratios of both engines agree to nine digits, or the bench stops.')


def case(n, t, neutral=True, seed=0):
    "Simulated bars and a book on 20-day momentum"
    bars = toy_bars(n=n, t=t, seed=seed)
    s = bars['Close'].pct_change(20, fill_method=None)
    return (dollar_neutral(s) if neutral else long_only(s)), bars


def ratio_of(equity): return (r := np.diff(equity) / equity[:-1]).mean() / r.std(ddof=1)


def by_vectorbt(w, a, start):
    pf = vbt.Portfolio.from_orders(size=w, **a, size_type=SizeType.TargetPercent, fees=5e-4, slippage=5e-4,
                                   direction='both', init_cash=1e6, cash_sharing=True, group_by=True,
                                   call_seq='auto', freq='D')
    return ratio_of(pf.value().to_numpy()[start:])


def rows(sizes, draws, few, repeats):
    for n, t, kind, neutral in sizes:
        w, bars = case(n, t, neutral)
        start, costs = int(w.notna().any(axis=1).to_numpy().argmax()), Costs(5e-4, 5e-4)
        ours = lambda: permutation_test(w, bars, costs, kind, draws)
        drawn = ours().accounts.iloc[1:1 + few]
        books = [permuted_weights(w, bars, s, l) for s, l in zip(drawn['shift'], drawn['relabel'])]
        a, sizes_ = (dict(close=bars['Close'], price=fill_price(bars), val_price=bars['Close'].shift().fillna(1.)),
                     [b.shift() for b in books])
        theirs, folds = (lambda: [by_vectorbt(s, a, start) for s in sizes_],
                         lambda: [simulate(b, bars, costs) for b in books])
        mine = (drawn['mean'] / drawn['deviation']).to_numpy()
        for peer in (theirs(), [ratio_of(f.equity.to_numpy()[start:]) for f in folds()]):
            if not np.allclose(mine, peer, rtol=1e-9, atol=1e-11):
                raise SystemExit(f'bench_permutation: Sharpe ratios differ by {np.abs(mine - peer).max()} on '
                                 f'N={n}, T={t}: no speed is claimed for unequal results')
        took = [float(np.median(x)) for x in in_turns(repeats, ours, theirs, folds)]
        what = f"{kind}, {'neutral' if neutral else 'long only'}, {n} x {t}"
        for name, s in (('vectorbt, one call each', took[1]), ('market.simulate, one call each', took[2])):
            yield dict(case=f'{what} | {name}', n=draws, ours=draws / took[0], peer=few / s, unit='permutations/s',
                       ratio=round(draws / took[0] / (few / s), 1), seconds=round(took[0], 2), threads=threads())


if __name__ == '__main__':
    quick = '--quick' in sys.argv
    sizes = [(452, 2500, 'dates', True), (452, 2500, 'names', True), (452, 2500, 'both', True),
             (452, 2500, 'dates', False), (20, 2500, 'dates', True)]
    table('bench_permutation', list(rows([(20, 250, 'both', True)] if quick else sizes, 50 if quick else 1000,
                                         2 if quick else 3, 1 if quick else 3)), NOTE)
