"The command line as a shell sees it: what it prints, where, and with which exit code"
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _runs import FINISH, write
from typer.testing import CliRunner

from gnn_quant import __version__
from gnn_quant.evidence.trial_ledger import begin_trial, recorded
from gnn_quant.pipeline.daily import DAY
from gnn_quant.runs.folders import list_runs
from gnn_quant.settings import Settings

HEAVY = ('numpy', 'pandas', 'torch', 'vectorbt', 'quantstats', 'lightgbm', 'papermill', 'pydantic', 'matplotlib')


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A folder to stand in, with a small notebook for each stage, an experiment, and settings that lie in `.env`"
    home = tmp_path_factory.mktemp('cli')
    (home / '.env').write_text('GNNQ_NOTEBOOKS_DIR=nb\n')
    (home / 'experiments').mkdir()
    (home / 'experiments/us20.toml').write_text('name = "small"\n[data]\nsource = "toy"\n')
    for name, above in DAY.items():
        lines = ["run_dir: str = ''", "experiment: str = ''", 'overrides: list[str] = []',
                 'seed: int = 0  # of everything random', "note: str = ''", *(f"{a}_run: str = ''" for a in above)]
        if name == 'tearsheet': lines.append('reused: list[str] = []')
        toml = ("open(run_dir + '/experiment.toml', "
                "'w').write(experiment)\nfrom gnn_quant.pipeline.experiment import Experiment\n")
        toml += "cost = Experiment.loads(experiment).costs.slippage_bp\n"
        page = ("for p in ('tearsheet', 'another'): open(f'{run_dir}/{p}.html', 'w').write('<p>')\n"
                if name == 'tearsheet' else '')
        broken = f"if note == 'break' or cost == {list(DAY).index(name) + 900}: raise ValueError('it broke')"
        write(home / 'nb', name, '\n'.join(lines), toml + broken, page + FINISH.format('[seed, note]'))
    return home


def gnnq(home, *args, **env):
    keep = ({k: v for k, v in os.environ.items() if not k.startswith('GNNQ_')}
            | dict(COLUMNS='200', NO_COLOR='1', TERM='dumb'))
    return subprocess.run([Path(sys.executable).with_name('gnnq'), *args], cwd=home, env=keep | env,
                          capture_output=True, text=True)


def runs_of(home, name=''): return list_runs(Settings(reports_dir=home / 'reports'), name)


def test_nothing_heavy_is_imported_for_help():
    code = f'import sys, gnn_quant.cli; print(*[m for m in {HEAVY} if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == ''


def test_help_and_version(home):
    top = gnnq(home, '--help')
    assert top.returncode == 0 and all(w in top.stdout for w in (
        'run', 'daily', 'runs', 'params', 'verify', 'data', 'trials', 'audit', 'Exit codes'))
    assert gnnq(home, '--version').stdout.strip() == f'gnn_quant {__version__}'
    for command in ('run', 'daily', 'runs', 'params', 'verify', 'trials list', 'trials verify', 'trials merge',
                    'audit run'):
        text = gnnq(home, *command.split(), '--help')
        assert text.returncode == 0 and 'Usage' in text.stdout
    assert 'us20' in gnnq(home, 'data', 'list').stdout


def test_params_names_types_defaults_and_comments(home):
    out = gnnq(home, 'params', 'train').stdout.splitlines()
    assert ['seed', 'int', '0', 'of', 'everything', 'random'] in [x.split() for x in out] and len(out) == 6
    assert 'run_dir' not in ' '.join(out)


def test_a_run_prints_its_folder_and_nothing_else(home):
    done = gnnq(home, 'run', 'ingest', '-p', 'seed=3', '-p', 'note=a=b')
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert (folder / 'manifest.json').is_file() and runs_of(home, 'ingest')[0].metrics == dict(got=[3, 'a=b'])
    listed = gnnq(home, 'runs', '--name', 'ingest', '--limit', '1').stdout
    assert folder.name in listed and 'finished' in listed
    whole = gnnq(home, 'verify', folder.name[:17])
    assert whole.returncode == 0 and 'as they were written' in whole.stdout
    (folder / 'metrics.json').write_text('{}')
    broken = gnnq(home, 'verify', str(folder))
    assert broken.returncode == 1 and 'metrics.json: changed' in broken.stdout and 'Traceback' not in broken.stderr


def test_a_run_that_made_a_page_prints_its_path(home, tmp_path):
    write(home / 'nb', 'study', "run_dir: str = ''",
          "open(run_dir + '/figures.html', 'w').write('<p>')\n" + FINISH.format('1'))
    done = gnnq(home, 'run', '-q', 'study')
    page = Path(done.stdout.strip())
    assert done.returncode == 0 and page.name == 'figures.html' and page.is_file()
    assert ('as they were written' in gnnq(home, 'verify', str(page)).stdout
            and 'study/' in (home / 'reports/index.html').read_text().partition('figures.html')[0][-200:])


@pytest.mark.parametrize(
    'args,code,word',
    [(['run', 'trian'], 2, 'Did you mean train'), (['run', 'ingest', '-p', 'sed=1'], 2, 'Did you mean seed'),
     (['run', 'ingest', '-p', 'seed'], 2, 'name=value'), (['run', 'ingest', '-p', 'seed=1.0'], 2, 'no int'),
     (['run'], 2, 'Missing argument'), (['nonsense'], 2, 'nonsense'),
     (['daily', '-p', 'training.epoch=1'], 2, 'Did you mean training.epochs'), (['daily', '-e', 'us02'], 2, 'us20'),
     (['list', 'feature_s'], 2, 'features'), (['daily', '--until', 'trian'], 2, 'no stage'),
     (['experiment', 'show', '-p', 'costs.slippage=1'], 2, 'slippage_bp'),
     (['runs', '--status', 'ok'], 2, 'finished'), (['verify', 'nothing'], 2, 'no such')])
def test_wrong_usage(home, args, code, word):
    done = gnnq(home, *args)
    assert done.returncode == code and word in done.stderr and 'Traceback' not in done.stderr and not done.stdout


def test_wrong_settings_and_a_broken_journal(home, tmp_path):
    done = gnnq(home, 'runs', GNNQ_SEDE='1')
    assert (done.returncode == 4 and done.stderr.startswith('BadSettings: settings: GNNQ_SEDE')
            and done.stderr.count('\n') == 1)
    (tmp_path / 'trials.jsonl').write_text('{}\n')
    broken = gnnq(home, 'run', 'ingest', GNNQ_REPORTS_DIR=str(tmp_path))
    assert broken.returncode == 5 and '\nJournalBroken: ' in broken.stderr and 'Traceback' not in broken.stderr


def test_a_failed_run_is_one_line_and_a_traceback_on_request(home):
    done = gnnq(home, 'run', 'ingest', '-q', '-p', 'note=break')
    assert (done.returncode == 1 and done.stderr.count('\n') == 1 and 'cell 2' in done.stderr
            and 'it broke' in done.stderr and not done.stdout)
    assert Path(done.stderr.strip().rpartition(' ')[2]).is_file()
    debug = gnnq(home, '--debug', 'run', 'ingest', '-q', '-p', 'note=break')
    assert debug.returncode == 1 and 'Traceback' in debug.stderr
    assert 'failed' in gnnq(home, 'runs', '--status', 'failed').stdout


def test_the_day(home):
    done = gnnq(home, 'daily', '--source', 'toy', '-p', 'training.seed=5')
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert (page.name == 'tearsheet.html' and page.is_file()
            and [f'{s}: started' for s in DAY] == [x for x in done.stderr.splitlines() if 'started' in x])
    newest = {r.name: r for r in runs_of(home)[:len(DAY)]}
    assert (newest['tearsheet'].path == page.parent
            and set(newest['tearsheet'].manifest['lineage']) == set(list(DAY)[:-1]))
    assert (newest['train'].manifest['experiment']['name'] == 'small'
            and 'seed = 5' in newest['train'].params['experiment'])
    runs = len(runs_of(home))
    again = gnnq(home, 'daily', '--source', 'toy', '-p', 'training.seed=5')
    assert (again.stdout == done.stdout and len(runs_of(home)) == runs
            and again.stderr.count('reused from run') == len(DAY))
    anew = gnnq(home, 'daily', '--source', 'toy', '-p', 'training.seed=5', '--again', '--until', 'features')
    assert anew.returncode == 0 and len(runs_of(home)) == runs + 2


def test_a_day_that_stops_says_where(home):
    done = gnnq(home, 'daily', '-p', f'costs.slippage_bp={list(DAY).index("backtest") + 900}')
    assert (done.returncode == 1 and 'stage backtest failed' in done.stderr and 'it broke' in done.stderr
            and not done.stdout)
    assert runs_of(home)[0].name == 'backtest' and runs_of(home)[0].status == 'failed'


def test_one_stage_changes_the_experiment_of_the_run_above(home):
    assert gnnq(home, 'daily', '-q', '--until', 'signals').returncode == 0
    done = gnnq(home, 'run', '-q', 'backtest', '-p', 'costs.slippage_bp=7')
    made = runs_of(home, 'backtest')[0]
    assert done.returncode == 0 and 'slippage_bp = 7' in made.params['experiment'] and made.manifest['stage_key']


def test_experiments_and_plugins_are_shown(home):
    shown = gnnq(home, 'experiment', 'show', 'us20', '-p', 'split.train=500')
    assert shown.returncode == 0 and 'train = 500' in shown.stdout and '[costs]' in shown.stdout
    checked = gnnq(home, 'experiment', 'check', 'us20')
    assert checked.returncode == 0 and checked.stdout.startswith('small: valid, ')
    (home / 'other.toml').write_text('name = "other"\n[costs]\nslippage_bp = 9\n[data]\nsource = "toy"\n')
    differ = gnnq(home, 'experiment', 'diff', 'us20', 'other.toml')
    assert differ.returncode == 0 and 'costs.slippage_bp' in differ.stdout and 'split' not in differ.stdout
    (home / 'half.toml').write_text('name = "half"\n[costs\n')
    half = gnnq(home, 'experiment', 'check', 'half.toml')
    assert half.returncode == 2 and 'half.toml' in half.stderr and 'Traceback' not in half.stderr
    for kind, name in dict(features='ret_5', models='tgat', builders='rolling', sizers='signal_weighted',
                           sources='us20', costs='linear', checks='pbo').items():
        assert name in gnnq(home, 'list', kind).stdout, kind


def test_from_another_folder_nothing_is_found_and_nothing_is_made(tmp_path):
    done = gnnq(tmp_path, 'run', 'ingest')
    assert done.returncode == 2 and 'GNNQ_NOTEBOOKS_DIR' in done.stderr and not list(tmp_path.iterdir())


def test_trials_are_listed_checked_and_merged(home, tmp_path):
    here, there = (dict(GNNQ_REPORTS_DIR=str(tmp_path / m)) for m in ('here', 'there'))
    none = gnnq(home, 'trials', 'list', **here)
    assert none.returncode == 2 and 'nothing was ever recorded' in none.stderr and not none.stdout
    write(home / 'nb', 'tries', "run_dir: str = ''\nseed: int = 0", FINISH.format('seed'))
    for where, n in ((here, 1), (here, 2), (there, 2), (there, 3)):
        assert gnnq(home, 'run', '-q', 'tries', '-p', f'seed={n}', **where).returncode == 0
    days = pd.bdate_range('2020-01-01', periods=60)
    with recorded(tmp_path / 'here/trials.jsonl', 'by hand', {}, 'bars') as t:
        t.returns = pd.Series(np.tile([.01, -.005], 30), days)
    begin_trial(tmp_path / 'here/trials.jsonl', 'left', {}, 'bars')
    listed = gnnq(home, 'trials', 'list', **here)
    head, *rows, _, words = listed.stdout.splitlines()
    assert listed.returncode == 0 and head.split() == ['began', '(UTC)', 'run', 'trial', 'state', 'times', 'rows',
                                                       'Sharpe', 'key'] and len(rows) == 4
    assert ([r[18:].split()[0] for r in rows] == ['left', 'by', 'tries', 'tries'] and 'abandoned' in rows[0]
            and ' 60 ' in rows[1]
            and f"{.0025 / pd.Series(np.tile([.01, -.005], 30)).std() * 252**.5:.2f}" in rows[1])
    assert words.startswith('4 trials, worth 4.0 independent: 1 with returns, 0 failed, 1 abandoned or going on. '
                            'The journal ends with entry 7, ')
    assert len(gnnq(home, 'trials', 'list', '--limit', '1', '--status', 'finished', **here).stdout.splitlines()) == 4
    assert gnnq(home, 'trials', 'list', '--status', 'good', **here).returncode == 2
    noted = words.rpartition(' ')[2]
    fine = gnnq(home, 'trials', 'verify', '--head', noted, **here)
    assert fine.returncode == 0 and fine.stdout.startswith('All as it was written. 4 trials')
    merged = gnnq(home, 'trials', 'merge', str(tmp_path / 'there'), **here)
    assert merged.returncode == 0 and merged.stdout.startswith('1 trial not counted before. 5 trials')
    assert gnnq(home, 'trials', 'merge', str(tmp_path / 'there'), **here).stdout.startswith(
        '0 trials not counted before. 5 trials')
    assert gnnq(home, 'trials', 'verify', '--head', noted, **here).returncode == 0
    wrong = gnnq(home, 'trials', 'verify', '--head', '0' * 16, **here)
    assert wrong.returncode == 1 and 'rewritten or put back' in wrong.stdout and wrong.stdout.endswith('1 finding\n')
    path = tmp_path / 'here/trials.jsonl'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[1:]))
    broken = gnnq(home, 'trials', 'verify', **here)
    assert broken.returncode == 1 and 'entry 1 was dropped' in broken.stdout and not broken.stderr
    assert (gnnq(home, 'trials', 'list', **here).returncode == 5
            and gnnq(home, 'trials', 'merge', 'nowhere', **there).returncode == 2)


@pytest.mark.parametrize('passed', [True, False])
def test_an_audit_prints_its_page_and_says_what_it_found_by_its_code(tmp_path, monkeypatch, passed):
    from gnn_quant import cli
    from gnn_quant.runs.folders import Run
    seen = []
    def audit_run(ref, settings, params, text, say, timeout):
        seen.append((ref, params, text, timeout))
        return Run(tmp_path, dict(run='audit', files={'audit.html': 'h'}, metrics=dict(passed=passed)), 'finished')
    monkeypatch.setitem(sys.modules, 'gnn_quant.pipeline.audit_run', types.SimpleNamespace(audit_run=audit_run))
    done = CliRunner().invoke(cli.app, ['audit', 'run', 'train', '-q', '-p', 'cuts=3', '--timeout', '9'])
    assert (done.exit_code == (0 if passed else 1) and done.stdout.strip() == str(tmp_path / 'audit.html')
            and seen == [('train', dict(cuts='3'), True, 9)])
