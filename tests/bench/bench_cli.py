"How long a command line takes to answer"
import os, subprocess, sys, tempfile
from pathlib import Path

from _bench import ratio, table

from gnn_quant.runs.folders import write_manifest

bin = Path(sys.executable).parent


def call(*args, cwd=None):
    return lambda: subprocess.run(args, cwd=cwd, stdout=subprocess.DEVNULL, check=True,
                                  env={k: v for k, v in os.environ.items() if not k.startswith('GNNQ_')})


with tempfile.TemporaryDirectory() as d:
    for i in range(100):
        folder = Path(d) / 'reports/train/2020-01-31' / f'20200131T0000{i:02d}-{i:08x}'
        folder.mkdir(parents=True)
        write_manifest(folder, dict(id=folder.name, run='train', status='finished', asof='2020-01-31', seq=i, wall=1.))
    python, papermill = call(sys.executable, '-c', 'pass'), call(bin / 'papermill', '--help')
    rows = [ratio('gnnq --help / python -c pass', 1, call(bin / 'gnnq', '--help'), python),
            ratio('gnnq --help / papermill --help', 1, call(bin / 'gnnq', '--help'), papermill),
            ratio('gnnq runs (100 of them) / papermill --help', 100,
                  call(bin / 'gnnq', 'runs', '--limit', '0', cwd=d), papermill)]
table('cli', rows, 'seconds until the answer is there; python -c pass is the floor')
