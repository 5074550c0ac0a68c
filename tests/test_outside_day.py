"A day whose every kind of part comes from a package outside the repository, from the command line"
import json
import subprocess
import sys
from pathlib import Path

import pytest
from _outside import ROOT, Installed, copy_package, outside_env

from gnn_quant.core import BadData, LookAhead
from gnn_quant.data.load import load_bundle
from gnn_quant.evidence.collect import Evidence
from gnn_quant.evidence.trial_ledger import count
from gnn_quant.graph.edge_builders import make_edges
from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.pipeline.reuse import plugin_hashes
from gnn_quant.report.markup import loads
from gnn_quant.report.outside_sections import outside_section
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
    done = daily(settings, '-p', 'costs.slippage_bp=12', '--until', 'backtest')
    assert done.returncode == 0, done.stderr[-3000:]
    made = {n: len(list_runs(settings, n, 'finished')) for n in ('features', 'train', 'signals', 'backtest', 'audit')}
    assert made == dict(features=1, train=1, signals=1, backtest=2, audit=1)
    assert count(Path(settings.reports_dir) / 'trials.jsonl').n == 4


def test_a_builder_that_reads_later_prices_is_refused_by_name():
    with Installed():
        bundle = load_bundle('outside_pkg:outside_market')
        assert len(make_edges(bundle, ['outside_pkg:trailing_pairs']))
        with pytest.raises(LookAhead, match='later_pairs'): make_edges(bundle, ['outside_pkg:later_pairs'])


def test_a_check_that_writes_into_the_evidence_is_refused_by_name(day, settings):
    done = daily(settings, '-p', 'evidence.checks=["outside_pkg:meddling_check"]')
    assert done.returncode != 0 and 'check outside_pkg:meddling_check: it changed the case' in done.stderr


def test_a_section_that_writes_into_the_evidence_is_refused_by_name():
    with Installed() as plugins:
        p = plugins.find('section', 'outside_pkg:meddling_section')
        with pytest.raises(BadData, match='section outside_pkg:meddling_section: it changed the case'):
            outside_section(p.label, p.make, None, Evidence({}, {}))
        plain = plugins.find('section', 'outside_pkg:orders_note')
        said = outside_section(plain.label, plain.make, None, Evidence({}, {}), plain.needs)
        assert 'needs ledger, which this case lacks' in said


def test_the_code_of_the_package_is_part_of_what_a_stage_was_made_from(tmp_path):
    folder, e = copy_package(tmp_path), Experiment.load(EXPERIMENT)
    with Installed(folder): before = plugin_hashes(e)
    module = folder / 'outside_pkg/weights.py'
    module.write_text(module.read_text() + '\n# another line\n')
    with Installed(folder): after = plugin_hashes(e)
    assert set(before) == set(after) >= {'sizer outside_pkg:sign_weight', 'builder outside_pkg:trailing_pairs',
                                         'source outside_pkg:outside_market', 'check outside_pkg:holds_cash'}
    assert all(before[k] != after[k] for k in before), 'whatever module of it was changed'
