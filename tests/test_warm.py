"Kernels that are forked: fresh state, ends reported, nothing left behind"
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from _runs import FINISH, place, write

from gnn_quant.core import RunFailed
from gnn_quant.runs.engine import kernel_environment, run
from gnn_quant.runs.warm import WarmKernels, preload

FEW = ('wave', 'ipykernel.kernelapp')  # a library that nothing else imports
PARAMS = "run_dir: str = ''\nn: int = 5"


def alive(pid):
    try: state = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0]
    except OSError: return False
    return state != 'Z'


def gone(pid, seconds=5):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end: time.sleep(.02)
    return not alive(pid)


@pytest.fixture
def project(tmp_path):
    s = place(tmp_path)
    write(s.notebooks_dir, 'state', PARAMS,
          "import os, sys\nseen = globals().get('seen', 0) + 1\nsys.flag = getattr(sys, 'flag', 0) + 1",
          "import json, pathlib\nloaded = 'wave' in sys.modules\nenv = os.environ.get('GNNQ_SEED')",
          FINISH.format('[seen, sys.flag, loaded, os.getpid(), env]'))
    return s


def test_each_kernel_is_fresh_and_has_the_libraries_that_were_imported(project):
    with WarmKernels(kernel_environment(project), FEW) as warm:
        first, second = (run('state', {}, project, quiet=True, warm=warm) for _ in range(2))
    (seen, flag, loaded, pid, env), other = first.metrics['got'], second.metrics['got']
    assert (seen, flag, loaded, env) == (1, 1, True, '0') and other[:3] == [1, 1, True], (
        'nothing of the first run is in the second')
    assert pid != other[3] and gone(pid) and gone(other[3])


def test_tables_and_figures_look_as_in_a_kernel_of_its_own(project):
    write(project.notebooks_dir, 'shows', PARAMS, 'import pandas as pd, matplotlib.pyplot as plt',
          "pd.DataFrame({f'a long name of column {i}': [i] for i in range(12)})", "plt.plot([1, 2])",
          FINISH.format('[]'))
    def shown(warm):
        path = run('shows', {}, project, quiet=True, warm=warm).path / 'shows.ipynb'
        outputs = [o.get('data', {}) for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', [])]
        return [(k, d[k]) for d in outputs[:-1] for k in sorted(d) if 'matplotlib' not in str(d[k])]
    libraries = ('pandas', 'matplotlib.pyplot', 'matplotlib_inline.backend_inline', *FEW)
    with WarmKernels(kernel_environment(project), libraries) as warm: forked = shown(warm)
    assert forked == shown(None) and [k for k, _ in forked] == ['text/html', 'text/plain', 'image/png', 'text/plain']


def test_a_failing_cell_is_named_as_with_a_kernel_of_its_own(project):
    write(project.notebooks_dir, 'fails', PARAMS, "raise ValueError('it broke')")
    with WarmKernels(kernel_environment(project), FEW) as warm, pytest.raises(
        RunFailed, match='cell 2 .*ValueError: it broke'):
        run('fails', {}, project, quiet=True, warm=warm)


def test_a_kernel_that_dies_is_reported(project):
    write(project.notebooks_dir, 'dies', PARAMS, 'import os, signal\nos.kill(os.getpid(), signal.SIGKILL)')
    with WarmKernels(kernel_environment(project), FEW) as warm, pytest.raises(RunFailed, match='the kernel died'):
        run('dies', {}, project, quiet=True, warm=warm)


def test_without_the_server_a_kernel_is_started_in_the_ordinary_way(project):
    warm = WarmKernels(kernel_environment(project), FEW)
    warm.process.kill()
    warm.process.wait()
    try:
        assert run('state', {}, project, quiet=True, warm=warm).metrics['got'][2] is False, (
            'no library was loaded before')
    finally: warm.close()


def test_the_server_refuses_to_fork_with_threads(project, tmp_path, monkeypatch):
    (tmp_path / 'starts_a_thread.py').write_text(
        'import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    with WarmKernels(kernel_environment(project), ('starts_a_thread', *FEW)) as warm:
        with pytest.raises(RunFailed, match='2 threads'): warm.fork(['kernel'], dict(os.environ), '.', os.devnull)
        assert run('state', {}, project, quiet=True, warm=warm).metrics['got'][2] is False, 'an ordinary kernel'


def test_a_kernel_does_not_wait_for_the_libraries_of_later_stages(project, tmp_path, monkeypatch):
    (tmp_path / 'takes_long.py').write_text('import time\ntime.sleep(2)\n')
    (tmp_path / 'comes_after.py').write_text('')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    write(project.notebooks_dir, 'seen', PARAMS, 'import sys, json, pathlib',
          FINISH.format("['takes_long' in sys.modules, 'comes_after' in sys.modules, 'wave' in sys.modules]"))
    with WarmKernels(kernel_environment(project), (*FEW, 'takes_long', 'comes_after')) as warm:
        while not warm.ready: warm.listen(60)
        assert run('seen', {}, project, quiet=True, warm=warm).metrics['got'] == [True, False, True], (
            'forked between two imports')
        time.sleep(.5)
        assert run('seen', {}, project, quiet=True, warm=warm).metrics['got'] == [True, True, True]


def test_when_the_runner_is_killed_server_and_kernels_end(tmp_path):
    code = f"""
import os, time
from gnn_quant.runs.warm import WarmKernels
w = WarmKernels({{}}, {FEW})
home = {str(tmp_path)!r}
k = w.fork(['kernel', '-f', home + '/c.json'], dict(os.environ), home, home + '/log')
print(w.process.pid, k.pid, flush=True)
time.sleep(600)
"""
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    server, kernel = map(int, p.stdout.readline().split())
    assert alive(server) and alive(kernel)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert gone(server) and gone(kernel)


def test_a_library_that_is_missing_is_left_to_the_notebook():
    assert preload(('json', 'no_such_module_at_all')) == ['no_such_module_at_all']


def test_a_process_whose_parent_died_before_it_could_ask_ends_by_itself(tmp_path):
    code = f"""
import os, time
from gnn_quant.processes import die_with_parent
parent = os.getpid()
if not os.fork():
    while os.getppid() == parent: time.sleep(.01)
    die_with_parent(parent)
    open({str(tmp_path / 'lives')!r}, 'w').close()
"""
    subprocess.run([sys.executable, '-c', code], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert not (tmp_path / 'lives').exists(), 'run returned when the last holder of the pipe, the child, had ended'
