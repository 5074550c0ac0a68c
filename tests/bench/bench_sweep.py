"""A grid of parameters over many symbols: one call of vectorbt beside the same loop in backtesting.py (AGPL:
a peer here, never a dependency). Run: python tests/bench/bench_sweep.py"""
import argparse
import resource
import time
import warnings

import numpy as np
import pandas as pd

from _bench import table
from gnn_quant.core import toy_bars
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.backtest.sweep import parameter_sets, sweep

try:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import backtesting.backtesting as peer_module
        from backtesting import Backtest, Strategy
    peer_module._tqdm = lambda x, **_: x
except ImportError: Backtest, Strategy = None, object

FEE, SHARE, CASH = 5e-4, .5, 1e9


def market(n, t):
    """Simulated bars that open where they closed,
    so that an order sized at the close and one sized at the next open are the same"""
    bars = toy_bars(n=n, t=t).drop(columns='Volume', level=0)
    px = bars['Close']
    for s in px: bars[('Open', s)] = px[s].shift().fillna(px[s].iloc[0])
    bars['High'], bars['Low'] = (np.maximum(px, bars['Open']), np.minimum(px, bars['Open']))
    return bars


def average(px, n):
    total = np.cumsum(np.vstack([np.zeros((1, px.shape[1])), px]), axis=0)
    out = np.full(px.shape, np.nan)
    out[n - 1:] = (total[n:] - total[:-n]) / n
    return out


def above(px, fast, slow):
    "(T, N) 1 where the fast average is above the slow one, 0 where not, NaN before both are known"
    a, b = average(px, fast), average(px, slow)
    return np.where(np.isnan(b), np.nan, a > b)


def on_crossing(px, fast, slow, share):
    """Weights on the rows where the state turns; NaN holds.
    backtesting.py asks for the first time on the second row that an indicator knows"""
    up = above(px, fast, slow)
    up[slow - 1] = np.nan
    turned = np.vstack([up[:1] == 1, (up[1:] != up[:-1]) & ~np.isnan(up[1:]) & ~(np.isnan(up[:-1]) & (up[1:] == 0))])
    return np.where(turned, up * share, np.nan)


class Crossing(Strategy):
    up = None

    def init(self): self.state = self.I(lambda: self.up, plot=False)

    def next(self):
        if self.state[-1] and not self.position: self.buy(size=SHARE)
        elif not self.state[-1] and self.position: self.position.close()


def loop(bars, sets):
    "Final equity of each set and symbol by backtesting.py, as its users write it"
    out, frames = [], {s: bars.xs(s, axis=1, level=1) for s in bars['Close']}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for p in sets:
            for s, f in frames.items():
                bt = Backtest(f, Crossing, cash=CASH, commission=FEE)
                out.append(bt.run(up=above(f[['Close']].to_numpy(), **p)[:, 0])['Equity Final [$]'])
    return np.array(out).reshape(len(sets), -1)


def apart(bars, grid, **more):
    "An account for each set and symbol: final equity (sets, symbols)"
    one = lambda s: bars.loc[:, [c for c in bars.columns if c[1] == s]]
    ends = []
    for s in bars['Close']:
        b = one(s)
        px = b['Close'].to_numpy()
        rule = lambda **p: on_crossing(px, **p, share=SHARE / (1 + FEE))
        r = sweep(b, rule, grid, Costs(FEE, 0.), CASH, **more).returns
        ends.append(CASH * (1 + r.fillna(0.)).prod().to_numpy())
    return np.array(ends).T


def timed(f):
    "Seconds of the processor, which a busy machine does not change"
    start = time.process_time()
    out = f()
    return time.process_time() - start, out


def main(quick=False):
    n, t = (3, 300) if quick else (20, 2500)
    grid = dict(fast=range(2, 4), slow=[20, 50]) if quick else dict(fast=range(2, 22), slow=range(25, 275, 5))
    bars, sets = market(n, t), parameter_sets(grid)
    px, cells = bars['Close'].to_numpy(), len(sets) * n * t
    some = [sets[i] for i in np.unique(np.linspace(0, len(sets) - 1, 3).astype(int))]
    together = lambda grid: sweep(bars, lambda **p: on_crossing(px, **p, share=1 / n), grid, Costs(FEE, 0.), CASH)
    daily = lambda fast, slow: above(px, fast, slow) / n
    apart(bars, some), together(some)
    size = f'{len(sets):,} sets x {n} symbols x {t:,} bars'
    took, ends = timed(lambda: apart(bars, grid))
    rows = [dict(case=f'{size}, an account a set and symbol', n=len(sets), ours=took, unit='s')]
    if Backtest is None:
        print('bench_sweep: backtesting.py is missing, so its loop is not measured. Run: pip install backtesting')
    else:
        peer, want = timed(lambda: loop(bars, some))
        gap = np.abs(ends[[sets.index(p) for p in some]] / want - 1).max()
        if gap > 1e-6:
            raise SystemExit(f'bench_sweep: final equities differ by {gap:.2g}: '
                             'no speed is claimed for unequal results')
        peer *= len(sets) / len(some)
        rows[0] |= dict(peer=peer, ratio=round(peer / took, 1), peer_is='backtesting.py',
                        peer_runs_measured=len(some) * n)
    rows.append(dict(case=f'{size}, the symbols of a set share cash', n=len(sets),
                     ours=timed(lambda: together(grid))[0], unit='s'))
    took, s = timed(lambda: sweep(bars, daily, grid, Costs(FEE, 0.), CASH))
    frames = [pd.DataFrame(daily(**p), bars.index, bars['Close'].columns) for p in some]
    peer = timed(lambda: [simulate(w, bars, Costs(FEE, 0.), CASH) for w in frames])[0] * len(sets) / len(some)
    rows.append(dict(case=f'{size}, shared cash, every position renewed on every row', n=len(sets), ours=took,
                     peer=peer, unit='s', ratio=round(peer / took, 1), peer_is='market.simulate, ledgers only',
                     peer_runs_measured=len(some)))
    for r in rows: r['bars_a_second'] = round(cells / r['ours'])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    table('bench_sweep', rows, 'one thread, seconds of the processor; ours: recipe, orders, figures of every set, '
          'two sets folded again by market.simulate; peers on 3 sets, scaled to all; '
          f'final equity the same to 1e-6; peak memory of the process {peak:.1f} GB')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='smallest size only')
    main(p.parse_args().quick)
