"Stored outputs are true: every notebook is run from the top in a clean place, and says again what it says"
import os
import re
import shutil
import tempfile

import nbformat
import pytest
from _notebooks import all_notebooks, directives_of, kind_of, name_of
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

from gnn_quant.runs.kernels import fork_from
from gnn_quant.runs.warm import WarmKernels

SKIPPED = {'cuda', 'slow', 'notest'}
NUMBER = re.compile(r'(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?(?!\w)')


def runs_here(cell): return not directives_of(cell).keys() & SKIPPED and directives_of(cell).get('eval') != 'false'


def clean_env(home, runtime):
    keep = {k: v for k, v in os.environ.items()
            if k in ('PATH', 'LANG', 'LC_ALL', 'LD_LIBRARY_PATH', 'VIRTUAL_ENV', 'SYSTEMROOT')}
    one = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMBA_NUM_THREADS'), '1')
    return {**keep, **one, 'HOME': str(home), 'JUPYTER_RUNTIME_DIR': str(runtime), 'JUPYTER_PLATFORM_DIRS': '1',
            'MPLCONFIGDIR': str(home / 'mpl'), 'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
            'PYTHONHASHSEED': '0'}


@pytest.fixture(scope='session')
def warm(tmp_path_factory):
    "Kernels with nothing in them but the libraries of others: importing those for each notebook would take minutes"
    one = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMBA_NUM_THREADS'), '1')
    with WarmKernels(one | dict(MPLBACKEND='module://matplotlib_inline.backend_inline', PYTHONHASHSEED='0',
                                MPLCONFIGDIR=str(tmp_path_factory.mktemp('mpl')))) as server: yield server


def forked_by(server, runtime):
    class Forked(AsyncKernelManager):
        def __init__(self, **kw):
            super().__init__(**kw)
            self.transport, self.ip = 'ipc', f'{runtime}/k'

        async def _async_pre_start_kernel(self, **kw):
            out = await super()._async_pre_start_kernel(**kw)
            if server: fork_from(server, self.provisioner, f'{runtime}/log')
            return out
    return Forked


def run_notebook(path, folder, server):
    "The notebook after a run in a copy of its folder's place, with no settings, no home and no history"
    (folder / 'nbs').mkdir()
    shutil.copy(path, folder / 'nbs')
    nb = nbformat.read(folder / 'nbs' / path.name, as_version=4)
    for c in nb.cells:
        if c.cell_type == 'code':
            c.outputs = []
            if not runs_here(c): c.source = ''
    if any('sys.modules' in c.source for c in nb.cells): server = None  # it asks what has been imported
    with tempfile.TemporaryDirectory(prefix='gq') as runtime:
        client = NotebookClient(nb, timeout=900, kernel_name='python3',
                                kernel_manager_class=forked_by(server, runtime),
                                resources=dict(metadata=dict(path=str(folder / 'nbs'))))
        client.execute(env=clean_env(folder, runtime))
    return nb


def said(cell):
    "What a cell says in words, and which pictures it shows"
    streams = ''.join(''.join(o['text']) for o in cell['outputs']
                      if o['output_type'] == 'stream' and o.get('name') != 'stderr')
    shown = [''.join(o['data']['text/plain']) for o in cell['outputs'] if 'text/plain' in o.get('data', {})]
    kinds = sorted(k for o in cell['outputs'] for k in o.get('data', {}))
    return streams, shown, kinds


def same_text(a, b):
    "Equal, or equal but for one unit in the last decimal shown: processors differ in the last bit of a sum"
    if a == b: return True
    if NUMBER.sub('#', ' '.join(a.split())) != NUMBER.sub('#', ' '.join(b.split())): return False
    unit = lambda s: 10. ** (int(s.split('e')[1]) if 'e' in s else 0) * 10. ** -len(s.split('e')[0].split('.')[1])
    return all(abs(float(x) - float(y)) <= 1.01 * max(unit(x), unit(y))
               for x, y in zip(NUMBER.findall(a), NUMBER.findall(b)))


def differences(stored, fresh):
    "Cells whose outputs changed, each with what was stored and what came now"
    out = []
    for old, new in zip(stored, fresh):
        if old['cell_type'] != 'code' or not runs_here(old): continue
        (s1, d1, k1), (s2, d2, k2) = said(old), said(new)
        if k1 != k2 or not same_text(s1, s2) or len(d1) != len(d2) or not all(map(same_text, d1, d2)):
            out.append(dict(cell=old['id'], stored=(s1, d1, k1), now=(s2, d2, k2)))
    return out


def stderr_of(nb):
    return [''.join(o['text']) for c in nb.cells if c.cell_type == 'code' for o in c.outputs
            if o.get('name') == 'stderr']


@pytest.mark.parametrize('path', [p for p in all_notebooks() if kind_of(p) == 'module'], ids=name_of)
def test_stored_outputs_are_true(path, tmp_path, warm):
    stored = nbformat.read(path, as_version=4)
    fresh = run_notebook(path, tmp_path, warm)
    assert not stderr_of(fresh)
    assert not differences(stored.cells, fresh.cells), f'run {name_of(path)} from the top and keep what it says'
    left = {p.name for p in (tmp_path / 'nbs').iterdir()} - {path.name}
    assert not left, 'the notebook leaves files behind'


def test_the_comparison_finds_a_changed_output():
    cell = lambda text: dict(cell_type='code', id='a', source='x',
                             outputs=[dict(output_type='execute_result', data={'text/plain': text})])
    picture = dict(cell_type='code', id='a', source='x',
                   outputs=[dict(output_type='display_data', data={'image/png': 'x', 'text/plain': '1.25'})])
    assert not differences([cell('ic 0.123')], [cell('ic 0.124')]) and not differences([cell('-1.00')], [cell('-1.00')])
    for other in ('ic 0.125', 'rank 0.123', 'ic 1.123', '3 0.123'):
        assert differences([cell('ic 0.123')], [cell(other)]), other
    assert (differences([cell('12')], [cell('13')]) and differences([cell('1.25')], [picture])
            and differences([cell('fb70bb17')], [cell('fb70bb18')]))
