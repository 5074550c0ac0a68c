"A day whose every kind of part comes from a package outside the repository, from the command line"
import json
import subprocess
import sys
from pathlib import Path

import pytest
from _outside import ROOT, outside_env

from gnn_quant.evidence.trials import count
from gnn_quant.report.markup import loads
from gnn_quant.runs.folders import list_runs
from gnn_quant.settings import Settings

EXPERIMENT = ROOT / 'tests/fixtures/outside.toml'


@pytest.fixture(scope='module')
def home(tmp_path_factory): return tmp_path_factory.mktemp('outside')


@pytest.fixture(scope='module')
def settings(home):
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports', notebooks_dir=ROOT / 'nbs/runs')


def daily(settings, *more, experiment=EXPERIMENT):
    env = outside_env() | {f'GNNQ_{k.upper()}': str(getattr(settings, k))
                           for k in ('data_dir', 'reports_dir', 'notebooks_dir')}
    return subprocess.run([str(Path(sys.executable).with_name('gnnq')), 'daily', '-e', str(experiment), *more], env=env,
                          cwd=Path(settings.reports_dir).parent, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope='module')
def day(settings):
    done = daily(settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.strip().splitlines()[-1])


def run_of(settings, name): return list_runs(settings, name, 'finished')[0]


def test_every_kind_is_run_audited_counted_and_reported(day, settings):
    html = day.read_text(encoding='utf-8')
    assert loads(html) == [] and 'orders of the fixture were filled' in html and 'outside_pkg:orders_note' in html
    evidence = json.loads((day.parent / 'evidence.json').read_text())['figures']
    own = {c['id']: c for c in evidence['checks']}['outside_pkg:holds_cash']
    assert own['threshold'] == .5 and own['passed'] is (own['value'] >= .5) and own['reason'] in html
    assert run_of(settings, 'audit').metrics['passed'] is True
    assert set(run_of(settings, 'audit').metrics['stages']) >= {'features', 'edges', 'prediction', 'signal', 'weights'}
    assert count(Path(settings.reports_dir) / 'trials.jsonl').n == 2
    design = json.loads((run_of(settings, 'train').path / 'design.json').read_text())
    assert set(design['features']) == {'ret_5', 'outside_pkg:three_rows', 'outside_pkg:mentions'}


def test_what_did_not_change_is_not_run_again(day, settings):
    again = daily(settings)
    assert Path(again.stdout.strip().splitlines()[-1]) == day, again.stderr[-2000:]
    done = daily(settings, '-p', 'costs.slippage_bp=12', '--until', 'backtest')
    assert done.returncode == 0, done.stderr[-3000:]
    made = {n: len(list_runs(settings, n, 'finished')) for n in ('features', 'train', 'signals', 'backtest', 'audit')}
    assert made == dict(features=1, train=1, signals=1, backtest=2, audit=1)
    assert count(Path(settings.reports_dir) / 'trials.jsonl').n == 4


def test_a_builder_that_reads_later_prices_is_refused_by_name(day, settings):
    done = daily(settings, '-p', 'graph.builders=["outside_pkg:later_pairs"]', '--until', 'features')
    assert done.returncode != 0 and 'later_pairs' in done.stderr and 'LookAhead' in done.stderr


@pytest.mark.parametrize('kind', ['check', 'section'])
def test_what_writes_into_the_evidence_is_refused_by_name(kind, day, settings):
    done = daily(settings, '-p', f'evidence.{kind}s=["outside_pkg:meddling_{kind}"]')
    assert done.returncode != 0 and f'{kind} outside_pkg:meddling_{kind}' in done.stderr
    assert 'changed the case' in done.stderr


def test_a_change_of_the_package_makes_its_stages_anew(day, settings, tmp_path):
    "The package's own code is part of what a stage was made from"
    from _outside import copy_package
    folder = copy_package(tmp_path)
    module = folder / 'outside_pkg/weights.py'
    module.write_text(module.read_text() + '\n# another line\n')
    env = outside_env(folder) | {f'GNNQ_{k.upper()}': str(getattr(settings, k))
                                 for k in ('data_dir', 'reports_dir', 'notebooks_dir')}
    before = {n: len(list_runs(settings, n, 'finished')) for n in ('features', 'train', 'signals')}
    done = subprocess.run([str(Path(sys.executable).with_name('gnnq')), 'daily', '-e', str(EXPERIMENT), '--until',
                           'signals'], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list_runs(settings, 'signals', 'finished')) == before['signals'] + 1
