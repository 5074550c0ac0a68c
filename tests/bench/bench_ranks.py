"""Average ranks across rows: the kernel beside pandas' rank(axis=1) and beside scipy's rankdata once a row,
with growth over the number of names"""
import os, sys

for k in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'): os.environ.setdefault(k, '1')
import numpy as np, pandas as pd
from scipy.stats import rankdata

from _bench import in_turns, table
from gnn_quant.kernels.ranks import average_ranks

NOTE = ('seconds of one core for the ranks of all rows, one value in ten unknown, '
        'a third of the values rounded so that they tie; compile time excluded. '
        'Ours: an array in, ranks out. pandas: DataFrame.rank(axis=1) of a ready-made frame. '
        'scipy: rankdata of the known values of each row. All equal bit for bit, or the bench stops.')


def case(rows, names, seed=0):
    "Simulated scores"
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, names))
    x = np.where(rng.random(x.shape) < 1 / 3, x.round(1), x)
    x[rng.random(x.shape) < .1] = np.nan
    return x


def by_scipy(x):
    out = np.full(x.shape, np.nan)
    for i, row in enumerate(x):
        known = ~np.isnan(row)
        out[i, known] = rankdata(row[known])
    return out


def rows(sizes, repeats):
    base = None
    for t, n in sizes:
        x = case(t, n)
        frame = pd.DataFrame(x)
        ours, pandas_, scipy_ = lambda: average_ranks(x), lambda: frame.rank(axis=1), lambda: by_scipy(x)
        if not all(np.array_equal(ours(), f(), equal_nan=True) for f in (pandas_, scipy_)):
            raise SystemExit(f'bench_ranks: ranks differ on {t} x {n}: no speed is claimed for unequal results')
        mine, *theirs = [float(np.median(s)) for s in in_turns(repeats, ours, pandas_, scipy_)]
        cell = mine / (t * n)
        base = base or cell
        for name, s in zip(('pandas rank(axis=1)', 'scipy rankdata, one row each'), theirs):
            yield dict(case=f'{t:,} rows of {n} | {name}', n=n, ours=mine, peer=s, unit='s',
                       ratio=round(s / mine, 2), ns_a_value=round(cell * 1e9, 1), growth=round(cell / base, 2))


if __name__ == '__main__':
    quick = '--quick' in sys.argv
    sizes = [(8000, 20), (5000, 50), (5000, 200), (5000, 452), (2000, 1000), (1000, 3000)]
    table('bench_ranks', list(rows([(200, 20), (200, 60)] if quick else sizes, 1 if quick else 5)), NOTE)
