"How long the look-ahead audit of the demo line takes, beside making that line; at most 60 s"
import sys, tempfile, time
from pathlib import Path

from _bench import table

from gnn_quant.pipeline.daily import FULL, in_log
from gnn_quant.runs.engine import run
from gnn_quant.pipeline.stages import audit_run
from gnn_quant.settings import Settings

LIMIT = 60.
ROOT = Path(__file__).parents[2]


def timed(f):
    start = time.perf_counter()
    return f(), time.perf_counter() - start


with tempfile.TemporaryDirectory() as home:
    s = Settings(data_dir=Path(home) / 'data', reports_dir=Path(home) / 'reports', notebooks_dir=ROOT / 'nbs/runs')
    spent = {}
    for name in ('ingest', 'train', 'signals'):
        done, spent[name] = timed(lambda: run(name, FULL.get(name, {}), s, quiet=True))
    with in_log() as say:
        audit, spent['audit'] = timed(lambda: audit_run(done.id, s, FULL.get('audit', {}), False, say))
    assert audit.metrics['passed'], audit.metrics['findings']
    cuts, stages = len(audit.metrics['cuts']), len(audit.metrics['stages'])
made = sum(spent[k] for k in ('ingest', 'train', 'signals'))
rows = [dict(case='the demo line: ingest, train, signals', n=1, ours=made, unit='s'),
        dict(case=f'its audit: {stages} stages at {cuts} dates, with three futures each', n=cuts,
             ours=spent['audit'], unit='s', limit=LIMIT),
        dict(case='audit / line', n=cuts, ours=spent['audit'] / made, unit='x')]
table('bench_audit', rows, f'seconds with a kernel each; the audit may take {LIMIT:.0f} on 2 cores')
if spent['audit'] > LIMIT: sys.exit(f"audit of the demo line: {spent['audit']:.0f} s, at most {LIMIT:.0f}")
