"""Events from bars: our correlation graph beside pandas rolling(60).corr() with a top-10 pick, one live bar,
and the other builders. Run: python tests/bench/bench_events.py"""
import os
for name in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS', 'OPENBLAS_NUM_THREADS'): os.environ.setdefault(name, '1')

import argparse, json, subprocess, sys, time
from pathlib import Path
import numba, numpy as np, pandas as pd

from _bench import table
from gnn_quant.core import instants, toy_bars
from gnn_quant.data.events import correlation_events, strongest, weighted_corr, window_weights
from gnn_quant.graph.similarity import lead_lag, partial_corr
from gnn_quant.graph.sparsify import keep_edges

WINDOW, TOP = 60, 10


def real_bars(rows=5_000):
    "The S&P 500 closes of the data folder, or None with a word why not"
    folder = Path(os.environ.get('GNNQ_BENCH_DATA') or Path(__file__).parents[3] / 'shared/data')
    path = folder / 'sp500_daily/prices.parquet'
    if not path.is_file():
        return print(f'no {path.name} under {folder.name}: simulated bars instead; set GNNQ_BENCH_DATA')
    x = pd.read_parquet(path)
    day, sym, close = (next(c for c in x if c.lower() in names)
                       for names in (('date',), ('symbol', 'ticker'), ('adj_close', 'adj close', 'close')))
    wide = x.pivot(index=day, columns=sym, values=close).sort_index()
    return pd.concat({'Close': wide.set_axis(pd.DatetimeIndex(wide.index), axis=0).iloc[-rows:]}, axis=1)


def some(n, rows): return toy_bars(n=n, t=rows)[['Close']]


def pandas_edges(bars):
    "What a careful pandas user writes: all rolling correlations, then the ten largest of each symbol at each date"
    r = bars['Close'].pct_change(fill_method=None)
    n, names = r.shape[1], np.array(r.columns)
    c = r.rolling(WINDOW).corr().to_numpy().reshape(len(r), n, n)[WINDOW:]
    size = np.where(np.isnan(c), -1., np.abs(c))
    size[:, range(n), range(n)] = -1.
    top = np.argpartition(-size, min(TOP, n - 2), axis=2)[:, :, :TOP]
    return names, top, np.take_along_axis(size, top, 2), size


def ours(bars): return correlation_events(bars, window=WINDOW, top=TOP, every=1)


def check(bars, gap=1e-7):
    """Share of (date, symbol) lists in which both sides name the same neighbours,
    where the last in and the first out differ by more than rounding"""
    e, (names, top, kept, size) = ours(bars), pandas_edges(bars)
    n, t = len(names), instants(bars.index)[WINDOW:]
    mine = np.zeros((len(t), n, n), dtype=bool)
    mine[np.searchsorted(t, e.t), e.dst, e.src] = True
    peer = np.zeros_like(mine)
    np.put_along_axis(peer, top, kept > 0, 2)
    ranked = -np.sort(-size, axis=2)
    clear = (ranked[:, :, TOP - 1] - ranked[:, :, TOP] > gap) if n > TOP + 1 else np.ones((len(t), n), dtype=bool)
    return float((mine == peer).all(axis=2)[clear].mean()), float(clear.mean())


def once(f):
    """Result, seconds on the clock, and seconds of this process's one thread,
    which neighbours on the machine do not stretch"""
    start, cpu = time.perf_counter(), time.process_time()
    out = f()
    return out, time.perf_counter() - start, time.process_time() - cpu


def cells(bars): return (len(bars) - WINDOW) * bars['Close'].shape[1] ** 2


def peak_mb():
    "Largest resident size of this process since it was started, where the system tells"
    status = Path('/proc/self/status')
    return (next(
        (int(x.split()[1]) // 1024 for x in status.read_text().splitlines() if x.startswith('VmHWM')), None)
            if status.is_file() else None)


def cpu_ms(f, repeats):
    "Median CPU milliseconds of a call after one warm-up"
    return float(np.median([once(f)[2] for _ in range(repeats + 1)][1:])) * 1e3


def rate(case, n, bars, threads=1):
    """A row in matrix cells (dates x symbols x symbols) a second: of the CPU on one thread, on the clock on more;
    with the events and the peak memory"""
    numba.config.NUMBA_NUM_THREADS = threads
    e, clock, cpu = once(lambda: ours(bars))
    return dict(case=f'{case}, {threads} thread' + 's' * (threads > 1), n=n,
                ours=cells(bars) / (cpu if threads == 1 else clock), unit='cells/s', threads=threads,
                cpu_s=round(cpu, 3), clock_s=round(clock, 3), events=len(e), peak_mb=peak_mb())


def alone(n, threads=1):
    "One growth row in a process of its own, so that the peak is that of this size"
    done = subprocess.run([sys.executable, __file__, '--size', str(n), '--threads', str(threads)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def sized(n):
    "Bars of the growth rows"
    if n == 452:
        real = real_bars()
        return some(452, 5_000) if real is None else real
    return some(n, {50: 5_000, 100: 5_000, 500: 1_060, 5_000: 80}[n])


def peers(quick):
    "pandas in cells a CPU second at sizes that it can do"
    sizes = ((20, 300),) if quick else ((50, 5_060), (100, 2_560))
    out = {}
    for n, rows in sizes:
        b = some(n, rows)
        pandas_edges(b.iloc[:WINDOW + 20])
        out[n] = cells(b) / once(lambda: pandas_edges(b))[2]
    return out


def one_bar(n):
    "The window of one bar to its edges: median and 99th percentile of CPU time"
    r, w, names = np.random.default_rng(0).normal(0, .01, (WINDOW, n)), window_weights(WINDOW), np.arange(n)
    took = []
    for _ in range(300): took.append(once(lambda: strongest(weighted_corr(r, w), TOP, names, 0.))[2])
    return [dict(case=f'one bar, {what}', n=n, ours=float(np.quantile(took[10:], q)) * 1e3, unit='ms')
            for what, q in (('median', .5), ('p99', .99))]


def others(sizes):
    "CPU milliseconds a refresh of every other matrix and filter"
    rows = []
    for n in sizes:
        f = np.random.default_rng(0).normal(size=(WINDOW + 5, 5))
        r = (f @ np.random.default_rng(1).normal(size=(5, n))
             + 2 * np.random.default_rng(2).normal(size=(len(f), n))) * .005
        w, names = window_weights(WINDOW), np.arange(n)
        c = weighted_corr(r[5:], w)
        cases = {'partial matrix': lambda: partial_corr(r[5:], 0.), 'lead-lag matrices, 5 lags': lambda: lead_lag(r, w)}
        cases |= {f'filter {k}': (lambda k=k: keep_edges(c, names, k, TOP, .5 if k == 'threshold' else 0., 200))
                  for k in ('top', 'threshold', 'mst', 'tmfg')}
        if n <= 100: cases['filter pmfg'] = lambda: keep_edges(c, names, 'pmfg')
        rows += [dict(case=k, n=n, ours=cpu_ms(g, 1 if 'pmfg' in k else 7), unit='ms') for k, g in cases.items()]
    return rows


def main(quick=False):
    real = None if quick else real_bars()
    same, clear = check(some(30, 200) if real is None else real.iloc[-460:, :60])
    if same < 1: raise SystemExit(f'the edges differ: {same:.4%} of the lists are equal')
    peer = peers(quick)
    best = max(peer.values())
    note = (f'window {WINDOW}, top {TOP}, every row; peer (one thread, '
            f'it cannot use more) = pandas rolling({WINDOW}).corr() and top-{TOP} pick, measured at N = '
            + ', '.join(f'{n}: {v:,.0f} cells/s of one CPU' for n, v in peer.items())
            + ' and taken at its best for all rows; '
            f'edges equal on {same:.0%} of the lists without ties ({clear:.1%} of all)')
    rows = ([rate('all dates', 50, some(50, 400))] if quick
            else [alone(n, t) for n in (50, 100, 452, 500, 5_000) for t in (1, 2)])
    rows = [r | dict(peer=best, ratio=round(r['ours'] / best, 1)) for r in rows]
    table('bench_events', rows + one_bar(100 if quick else 500) + others((20,) if quick else (50, 100, 500)), note)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='small sizes only')
    p.add_argument('--threads', type=int, default=1, help='threads of the growth row')
    p.add_argument('--size', type=int, help='one growth row alone, printed as a dict')
    a = p.parse_args()
    if a.size:
        ours(some(12, 80))
        print(json.dumps(rate('all dates', a.size, sized(a.size), a.threads)))
    else: main(a.quick)
