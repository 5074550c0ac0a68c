"What is installed is what is declared: extras, pins, a light start, and a wheel with nothing but the package"
import ast
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib.metadata import distributions, entry_points, packages_distributions

import pytest
from _notebooks import PACKAGE, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ('jupyter', 'sample-data', 'serve', 'marl', 'stream', 'cluster', 'dev')
HEAVY = ('torch', 'vectorbt', 'quantstats', 'lightgbm', 'sklearn', 'skfolio', 'matplotlib', 'papermill',
         'torch_geometric')


def facts():
    cfg = ConfigParser(delimiters=['='], interpolation=None)
    cfg.read(ROOT / 'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']


def requirements():
    return {k: [Requirement(x) for x in v.split()] for k, v in facts().items()
            if k == 'requirements' or k.endswith('_requirements')}


def pins():
    lines = [x for x in (ROOT / 'constraints.txt').read_text().splitlines() if x and not x.startswith('#')]
    assert all(re.fullmatch(r'[A-Za-z0-9._-]+==[A-Za-z0-9._!]+', x) for x in lines), 'one exact public version a line'
    return {canonicalize_name(n): v for n, v in (x.split('==') for x in lines)}


def test_extras():
    assert ({k.removesuffix('_requirements').replace('_', '-') for k in facts() if k.endswith('_requirements')}
            >= set(EXTRAS))


@pytest.mark.parametrize('kind', sorted(requirements()))
def test_every_requirement_is_pinned_to_a_version_it_accepts(kind):
    for r in requirements()[kind]:
        assert canonicalize_name(r.name) in pins(), f'{r.name}: not in constraints.txt'
        assert r.specifier.contains(pins()[canonicalize_name(r.name)]), (
            f'{r}: constraints.txt has {pins()[canonicalize_name(r.name)]}')


def test_the_environment_is_the_pinned_one():
    "Otherwise the stored outputs and this test run speak about another set of versions"
    have = {canonicalize_name(d.metadata['Name']): d.version.split('+')[0] for d in distributions()}
    differ = {n: (have[n], v) for n, v in pins().items() if n in have and have[n] != v}
    assert not differ


def test_torch_is_pinned_without_its_build():
    assert '+' not in (ROOT / 'constraints.txt').read_text().split('torch==')[1].split()[0]
    assert f"torch=={pins()['torch']}" in (ROOT / 'Makefile').read_text()


def third_party():
    "Top-level names of other people's packages that the package imports anywhere"
    found = set()
    for p in PACKAGE.rglob('*.py'):
        for n in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
            if isinstance(n, ast.Import): found |= {a.name.split('.')[0] for a in n.names}
            elif isinstance(n, ast.ImportFrom) and not n.level: found.add(n.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'gnn_quant'}


def test_every_import_is_a_declared_requirement():
    core, owner = {canonicalize_name(r.name) for r in requirements()['requirements']}, packages_distributions()
    stray = {m for m in third_party() if not {canonicalize_name(d) for d in owner.get(m, [])} & core}
    assert not stray, f'{stray}: name what brings them under requirements in settings.ini, or fetch them with core.need'


def test_development_tools_stay_out_of_the_package():
    assert not third_party() & {'nbdev', 'fastcore', 'execnb', 'pytest', 'hypothesis'}


@pytest.mark.parametrize('module', ['gnn_quant', 'gnn_quant.core', 'gnn_quant.storage.files',
                                    'gnn_quant.storage.journal', 'gnn_quant.settings', 'gnn_quant.cli'])
def test_the_start_is_light(module):
    code = f'import sys, {module}\nprint([m for m in {HEAVY} if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd='/')
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == '[]', f'{module} loads what only some commands need'


def test_the_command_is_there():
    assert [e.value for e in entry_points(group='console_scripts', name='gnnq')] == ['gnn_quant.cli:main']


def test_the_version_is_said_once():
    import gnn_quant
    assert gnn_quant.__version__ == facts()['version']


def test_the_wheel_ships_the_package_and_nothing_else(tmp_path):
    src = tmp_path / 'src'
    shutil.copytree(ROOT, src, ignore=shutil.ignore_patterns('.git', '.venv', '*.egg-info', 'data', 'reports',
                                                             '__pycache__', '_docs', 'build'))
    shutil.copytree(PACKAGE, src / 'gnn_quant', dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))
    done = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '.', '--no-deps', '--no-build-isolation', '-w',
                           str(tmp_path)], cwd=src, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    names = zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    info = f"gnn_quant-{facts()['version']}.dist-info/"
    assert all(n.startswith(('gnn_quant/', info)) for n in names)
    assert ({n for n in names if n.startswith('gnn_quant/')}
            == {f'gnn_quant/{p.relative_to(PACKAGE).as_posix()}' for p in PACKAGE.rglob('*.py')
                if '__pycache__' not in p.parts})
    assert f'{info}licenses/LICENSE' in names


def test_the_top_level_stays_as_it_is():
    want = {'nbs', 'gnn_quant', 'reports', 'data', 'deploy', 'tests', 'settings.ini', 'setup.py', 'README.md',
            'Makefile', 'CHANGELOG.md', 'CONTRIBUTING.md', 'LICENSE', 'constraints.txt',
            'ruff.toml', 'pyrightconfig.json'}
    done = subprocess.run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode: pytest.skip('not a git checkout')
    assert not {x.split('/')[0] for x in done.stdout.splitlines() if not x.startswith('.')} - want
