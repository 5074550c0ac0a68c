"""Probability of backtest overfitting: our split walk beside the paper's procedure in numpy, and how it grows.
Run: python tests/bench/bench_overfit.py"""
import argparse
import time

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from _bench import table
from gnn_quant.stats.pbo import cscv, halves, subset_sums

LIMIT, TIMES = 10, 20


def trials(t, m, seed=0):
    "Simulated returns, one column a trial"
    return pd.DataFrame(np.random.default_rng(seed).normal(2e-4, .01, (t, m)),
                        pd.bdate_range('2000-01-03', periods=t, name='date'))


def as_written(r, blocks, masks):
    "The paper's steps for some splits: join the blocks, Sharpe ratios of both halves, rank of the best"
    parts, out = np.array_split(r, blocks), []
    for m in masks:
        a, b = (np.concatenate([p for i, p in enumerate(parts) if (m >> i & 1) == side]) for side in (1, 0))
        a, b = (h.mean(0) / h.std(0, ddof=1) for h in (a, b))
        w = rankdata(b)[a.argmax()] / (r.shape[1] + 1)
        out.append((a.max(), b[a.argmax()], np.log(w / (1 - w))))
    return np.array(out)


def by_sums(r, blocks, masks):
    "The same in numpy from sums of blocks: what is left to gain when only the arithmetic is saved"
    n, h = len(r) // blocks, blocks // 2
    parts = r.reshape(blocks, n, -1)
    s, q = parts.sum(1), (parts**2).sum(1)
    (s0, s1), (q0, q1), out = (subset_sums(s[:h]), subset_sums(s[h:])), (subset_sums(q[:h]), subset_sums(q[h:])), []
    sharpe = lambda lo, hi: (a := s0[lo] + s1[hi]) / (n * h) / np.sqrt(
        (q0[lo] + q1[hi] - a * a / (n * h)) / (n * h - 1))
    for m in masks:
        lo, hi = m % 2**h, m >> h
        a, b = sharpe(lo, hi), sharpe(2**h - 1 - lo, 2**h - 1 - hi)
        w = rankdata(b)[a.argmax()] / (r.shape[1] + 1)
        out.append((a.max(), b[a.argmax()], np.log(w / (1 - w))))
    return np.array(out)


def timed(f):
    "Seconds of the processor, which a busy machine does not change"
    start = time.process_time()
    out = f()
    return time.process_time() - start, out


def case(t, m, blocks, part, peers=('plain numpy loop', 'numpy from block sums'), repeats=5):
    "Ours on all splits; each peer on evenly spread splits, its time scaled to all of them"
    r, masks = trials(t, m), halves(blocks)
    r = r.iloc[len(r) % blocks:]
    o, rows = cscv(r, blocks), []
    ours = float(np.median([timed(lambda: cscv(r, blocks))[0] for _ in range(repeats)]))
    for name, f in (('plain numpy loop', as_written), ('numpy from block sums', by_sums)):
        if name not in peers: continue
        at = np.unique(np.linspace(0, len(masks) - 1, part if f is as_written else 10 * part).astype(int))
        took, got = timed(lambda: f(r.to_numpy(), blocks, masks[at]))
        if not np.allclose(got, np.stack([o.inside, o.outside, o.logits], 1)[at], atol=1e-9):
            raise SystemExit(f'bench_overfit: {name} and ours differ: no speed is claimed for unequal results')
        peer = took / len(at) * len(masks)
        rows.append(dict(case=f'{m} trials x {t} rows x {blocks} blocks', n=len(masks), ours=ours, peer=peer,
                         unit='s', ratio=round(peer / ours, 1), peer_is=name, peer_splits_measured=len(at)))
    return rows or [dict(case=f'{m} trials x {t} rows x {blocks} blocks', n=len(masks), ours=ours, unit='s')]


def main(quick=False):
    if quick: return table('bench_overfit', case(500, 50, 8, 20, repeats=2), 'smallest size only')
    rows = case(2500, 500, 16, 150)
    grow = [(2500, 125, 16), (2500, 250, 16), (2500, 1000, 16), (2500, 2000, 16), (625, 500, 16), (10_000, 500, 16),
            (2500, 500, 8), (2500, 500, 12), (2500, 500, 18), (2500, 500, 20)]
    for t, m, blocks in grow: rows += case(t, m, blocks, 0, (), 3)
    table('bench_overfit', rows, 'n = splits; one thread, seconds of the processor; ours on all splits; a peer on '
          f'{rows[0]["peer_splits_measured"]} and {rows[1]["peer_splits_measured"]} of {rows[0]["n"]:,} splits, '
          'evenly spread, scaled to all')
    if rows[0]['ours'] > LIMIT or rows[0]['ratio'] < TIMES:
        raise SystemExit(f"bench_overfit: {rows[0]['ours']:.1f} s and {rows[0]['ratio']} times the plain loop; "
                         f"wanted under {LIMIT} s and {TIMES} times")


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='smallest size only')
    main(p.parse_args().quick)
