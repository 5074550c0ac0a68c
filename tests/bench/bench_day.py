"""The day by stage: the first one, an unchanged one, and one with other costs;
on sp500_daily with --sp500 (needs the shared data), and its growth with --growth"""
import argparse, os, resource, tempfile, time
from pathlib import Path

from _bench import table

from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.pipeline.daily import in_log, run_day
from gnn_quant.settings import Settings

ROOT = Path(__file__).parents[2]


def day(e, s):
    "Seconds of the whole, and of each stage that was run"
    start = time.perf_counter()
    steps = run_day(e, s, show=in_log)
    whole = time.perf_counter() - start
    return whole, {x.name: x.run.manifest['wall'] for x in steps if not x.reused}


def rows_of(case, n, whole, stages):
    said = [dict(case=f'{case}: {k}', n=n, ours=v, unit='s') for k, v in stages.items()]
    return [dict(case=f'{case}, all stages', n=n, ours=whole, unit='s'), *said]


def demo(s):
    e = Experiment.load('us20')
    rows = rows_of('first day of the demo', 20, *day(e, s))
    rows += rows_of('unchanged day', 20, *day(e, s))
    return rows + rows_of('day with other costs', 20, *day(e.set('costs.slippage_bp', 10), s))


def wide(s, names, data):
    e = Experiment.load('sp500').override([f'data.source.path={data}', f'data.source.names={names}'])
    return rows_of(f'{names} names', names, *day(e, s))


ask = argparse.ArgumentParser(description=__doc__)
ask.add_argument('--sp500', action='store_true')
ask.add_argument('--growth', action='store_true')
given = ask.parse_args()
with tempfile.TemporaryDirectory() as home:
    s = Settings(data_dir=Path(home) / 'data', reports_dir=Path(home) / 'reports', notebooks_dir=ROOT / 'nbs/runs')
    data = Path(os.environ.get('GNNQ_BENCH_DATA') or ROOT.parent / 'shared/data') / 'sp500_daily'
    rows = demo(s)
    if given.sp500: rows += wide(s, 452, data)
    if given.growth: rows += [r for n in (50, 150, 452) for r in wide(s, n, data)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
table('bench_day', [*rows, dict(case='largest process', ours=peak, unit='GB')], 'seconds by stage, kernels included')
