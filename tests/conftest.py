import os
from pathlib import Path

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMBA_NUM_THREADS'):
    os.environ.setdefault(name, '1')
os.environ.setdefault('JUPYTER_PLATFORM_DIRS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import pytest
from hypothesis import settings

# The same examples on every machine, so that a change fails by its own fault; `make fuzz` draws new ones
settings.register_profile('steady', derandomize=True, deadline=None)
settings.register_profile('fuzz', deadline=None, print_blob=True)
settings.load_profile('steady')

ROOT = Path(__file__).parents[1]


def pytest_configure(config):
    config.addinivalue_line('markers', 'services: needs a server (PostgreSQL, Redis, MLflow, ...); run with --services')


def pytest_addoption(parser):
    parser.addoption('--services', action='store_true', help='run the tests that need servers')


def pytest_collection_modifyitems(config, items):
    if config.getoption('--services'): return
    for item in items:
        if 'services' in item.keywords: item.add_marker(pytest.mark.skip(reason='needs a server; run with --services'))


def pytest_terminal_summary(terminalreporter):
    reports = [r for rs in terminalreporter.stats.values() for r in rs if hasattr(r, 'nodeid')]
    if not any('test_notebooks' in r.nodeid for r in reports): return
    from _notebooks import table
    terminalreporter.section('notebooks')
    terminalreporter.write_line(table())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    "No test sees the settings of the person who runs it"
    for name in list(os.environ):
        if name.upper().startswith('GNNQ_') and name != 'GNNQ_BENCH_DATA': monkeypatch.delenv(name)


@pytest.fixture
def tmp_settings(tmp_path):
    "Settings whose folders are all temporary"
    from gnn_quant.settings import Settings
    return Settings(environment='test', data_dir=tmp_path / 'data', reports_dir=tmp_path / 'reports',
                    notebooks_dir=ROOT / 'nbs/runs', source='toy')


@pytest.fixture(scope='session')
def shared_data():
    "The folder of real data sets for tests; it is not part of the project"
    folder = Path(os.environ.get('GNNQ_BENCH_DATA') or ROOT.parent / 'shared/data')
    if not folder.is_dir(): pytest.skip(f'no shared data: {folder} is not a folder; set GNNQ_BENCH_DATA to one')
    return folder
