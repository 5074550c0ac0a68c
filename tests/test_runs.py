"What happens to a run that is told nonsense, breaks, hangs, dies, or is tampered with"
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings as effort, strategies as st
from _runs import FINISH, place, write

from gnn_quant.core import BadParams, BadSettings, JournalBroken, RunFailed, StoreError, toy_bars
from gnn_quant.storage.journal import read
from gnn_quant.runs import engine
from gnn_quant.runs.engine import prepare, run
from gnn_quant.runs.folders import (find_run, get_frame, latest_run, list_runs, manifest_hash, read_run, upstream,
                                    use_run)
from gnn_quant.runs.parameters import REQUIRED, assignments, check_params, parameters
from gnn_quant.runs.trials import trials_so_far
from gnn_quant.pipeline.verify import verify
from gnn_quant.storage.files import read_json, write_frame, write_json


# ---- parameters

def cell(tmp_path, source): return write(tmp_path, 'p', source)


@effort(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
       st.lists(st.text(max_size=5), max_size=4))
def test_text_from_the_command_line_means_what_it_says(text, n, x, b, words):
    spec = PARSED
    got = check_params(spec, assignments([f's={text}', f'n={n}', f'x={x!r}', f'b={str(b).lower()}',
                                          f'w={json.dumps(words)}']), text=True)
    assert got == dict(s=text, n=n, x=x, b=b, w=words)
    assert [type(v) for v in got.values()] == [str, int, float, bool, list]


@pytest.fixture(scope='module', autouse=True)
def parsed(tmp_path_factory):
    global PARSED
    PARSED = parameters(cell(tmp_path_factory.mktemp('p'), 's: str\nn: int\nx: float\nb: bool\nw: list[str]'))


def test_required_default_and_comment(tmp_path):
    spec = parameters(cell(tmp_path, "a: int  # first, a = b: c\nb: float = -1e-3\nc: Literal['x', 'y'] = 'y'\nd: "
                           "Optional[list[int]] = None\ne: str = 'a#b'  # with #"))
    assert spec['a'].default is REQUIRED and spec['a'].comment == 'first, a = b: c'
    assert (spec['b'].default, spec['c'].default, spec['d'].default, spec['e'].default, spec['e'].comment) == (
        -1e-3, 'y', None, 'a#b', 'with #')


@pytest.mark.parametrize('source',
                         ['import os', 'a = 1', 'a: int = 1 + 1', 'a: dict = {}', "a: int = '1'", 'a: int = 1.0',
                          'a: bool = 1', 'a: list[int] = [1, "2"]', "a: Literal['x'] = 'y'",
                          'a: Literal[__import__("os").name] = 1', 'a: int = 1\na: int = 2', 'a: int = (',
                          'print(1)', 'a.b: int = 1', 'a: float = 1e999'])
def test_a_cell_that_is_not_a_list_of_literals_is_refused(tmp_path, source):
    with pytest.raises(BadParams): parameters(cell(tmp_path, source))


def test_the_cell_is_never_executed(tmp_path):
    mark = tmp_path / 'mark'
    with pytest.raises(BadParams): parameters(cell(tmp_path, f"a: int = open({str(mark)!r}, 'w').write('x')"))
    assert not mark.exists()


@pytest.mark.parametrize(
    'given,word', [(dict(topp=1), 'top'), (dict(top='1'), 'int'), (dict(top=True), 'int'), (dict(top=1.0), 'int'),
                   (dict(rate=float('nan')), 'float'), (dict(kind='c'), 'Literal'), ({}, 'must be given')])
def test_values_that_do_not_fit(tmp_path, given, word):
    spec = parameters(cell(tmp_path, "need: int\ntop: int = 1\nrate: float = 1.\nkind: Literal['a', 'b'] = 'a'"))
    with pytest.raises(BadParams, match=word): check_params(spec, given if not given else dict(need=1) | given)


@pytest.mark.parametrize('text', ['', '1.0', '1_0', ' 1', '0x1', '١', '1e3'])
def test_text_that_is_no_whole_number(tmp_path, text):
    with pytest.raises(BadParams): check_params(parameters(cell(tmp_path, 'a: int = 0')), dict(a=text), text=True)


def test_two_parameter_cells_or_none(tmp_path):
    path = write(tmp_path, 'p', 'a: int = 1', 'b: int = 2')
    nb = json.loads(path.read_text())
    for tags in ([[], []], [['parameters'], ['parameters']]):
        for c, t in zip(nb['cells'], tags): c['metadata'] = dict(tags=t)
        path.write_text(json.dumps(nb))
        with pytest.raises(BadParams, match='exactly one'): parameters(path)


# ---- a project with a few notebooks

NASTY = ['a=b', "it's \"so\"", 'back\\slash', 'two\nlines', 'ünïcödé €', '{braces} {}', '', '#no comment', "'''",
         'None', '日本']


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    home = tmp_path_factory.mktemp('with {braces} and ü')
    s = place(home)
    write(s.notebooks_dir, 'echo', "run_dir: str = ''\nw: list[str] = []\nx: float | None = None\nn: int = 5", '',
          '#md # Prose', FINISH.format('[w, x, n]'))
    frame = "from gnn_quant.core import toy_bars\nfrom gnn_quant.runs.workbench import put_frame, use, tell\n"
    write(s.notebooks_dir, 'source', "run_dir: str = ''\nseed: int = 0",
          frame + "put_frame(run_dir, 'bars', toy_bars(seed=seed))\ntell(run_dir, 'one')\ntell(run_dir, 'two')",
          FINISH.format('seed'))
    write(s.notebooks_dir, 'study', "run_dir: str = ''\nsource_run: str = ''\nmodels: list[str] = ['a', 'b']", frame
          + "bars = use(source_run, 'source')\nfor m in models: put_frame(run_dir, f'scores.{m}', toy_bars())",
          FINISH.format('1'))
    return s


@pytest.fixture(scope='module')
def chain(project):
    "A source run and a study made from it"
    lines = []
    first = run('source', settings=project, on_line=lines.append)
    return first, run('study', settings=project, quiet=True), lines


def test_parameters_arrive_as_they_were_sent(project):
    here = os.getcwd()
    done = run('echo', dict(w=tuple(NASTY), x=5), project, quiet=True)
    assert done.metrics == dict(got=[NASTY, 5.0, 5]) and done.params == dict(w=NASTY, x=5.0, n=5)
    assert os.getcwd() == here and verify(done) == []
    assert done.path.parent.name == '2020-01-31' and not list(Path(project.reports_dir, '.staging').iterdir())


def test_the_manifest_tells_what_a_run_was_made_of(chain):
    first, study, lines = chain
    m = study.manifest
    assert ({'notebook', 'code', 'package', 'git', 'versions', 'params', 'seeds', 'trial', 'trials', 'upstream',
             'files', 'frames', 'journal', 'wall', 'inputs', 'hash'} <= set(m))
    assert (m['hash'] == manifest_hash(m) and m['upstream']['source']['manifest'] == first.manifest['hash']
            and m['seeds'] == {} and first.manifest['seeds'] == dict(seed=0))
    assert set(m['trials']) == {'a', 'b'} and m['versions']['python'] == '.'.join(map(str, sys.version_info[:3]))
    assert upstream(study, 'source').id == first.id and get_frame(study, 'scores.a').equals(toy_bars())
    assert lines == ['one', 'two'] and not verify(first) and not verify(study)
    index = (Path(first.reports) / 'index.html').read_text()
    assert first.id in index and study.id in index


@pytest.mark.parametrize('name,params', [('sourze', {}), ('source', dict(sed=1)), ('source', dict(seed='1')),
                                         ('study', dict(source_run='nothing')), ('source', dict(run_dir='/x'))])
def test_nothing_starts_when_something_is_wrong(project, chain, name, params):
    before = len(list_runs(project)), len(read(project.reports_dir / 'trials.jsonl'))
    with pytest.raises(BadParams): run(name, params, project)
    assert (len(list_runs(project)), len(read(project.reports_dir / 'trials.jsonl'))) == before


def test_settings_reach_parameters_of_the_same_name(project):
    s = place(project.reports_dir.parent, seed=11)
    assert prepare('source', {}, s).params['seed'] == 11 and prepare('source', dict(seed=3), s).params['seed'] == 3
    assert prepare('source', {}, project).params['seed'] == 0


def test_a_simulated_market_is_refused_in_production(tmp_path):
    write(tmp_path / 'nb', 'ingest', "run_dir: str = ''\nsource: str = 'us20'", FINISH.format('1'))
    with pytest.raises(BadSettings, match='simulated'):
        prepare('ingest', dict(source='toy'), place(tmp_path, environment='prod'))


# ---- failures

BROKEN = dict(error=('x = 0', '1 / x'), leaves=('import sys; sys.exit(0)', 'x = 1'), silent=('x = 1',),
              early=(FINISH.format('1'), '1 / 0'),
              changes=(FINISH.format('1'), "open(run_dir + '/metrics.json', 'a').write(' ')"),
              dies=('import os', 'os.kill(os.getpid(), 9)'), hangs=('x = 1', 'import time; time.sleep(60)'),
              allowed=('x = 1', '1 / 0', FINISH.format('1')))
SAID = dict(error='cell 3 .*ZeroDivisionError', leaves='cell 3 .*stopped before', silent='finish was not called',
            early='cell 3 .*ZeroDivisionError', changes='metrics.json was changed', dies='cell 3 .*kernel died',
            hangs='cell 3 .*more than 3 seconds', allowed='cell 3 .*ZeroDivisionError')


@pytest.mark.parametrize('name', BROKEN)
def test_a_run_that_breaks(project, name):
    path = write(project.notebooks_dir, name, "run_dir: str = ''", *BROKEN[name])
    if name == 'allowed':
        nb = json.loads(path.read_text())
        nb['cells'][2]['metadata'] = dict(tags=['raises-exception'])
        path.write_text(json.dumps(nb))
    with pytest.raises(RunFailed, match=SAID[name]) as e:
        run(name, {}, project, quiet=True, timeout=3 if name == 'hangs' else 0)
    kept = list_runs(project, name)
    assert ([r.status for r in kept] == ['failed'] and kept[0].path.parent.name == 'failed'
            and str(kept[0].path / f'{name}.ipynb') in str(e.value))
    assert kept[0].manifest['error']['error'] and verify(kept[0]) == []
    assert name in [b.body['run'] for b in read(project.reports_dir / 'trials.jsonl', 'end')
                    if b.body['status'] == 'failed']
    with pytest.raises(RunFailed, match='no successful run'): latest_run(name, project)
    with pytest.raises(RunFailed, match='failed, not finished'): use_run(kept[0].id, name, project)


def runner(home, name, body=''):
    "Another process that runs a notebook of a project"
    code = (f'import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom pathlib import Path\nfrom _runs '
            f'import place\nfrom gnn_quant.runs import engine\n{body}\nengine.run({name!r}, {{}}, '
            f'place(Path({str(home)!r})), quiet=True)')
    return subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True)


def until(check, seconds=60):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.05)


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_a_runner_that_is_killed(tmp_path, how):
    s, mark = place(tmp_path), tmp_path / 'mark'
    hang = '\n'.join([
        'import os, pathlib, time', "pathlib.Path(run_dir, 'checkpoints').mkdir()",
        "pathlib.Path(run_dir, 'checkpoints', 'fold').write_text('half')",
        f'pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))', 'time.sleep(600)'])
    write(s.notebooks_dir, 'train', "run_dir: str = ''\nslow: bool = True",
          f'if slow and not pathlib.Path({str(mark)!r}).exists():\n' + textwrap.indent(hang, '    '),
          FINISH.format("sorted(p.name for p in pathlib.Path(run_dir).rglob('fold'))"))
    nb = json.loads((s.notebooks_dir / 'train.ipynb').read_text())
    nb['cells'][1]['source'] = 'import pathlib\n' + nb['cells'][1]['source']
    (s.notebooks_dir / 'train.ipynb').write_text(json.dumps(nb))
    p = runner(tmp_path, 'train')
    until(lambda: mark.exists() and mark.read_text())
    assert [r.status for r in list_runs(s)] == ['running'] and trials_so_far(s) == 1
    p.send_signal(how)
    p.wait(30)
    assert p.returncode != 0 and [r.status for r in list_runs(s)] == ['interrupted']
    with pytest.raises(RunFailed, match='no successful run of train yet .1 run, the newest interrupted'):
        latest_run('train', s)
    kernel = int(mark.read_text())
    until(
        lambda: not Path(f'/proc/{kernel}').exists() or 'Z' in Path(f'/proc/{kernel}/stat').read_text().split(')')[
            -1][:3], 30)
    dead = list_runs(s)[0]
    other = run('train', dict(slow=False), s, quiet=True)
    assert other.metrics['got'] == [] and 'resumed' not in other.manifest, (
        'checkpoints of another configuration were taken over')
    again = run('train', {}, s, quiet=True)
    assert again.metrics['got'] == ['fold'] and again.manifest['resumed'] == dead.id and verify(again) == []
    assert (trials_so_far(s) == 2 and latest_run('train', s).id == again.id
            and [r.status for r in list_runs(s, 'train')] == ['finished', 'finished', 'interrupted'])


@pytest.mark.parametrize('where', ['write_manifest', 'note_end', 'rename', 'note_start'])
def test_a_crash_between_two_steps_of_publishing(tmp_path, where, monkeypatch):
    s, seen = place(tmp_path), []
    write(s.notebooks_dir, 'study', "run_dir: str = ''", FINISH.format('1'))
    monkeypatch.setattr(engine, 'execute', lambda job, folder, *a: _pretend(job, folder))
    def crash(*a, **k):
        seen.append(where)
        if where != 'write_manifest' or len(seen) == 2: raise SystemError('lightning')
        return real(*a, **k)
    real = getattr(engine, where, None)
    monkeypatch.setattr(*((engine, where) if where != 'rename' else (engine.os, where)), crash)
    with pytest.raises(SystemError): run('study', {}, s, quiet=True)
    monkeypatch.undo()
    assert {r.status for r in list_runs(s)} <= {'interrupted'} and not list(s.reports_dir.glob('[!.]*/*/*'))
    with pytest.raises(RunFailed): latest_run('study', s)
    assert trials_so_far(s) == (0 if where == 'note_start' else 1)


def _pretend(job, folder):
    "A notebook that ran, without a kernel"
    nb = json.loads(job.notebook.read_text())
    for c in nb['cells']: c['execution_count'] = 1
    (folder / f'{job.name}.ipynb').write_text(json.dumps(nb))
    write_json({}, folder / 'metrics.json')
    write_json(dict(asof='2020-01-31', metrics={}, inputs={}, artefacts={}), folder / 'result.json')


def test_an_index_that_cannot_be_written_does_not_undo_a_run(tmp_path, monkeypatch, capsys):
    s = place(tmp_path)
    write(s.notebooks_dir, 'study', "run_dir: str = ''", FINISH.format('1'))
    monkeypatch.setattr(engine, 'execute', lambda job, folder, *a: _pretend(job, folder))
    (s.reports_dir / 'index.html').mkdir(parents=True)
    assert run('study', {}, s, quiet=True).status == 'finished' and 'index.html' in capsys.readouterr().err


# ---- several at a time

def test_threads_and_processes_do_not_disturb_each_other(project):
    here, out = os.getcwd(), {}
    def one(n): out[n] = run('echo', dict(n=n), project, quiet=True)
    threads = [threading.Thread(target=one, args=(n,)) for n in range(3)]
    p = runner(project.reports_dir.parent, 'echo')
    for t in threads: t.start()
    for t in threads: t.join()
    assert p.wait(60) == 0, p.stderr.read()
    assert ({n: r.metrics['got'][2] for n, r in out.items()} == {n: n for n in range(3)}
            and len({r.id for r in out.values()}) == 3)
    assert os.getcwd() == here and not any(verify(r) for r in out.values())


def test_another_python3_kernel_of_the_user_is_not_taken(project, tmp_path, monkeypatch):
    spec = tmp_path / 'kernels/python3'
    spec.mkdir(parents=True)
    (spec / 'kernel.json').write_text(json.dumps(dict(argv=['/bin/false'], display_name='python3', language='python')))
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path))
    assert run('echo', {}, project, quiet=True).status == 'finished'


# ---- trials

def journal(s): return s.reports_dir / 'trials.jsonl'


def quick(tmp_path, monkeypatch, **cells):
    "A project whose notebooks are not executed"
    s = place(tmp_path)
    for name, params in cells.items():
        write(s.notebooks_dir, name, "run_dir: str = ''\n" + params, '#md # Title', 'x = 1', 'finish()')
    monkeypatch.setattr(engine, 'execute', lambda job, folder, *a: _pretend(job, folder))
    return s


def test_what_is_a_trial(tmp_path, monkeypatch):
    s, counts = quick(tmp_path, monkeypatch, ingest='',
                      train="models: list[str] = ['a', 'b']\nseed: int = 0\ningest_run: str = ''",
                      backtest="cost: float = 0.\ntrain_run: str = ''"), []
    def then(name, **params):
        run(name, params, s, quiet=True)
        counts.append(trials_so_far(s))
    def edit(old, new):
        path = s.notebooks_dir / 'train.ipynb'
        path.write_text(path.read_text().replace(old, new))
    then('ingest'); then('train'); then('train'); then('train', models=['b'])
    assert counts == [0, 2, 2, 2], 'an exact repetition is no new trial'
    then('backtest'); then('backtest'); then('backtest', cost=.1)
    assert counts[4:] == [2, 2, 3], 'a backtest of b stands for its training, and a second cost is another strategy'
    then('train', seed=1)
    edit('# Title', '# Another title'); then('train', seed=1); edit('x = 1', 'x = 2'); then('train', seed=1)
    assert counts[7:] == [5, 5, 7], 'prose is no trial, code is'
    monkeypatch.setattr(engine, 'execute', lambda *a: engine.Failure('broken', 'Error'))
    with pytest.raises(RunFailed): run('train', dict(seed=2), s, quiet=True)
    assert trials_so_far(s) == 9, 'a run that failed was a try'


def test_other_data_is_another_trial(tmp_path, monkeypatch):
    s = quick(tmp_path, monkeypatch, ingest='seed: int = 0', train="ingest_run: str = ''")
    def with_data(job, folder, *a):
        _pretend(job, folder)
        if job.name == 'ingest': write_frame(toy_bars(seed=job.params['seed']), folder / 'bars.parquet')
    monkeypatch.setattr(engine, 'execute', with_data)
    counts = []
    for seed in (0, 0, 1, 0):
        run('ingest', dict(seed=seed), s, quiet=True)
        run('train', {}, s, quiet=True)
        counts.append(trials_so_far(s))
    assert counts == [1, 1, 2, 2]


def test_a_journal_that_was_shortened_stops_everything(tmp_path, monkeypatch):
    s = quick(tmp_path, monkeypatch, study='')
    run('study', {}, s, quiet=True)
    lines = journal(s).read_text().splitlines(keepends=True)
    journal(s).write_text(lines[1])
    with pytest.raises(JournalBroken): trials_so_far(s)
    with pytest.raises(JournalBroken): run('study', {}, s, quiet=True)
    assert 'journal' in ' '.join(verify(list_runs(s)[0]))


# ---- lists and tampering

def test_a_damaged_manifest_is_listed_and_hides_nothing(tmp_path, monkeypatch):
    s = quick(tmp_path, monkeypatch, study='')
    old = run('study', {}, s, quiet=True)
    new = run('study', {}, s, quiet=True)
    (new.path / 'manifest.json').write_text('{')
    assert sorted(r.status for r in list_runs(s)) == ['damaged', 'finished'] and latest_run('study', s).id == old.id
    with pytest.raises(BadParams): find_run(old.id[:8], s)
    with pytest.raises(BadParams): list_runs(s, status='ok')


TAMPERS = dict(
    frame=(lambda r: (r.path / 'scores.a.parquet').write_bytes((r.path / 'scores.b.parquet').read_bytes() + b'0'),
           'scores.a.parquet: changed'),
    content=(lambda r: write_frame(toy_bars(seed=5), r.path / 'scores.a.parquet'), 'scores.a: content'),
    missing=(lambda r: (r.path / 'scores.b.parquet').unlink(), 'scores.b.parquet: missing'),
    extra=(lambda r: (r.path / 'notes.txt').write_text('x'), 'notes.txt: not in the manifest'),
    figure=(lambda r: write_json(dict(got=2), r.path / 'metrics.json'), 'not the metrics of the manifest'),
    edited=(lambda r: write_json(r.manifest | dict(wall=1), r.path / 'manifest.json'), 'edited, its hash'),
    rehashed=(lambda r: engine.write_manifest(r.path, r.manifest | dict(wall=1)), 'ended with another manifest'),
    code=(lambda r: (r.path / 'study.ipynb').write_text(
        (r.path / 'study.ipynb').read_text().replace('toy_bars()', 'toy_bars(4)')), 'not those of the notebook'),
    above=(lambda r: write_frame(toy_bars(seed=9), upstream(r, 'source').path / 'bars.parquet'),
           'upstream source: bars: content'), replaced=(lambda r: engine.write_manifest(
               upstream(r, 'source').path, upstream(r, 'source').manifest | dict(wall=1)),
                                                        'its manifest is not the one'),
    gone=(lambda r: shutil.rmtree(upstream(r, 'source').path), 'upstream source'))


@pytest.mark.parametrize('how', TAMPERS)
def test_every_change_is_found(chain, tmp_path, how):
    study = chain[1]
    copy = shutil.copytree(study.reports, tmp_path / 'reports')
    there = read_run(copy / study.path.relative_to(study.reports))
    assert verify(there) == []
    change, word = TAMPERS[how]
    change(there)
    found = verify(read_run(there.path))
    assert any(word in f for f in found), found


def test_an_edited_run_is_not_built_on(chain, tmp_path):
    first = chain[0]
    s = place(tmp_path)
    shutil.copytree(first.reports, s.reports_dir)
    path = s.reports_dir / first.path.relative_to(first.reports)
    write_frame(toy_bars(seed=5), path / 'bars.parquet')
    with pytest.raises(StoreError, match='content'): get_frame(read_run(path), 'bars')
    write_json(read_json(path / 'manifest.json') | dict(asof='2030-01-01'), path / 'manifest.json')
    with pytest.raises(StoreError, match='changed since'): use_run('', 'source', s)


def stages(tmp_path, monkeypatch):
    "A project of stages that are not executed"
    from gnn_quant.pipeline.daily import DAY
    above = {n: ''.join(f"{a}_run: str = ''\n" for a in up) for n, up in DAY.items()}
    own = "experiment: str = ''\noverrides: list[str] = []\n"
    return quick(tmp_path, monkeypatch, **{n: own + a + 'reused: list[str] = []' for n, a in above.items()})


def test_a_day_builds_on_its_own_runs_and_not_on_the_newest(tmp_path, monkeypatch):
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.daily import in_silence, run_day
    s = stages(tmp_path, monkeypatch)
    def busy(job, folder, *a):
        _pretend(job, folder)
        if job.name != 'signals' or other: return
        other.append('begun')
        other.append(run('signals', {}, s, quiet=True))
    other = []
    monkeypatch.setattr(engine, 'execute', busy)
    runs = {x.name: x.run for x in run_day(Experiment(), s, in_silence)}
    assert len(list_runs(s, 'signals')) == 2 and latest_run('signals', s).id == other[1].id
    assert runs['backtest'].manifest['upstream']['signals']['id'] == runs['signals'].id != other[1].id


def test_what_is_reused_and_what_is_made_again(tmp_path, monkeypatch):
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.daily import DAY, in_silence, run_day
    s, e = stages(tmp_path, monkeypatch), Experiment()
    def fresh(e, **more): return [x.name for x in run_day(e, s, in_silence, **more) if not x.reused]
    assert fresh(e) == list(DAY)
    runs, trials = len(list_runs(s)), trials_so_far(s)
    assert fresh(e) == [] and len(list_runs(s)) == runs and trials_so_far(s) == trials
    assert fresh(e.with_(name='another name', training=dict(jobs=1))) == [], 'these change no result'
    assert fresh(e.set('costs.slippage_bp', 10)) == ['backtest', 'tearsheet'] and trials_so_far(s) > trials
    assert fresh(e.set('evidence.permutations', 5)) == ['tearsheet']
    assert fresh(e.set('evidence.audit.dates', 5), until='audit') == ['audit']
    assert fresh(e.set('models.tgat.width', 64), until='train') == ['train']
    assert fresh(e.set('graph.static_sectors', True), until='features') == ['features']
    assert fresh(e, until='features', reuse=False) == ['ingest', 'features']


def test_a_run_that_was_changed_is_not_reused_and_it_is_said_why(tmp_path, monkeypatch):
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.daily import run_day
    s, e, lines = stages(tmp_path, monkeypatch), Experiment(), []
    @contextlib.contextmanager
    def heard(): yield lambda stage, what, line: lines.append((stage, line))
    first = run_day(e, s, heard, until='features')
    path = first[1].run.path / 'features.ipynb'
    path.write_text(path.read_text() + ' ')
    again = run_day(e, s, heard, until='features')
    assert [x.reused for x in again] == [True, False] and again[1].run.id != first[1].run.id
    assert any(stage == 'features' and first[1].run.id in line and 'is not reused' in line and 'changed' in line
               for stage, line in lines)
    (first[0].run.path / 'manifest.json').write_text('{"status": "finished"}')
    assert [x.reused for x in run_day(e, s, heard, until='features')] == [False, True], 'equal content is found again'


def test_two_days_that_make_the_same_entry_at_once_both_finish(tmp_path, monkeypatch):
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.daily import in_silence, run_day
    s, e, second = stages(tmp_path, monkeypatch), Experiment(), []
    def meanwhile(job, folder, *a):
        _pretend(job, folder)
        if job.name != 'train' or second: return
        second.append('begun')
        second.extend(run_day(e, s, in_silence, until='train'))
    monkeypatch.setattr(engine, 'execute', meanwhile)
    first = run_day(e, s, in_silence, until='train')
    assert [x.reused for x in first] == [False] * 3 and [x.reused for x in second[1:]] == [True, True, False]
    assert len(list_runs(s, 'train', 'finished')) == 2 and trials_so_far(s) == 5
    assert all(x.reused for x in run_day(e, s, in_silence, until='train'))
