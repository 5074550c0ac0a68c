"""Size and power at full size: skill-less books, planted signals, and noise strategies through a ledger.
Run: python tests/bench/bench_power.py [--quick] [--seeds 200]"""
import argparse, os, tempfile
from pathlib import Path

for k in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'): os.environ.setdefault(k, '1')
import pandas as pd

from _bench import table
from gnn_quant.core import GnnQuantError
from gnn_quant.data.load import load_bundle
from gnn_quant.evidence.power import (PLACEBOS, SIZES, expected_power, noise_strategies, placebo, planted,
                                      plot_power, shares, simulated_market)
from gnn_quant.storage.files import write_text

NOTE = ('Shares of books with their exact 95 % intervals; SIMULATED markets unless a row says us20 (20 real names, '
        'closes of 1990 to 2022 from skfolio). Costs of 5 bp commission and 5 bp slippage, '
        'none for the noise strategies. size: books without knowledge rejected at 5 %. '
        'power: books of IC .03 found at 5 %; `expected` is the fundamental law. '
        'noise: strategies that pass a probability of .95 alone, and deflated by the count of the ledger.')


def real():
    "The shipped prices, or None with a word where the extra is not installed"
    try: return load_bundle('us20').bars
    except GnnQuantError as e: print(f'us20 left out: {e}')


def size_rows(table, where):
    for (signal, test), r in table.iterrows():
        yield dict(case=f'size: {signal}, {where}, {test}', n=int(r['of']), ours=r['share'], lo=r['lo'], hi=r['hi'],
                   expected=.05, unit='share')


def power_rows(p, table):
    for (n, t), r in table.iterrows():
        own = p[(p['names'] == n) & (p['rows'] == t)]
        yield dict(case=f'power: {n} names x {t:,} rows', n=int(r['of']), ours=r['share'], lo=r['lo'], hi=r['hi'],
                   expected=float(expected_power(.03, n, t)), unit='share', ic=own['ic'].mean(),
                   sharpe=own['sharpe'].mean() * 252 ** .5)


def noise_rows(noise, c, where):
    for what, col in (('alone', 'alone'), ('deflated by the count', 'deflated')):
        r = shares(noise.assign(p=1 - noise[col], case=what), ['case']).iloc[0]
        yield dict(case=f'noise, {where}: {what}', n=c.n, ours=r['share'], lo=r['lo'], hi=r['hi'],
                   expected=.05 if col == 'alone' else None, unit='share', counted=c.n, independent=c.effective)


def sizes(seeds, n=40, t=750): return shares(placebo(seeds, n, t), ['signal', 'test'])


def sizes_real(seeds, bars):
    return shares(placebo(seeds, signals={k: PLACEBOS[k] for k in ('fresh noise', 'slow noise')}, bars=bars),
                  ['signal', 'test'])


def powers(seeds, of):
    return pd.concat([planted(.03, seeds if n * t < 3e5 else max(3, seeds // 5), ((n, t),)) for n, t in of])


def gate(n, bars):
    with tempfile.TemporaryDirectory() as home: return noise_strategies(n, Path(home) / 'trials.jsonl', bars)


def report(size, power, noise, size_real=None, noise_real=None):
    "The table, and what the figure is drawn from"
    found, out = shares(power, ['names', 'rows']), Path(__file__).parents[2] / 'reports' / 'bench'
    rows = [*size_rows(size, 'simulated'), *power_rows(power, found), *noise_rows(*noise, 'simulated')]
    if size_real is not None: rows += [*size_rows(size_real, 'us20'), *noise_rows(*noise_real, 'us20')]
    table('bench_power', rows, NOTE)
    for name, df in dict(size=size, power=found, noise=noise[0]).items():
        write_text(df.reset_index().to_csv(index=False, float_format='%.6g'), out / f'bench_power_{name}.csv')
    plot_power(size, found, noise[0]).savefig(out / 'bench_power.svg')


def main(quick, seeds):
    if quick: return report(sizes(3, 10, 120), powers(3, ((10, 250),)), gate(10, simulated_market(8, 200)[1]))
    bars = real()
    more = () if bars is None else (sizes_real(seeds, bars.iloc[-1500:]), gate(500, bars.iloc[-1500:]))
    report(sizes(seeds), powers(seeds, SIZES), gate(500, simulated_market(20, 1000)[1]), *more)


if __name__ == '__main__':
    a = argparse.ArgumentParser()
    a.add_argument('--quick', action='store_true')
    a.add_argument('--seeds', type=int, default=200)
    main(**vars(a.parse_args()))
