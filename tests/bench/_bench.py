"Shared by every benchmark: time ours beside a peer in turns, print a table, keep it as JSON"
import gc, os, platform, subprocess, sys, time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from gnn_quant.storage.files import write_json

SHOWN = ('numpy', 'pandas', 'pyarrow', 'numba', 'torch', 'torch-geometric', 'vectorbt', 'lightgbm', 'scikit-learn',
         'papermill')


def seconds(fn, repeats=7):
    "Median seconds of a call after one warm-up"
    return float(np.median(in_turns(repeats, fn)))


def in_turns(repeats, *fns, warm=1):
    "Seconds of each call, a list for each function; they are called in turns, so that a slow minute is nobody's alone"
    for f in fns:
        for _ in range(warm): f()
    took = [[] for _ in fns]
    gc.collect()
    for i in range(repeats):
        for j in range(len(fns)):
            k = (i + j) % len(fns)
            start = time.perf_counter()
            fns[k]()
            took[k].append(time.perf_counter() - start)
    return took


def ratio(case, n, ours_fn, peer_fn=None, unit='s', work=None, repeats=7):
    """A row: medians of both sides run in turns. With `work`, rates (work/s, more is better); without, seconds.
    A ratio above 1 means ours is better"""
    t = [float(np.median(x)) for x in in_turns(repeats, *([ours_fn] + ([peer_fn] if peer_fn else [])))]
    value = [work / x for x in t] if work else t
    best = None if not peer_fn else round(value[0] / value[1] if work else value[1] / value[0], 3)
    return dict(case=case, n=n, ours=value[0], peer=value[1] if peer_fn else None, unit=unit, ratio=best)


def machine():
    "What the numbers were measured on"
    cpu = ''
    if Path('/proc/cpuinfo').is_file():
        cpu = next((x.split(':')[1].strip() for x in Path('/proc/cpuinfo').read_text().splitlines()
                    if x.startswith('model name')), '')
    out = dict(cpu=cpu or platform.processor(), cores=os.cpu_count(), system=platform.platform(),
               python=platform.python_version())
    if 'torch' in sys.modules and sys.modules['torch'].cuda.is_available():
        out['gpu'] = sys.modules['torch'].cuda.get_device_name(0)
    return out


def threads():
    "Threads each side may use"
    out = {k: os.environ.get(k, '') for k in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS', 'MALLOC_MMAP_THRESHOLD_')}
    if 'torch' in sys.modules: out['torch'] = sys.modules['torch'].get_num_threads()
    return out


def _version(name):
    try: return version(name)
    except PackageNotFoundError: return None


def _commit():
    try:
        done = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError): return None


def _text(v):
    if v is None: return '-'
    if isinstance(v, float): return f'{v:,.0f}' if abs(v) >= 1000 else f'{v:.4g}'
    return str(v)


def table(name, rows, note='', folder=None):
    "Print the rows and keep them in reports/bench/<name>.json; returns that path"
    rows = [dict(dict(case='', n=None, ours=None, peer=None, unit='', ratio=None), **r) for r in rows]
    heads = list(dict.fromkeys(k for r in rows for k in r))
    cells = [heads] + [[_text(r.get(h)) for h in heads] for r in rows]
    wide = [max(len(c[i]) for c in cells) for i in range(len(heads))]
    print(f'\n{name}' + (f': {note}' if note else ''))
    for c in cells:
        print('  ' + '  '.join(x.ljust(w) if i == 0 else x.rjust(w) for i, (x, w) in enumerate(zip(c, wide))))
    path = (Path(folder or os.environ.get('GNNQ_REPORTS_DIR') or Path(__file__).parents[2] / 'reports')
            / ('' if folder else 'bench') / f'{name}.json')
    versions = {k: v for k in SHOWN if (v := _version(k))}
    write_json(dict(table=name, note=note, rows=rows, machine=machine(), threads=threads(), versions=versions,
                    commit=_commit(), measured=time.strftime('%Y-%m-%d', time.gmtime())), path)
    return path
