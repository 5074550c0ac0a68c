"""Portfolio rows a second (one row = one bar of all N symbols) and bars a second (rows x N):
our fold beside vectorbt on the same arrays"""
import sys
import numpy as np, pandas as pd
import vectorbt as vbt
from vectorbt.portfolio.enums import SizeType

from _bench import ratio, table
from gnn_quant.backtest.engine import metrics
from gnn_quant.core import toy_bars
from gnn_quant.data.bars import fill_price
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral

NOTE = ('bars/s = rows x symbols / seconds, a new target for every symbol on every row, '
        'commission and slippage 5 bp; compile time excluded. '
        'Ours: frames in, checked; whole ledger out (equity, cash, shares, fills, prices, unfilled orders). '
        'vectorbt "sim": Portfolio.from_orders on ready-made shifted arrays, order records only. '
        '"sim+value": plus cash, shares and equity. '
        '"lots, cap": orders in tens of shares, at most a twentieth of the bar volume, in both; '
        '"impact": the same with the square-root law, which vectorbt does not have. '
        'Without lots, cap and impact the compiler drops their branches: '
        'the first two rows are what they were before there were any.')
HARD = Costs(lot=10, volume_cap=.05)


def case(n, t, seed=0):
    "Simulated bars, a dollar-neutral book of gross 1, and the arrays that vectorbt wants"
    bars = toy_bars(n=n, t=t, seed=seed)
    rng = np.random.default_rng(seed)
    w = dollar_neutral(pd.DataFrame(rng.normal(size=(t, n)), bars.index, bars['Close'].columns))
    a = dict(close=bars['Close'], size=w.shift(), price=fill_price(bars), val_price=bars['Close'].shift().fillna(1.))
    return w, bars, a


def peer_orders(a, **more):
    return vbt.Portfolio.from_orders(**a, **more, size_type=SizeType.TargetPercent, fees=5e-4, slippage=5e-4,
                                     direction='both', init_cash=1e6, cash_sharing=True, group_by=True,
                                     call_seq='auto', freq='D')


def value(a, **more):
    pf = peer_orders(a, **more)
    return pf.value(), pf.cash(), pf.assets()


def rows(sizes, repeats=5):
    for n, t in sizes:
        w, bars, a = case(n, t)
        ours = lambda: simulate(w, bars, Costs())
        gap = float((ours().equity - value(a)[0]).abs().max())
        if gap > .005:
            raise SystemExit(f'bench_backtest: engines differ by {gap} on N={n}, T={t}: '
                             'no speed is claimed for unequal results')
        yield ratio(f'fold | vectorbt sim, N={n}', t, ours, lambda: peer_orders(a), 'bars/s', n * t, repeats)
        yield ratio(f'fold | vectorbt sim+value, N={n}', t, ours, lambda: value(a), 'bars/s', n * t, repeats)
        tight = dict(size_granularity=10., max_size=.05 * bars['Volume'])
        hard = lambda c=HARD: simulate(w, bars, c)
        gap = float((hard().equity - value(a, **tight)[0]).abs().max())
        if gap > .005:
            raise SystemExit(f'bench_backtest: engines differ by {gap} with lots and cap on N={n}, T={t}: '
                             'no speed is claimed for unequal results')
        yield ratio(f'fold | vectorbt sim, lots, cap, N={n}', t, hard, lambda: peer_orders(a, **tight), 'bars/s',
                    n * t, repeats)
        yield ratio(f'fold, lots, cap, impact, N={n}', t, lambda: hard(Costs(lot=10, volume_cap=.05, impact=1.)),
                    unit='bars/s', work=n * t, repeats=repeats)
        led = ours()
        yield ratio(f'metrics of a ledger, N={n}', t, lambda: metrics(led), unit='s', repeats=repeats)


if __name__ == '__main__':
    quick = '--quick' in sys.argv
    sizes = [(20, 250)] if quick else [(n, t) for n in (20, 500) for t in (2500, 8000)]
    table('backtest', list(rows(sizes, 3 if quick else 5)), NOTE)
