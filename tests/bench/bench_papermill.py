"A run, with its manifest, journal and checks, beside bare papermill.execute_notebook of the same notebook"
import sys, tempfile
from pathlib import Path

import papermill
from _bench import ratio, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from _runs import FINISH, place, write
from gnn_quant.runs.engine import run
from gnn_quant.pipeline.verify import verify

with tempfile.TemporaryDirectory() as d:
    home, rows = Path(d), []
    s = place(home)
    work = ("import pandas as pd\nfrom gnn_quant.core import toy_bars\nfrom gnn_quant.runs.workbench import "
            "put_frame\nput_frame(run_dir, 'bars', toy_bars(20, 1000))")
    kernel = dict(kernelspec=dict(name='python3', language='python', display_name='python3'))
    cases = dict(trivial=["run_dir: str = ''\nn: int = 5", 'n * 2'],
                 frame=["run_dir: str = ''\nn: int = 5", work, FINISH.format('n')])
    cases['trivial'].append("import json, pathlib\npathlib.Path(run_dir, "
                            "'result.json').write_text(json.dumps(dict(asof='2020-01-31', metrics={}, inputs={}, "
                            "artefacts={})))\npathlib.Path(run_dir, 'metrics.json').write_text('{}')")
    for name, cells in cases.items():
        path = write(s.notebooks_dir, name, *cells, metadata=kernel)
        (home / 'bare').mkdir(exist_ok=True)
        bare = lambda: papermill.execute_notebook(str(path), str(home / 'bare' / f'{name}.ipynb'),
                                                  dict(run_dir=str(home / 'bare'), n=7), kernel_name='python3',
                                                  progress_bar=False)
        rows.append(ratio(f'run a notebook: {name}', len(cells), lambda: run(name, dict(n=7), s, quiet=True), bare,
                          repeats=5))
    last = run('frame', {}, s, quiet=True)
    rows.append(ratio('verify a run', len(last.manifest['files']), lambda: verify(last), None, repeats=5))
table('papermill', rows, 'ours checks parameters, counts the trial, hashes every file and publishes in one step; '
      'the peer executes and keeps the notebook')
