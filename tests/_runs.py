"Small run notebooks for tests, and a place to run them"
import json
import subprocess
import sys
import time
from pathlib import Path

from gnn_quant.runs.folders import list_runs, read_run
from gnn_quant.settings import Settings


def place(home, **more):
    "Settings of a project in a folder of its own"
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports', notebooks_dir=home / 'nb', **more)


def write(folder, name, *cells, metadata=None):
    "A notebook whose first cell holds the parameters; a cell that starts with '#md ' is prose"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for i, source in enumerate(cells):
        if source.startswith('#md '): out.append(dict(cell_type='markdown', id=f'c{i}', source=source[4:], metadata={}))
        else:
            out.append(dict(cell_type='code', id=f'c{i}', source=source, outputs=[], execution_count=None,
                            metadata=dict(tags=['parameters']) if i == 0 else {}))
    path = folder / f'{name}.ipynb'
    path.write_text(json.dumps(dict(cells=out, metadata=metadata or {}, nbformat=4, nbformat_minor=5)),
                    encoding='utf-8')
    return path


FINISH = "from gnn_quant.runs.workbench import finish\nfinish(run_dir, '2020-01-31', dict(got={}))"


def killed(name, params, s, when, seconds=120):
    "A run in another process that is killed as soon as `when(its folder)` holds"
    code = ('from pathlib import Path, PosixPath\nfrom gnn_quant.settings import Settings\nfrom '
            f'gnn_quant.runs.engine import run\nrun({name!r}, {params!r}, Settings(**{s.model_dump()!r}), '
            'quiet=True)')
    before, end = {r.id for r in list_runs(s)}, time.monotonic() + seconds
    p = subprocess.Popen([sys.executable, '-c', code])
    while (not (new := [r for r in list_runs(s, name) if r.id not in before])
           or not (new[0].path / 'progress.log').is_file() or not when(new[0].path)):
        assert p.poll() is None and time.monotonic() < end, 'the run ended before it could be killed'
        time.sleep(.02)
    p.kill()
    p.wait()
    time.sleep(2.5)  # the kernel looks for its parent once a second
    return read_run(new[0].path)
