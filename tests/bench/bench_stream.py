"""One bar, or one batch of ticks, to dated edges: latency, growth and memory, beside pandas.
Run: python tests/bench/bench_stream.py"""
import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd

from _bench import ratio, seconds, table
from gnn_quant.core import toy_symbols
from gnn_quant.graph.stream import StreamingCorrelation
from gnn_quant.graph.ticks import TickBars

DAY, WINDOW, TOP = 86_400 * 10**9, 60, 10


def prices(n, rows, seed=0): return 100 * np.exp(.01 * np.random.default_rng(seed).normal(size=(rows, n)).cumsum(0))


def filled(n, px):
    "A stream with a full window"
    s = StreamingCorrelation(toy_symbols(n), window=WINDOW, top=TOP, every=1)
    for i in range(WINDOW): s.push(i * DAY, px[i])
    return s


def pushes(s, px, bars):
    "Wall and processor seconds of every push"
    took = []
    for i in range(bars):
        wall, cpu = time.perf_counter(), time.thread_time()
        s.push(s.last + DAY, px[i % len(px)])
        took.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return np.array(took)


def bar(n, bars, repeats):
    px = prices(n, WINDOW + 40)
    s, frame = filled(n, px), pd.DataFrame(px[:WINDOW + 1])
    s.push(s.last + DAY, px[WINDOW])
    took = pushes(s, px, bars)
    r = ratio(f'one bar, window {WINDOW}, top {TOP}', n, lambda: s.push(s.last + DAY, px[0]),
              lambda: frame.pct_change().iloc[1:].corr(), 's', None, repeats)
    return dict(r, p50_ms=1e3 * np.median(took[:, 0]), p99_ms=1e3 * np.quantile(took[:, 0], .99),
                cpu_p50_ms=1e3 * np.median(took[:, 1]), min_ms=1e3 * took[:, 0].min(),
                peer_is='DataFrame.corr of the last window, no edges')


def memory(n=500, bars=100):
    "Bytes held after some bars and after ten times as many more"
    px = prices(n, WINDOW + 40)
    s = filled(n, px)
    tracemalloc.start()
    pushes(s, px, bars)
    first = tracemalloc.get_traced_memory()[0]
    pushes(s, px, 10 * bars)
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    held = sum(v.nbytes for v in s.snapshot().values() if isinstance(v, np.ndarray))
    return dict(case=f'state held; growth over {10 * bars} more bars', n=n, ours=held, unit='bytes', growth_bytes=grown)


def keep(n, repeats):
    s = filled(n, prices(n, WINDOW + 40))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'a.snapshot'
        return dict(case='save (with fsync)', n=n, ours=seconds(lambda: s.save(path), repeats), unit='s',
                    file_bytes=path.stat().st_size)


def tick_file(m, n=50, seed=0):
    rng = np.random.default_rng(seed)
    return np.sort(rng.integers(0, 3_600 * 10**9, m)), rng.integers(0, n, m), 100 + rng.normal(size=m).cumsum() / 1000


def plain_loop(t, who, price, n, interval):
    out, bar, end = [], {}, None
    for x, w, p in zip(t, who, price):
        if not p > 0 or not 0 <= w < n: continue
        if end is None or x >= end:
            if bar: out.append((end, [bar.get(k) for k in range(n)]))
            bar, end = {}, x // interval * interval + interval
        bar[w] = p
    return out


def ticks(m, size, repeats, n=50):
    t, who, price = tick_file(m)
    lists = t.tolist(), who.tolist(), price.tolist()
    cuts = [slice(i, i + size) for i in range(0, m, size)]
    parts = [(t[c], who[c], price[c]) for c in cuts]
    def ours():
        b = TickBars([f'S{i}' for i in range(n)], '1min')
        for part in parts: b.push(*part)
    b, took = TickBars([f'S{i}' for i in range(n)], '1min'), []
    for part in parts:
        start = time.perf_counter()
        b.push(*part)
        took.append(time.perf_counter() - start)
    r = ratio(f'ticks in calls of {size:,}', n, ours, lambda: plain_loop(*lists, n, 60 * 10**9), 'ticks/s', m, repeats)
    return dict(r, p50_ms=1e3 * np.median(took), p99_ms=1e3 * np.quantile(took, .99), peer_is='plain Python loop')


def main(quick=False):
    repeats = 3 if quick else 7
    rows = [bar(n, 40 if quick else bars, 3 if n == 5_000 else repeats)
            for n, bars in ((50, 1_000), (500, 400), (5_000, 20))[:2 if quick else 3]]
    rows += [memory(100 if quick else 500, 30 if quick else 100), keep(500, repeats)]
    rows += [ticks(m, size, repeats) for m, size in ((20_000, 1), (200_000, 100), (1_000_000, 1_000),
                                                     (1_000_000, 10_000))[:2 if quick else 4]]
    table('bench_stream', rows, '1 thread; closes to edges with every=1; '
          'ticks of 50 symbols to one-minute bars, checked and set aside one by one')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='smallest sizes only')
    main(p.parse_args().quick)
