"The notebooks keep the house style, are of one kind each, and are the same thing as the package"
import ast
import filecmp
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from _notebooks import (NBS, PACKAGE, ROOT, all_notebooks, cells_of, default_exp, is_export, kind_of, measure,
                        module_notebooks)
from _notebooks import cell_lines, deep_statements, docstring_lines, entry_lines, form_faults, name_of, nesting
from _notebooks import notebook_faults, number_of, source_of, table, tags_of, wide_lines

EVERY = pytest.mark.parametrize('path', all_notebooks(), ids=name_of)
MODULES = pytest.mark.parametrize('path', module_notebooks(), ids=name_of)
MOST = dict(cells=110, cell=60, body=50, doc=3, entry=25, module=400)


def over_budget(m):
    "The measures of a module notebook that pass the last column of the style table"
    out = [f'{k} {m[k]}, at most {v}' for k, v in MOST.items() if m[k] > v]
    if m['prose'] < .15: out.append(f"prose {m['prose']:.0%} of the cells, at least 15%")
    if m['hidden'] >= .10: out.append(f"hidden {m['hidden']:.0%} of the cells, under 10%")
    if m['examples'] and m['shown'] <= 1 / 3:
        out.append(f"{m['shown']:.0%} of the example cells show an output, over a third")
    if not m['examples']: out.append('no example cell at all')
    return out


@MODULES
def test_budgets(path):
    assert not over_budget(measure(path)), (
        'A cell that does not fit is two cells; a function that does not fit is two functions.')


def test_the_table_has_every_notebook():
    text = table()
    assert all(name_of(p) in text for p in all_notebooks())


def test_the_budget_check_finds_each_excess():
    good = dict(cells=50, prose=.27, hidden=.02, examples=12, shown=.8, cell=20, body=9, doc=1, entry=0, module=150)
    assert not over_budget(good)
    for bad in (dict(cells=111), dict(prose=.14), dict(hidden=.10), dict(examples=0), dict(shown=.3), dict(cell=61),
                dict(body=51), dict(doc=4), dict(entry=26), dict(module=401)):
        assert len(over_budget(good | bad)) == 1, bad


FILES = [p for folder in ('tests', 'tests/bench', '.ci') for p in sorted((ROOT / folder).glob('*.py'))]


def in_root(path): return path.relative_to(ROOT).as_posix()


@EVERY
def test_width_and_nesting(path):
    faults = notebook_faults(path)
    assert not faults, 'Break the line, or name the step.'


@pytest.mark.parametrize('path', FILES, ids=in_root)
def test_width_and_nesting_of_files(path):
    text = path.read_text(encoding='utf-8')
    faults = form_faults(text, ast.parse(text))
    assert not faults, 'Break the line, or name the step.'


def test_the_form_check_finds_each_excess():
    assert wide_lines('x' * 120) == [] and wide_lines('a\n' + 'x' * 121) == [(2, 121)]
    flat, deep = '[[x for x in y] for y in z]', '[[(lambda: x) for x in y] for y in z]'
    assert [nesting(ast.parse(t).body[0]) for t in ('x', '[x for x in y]', flat, deep)] == [0, 1, 2, 3]
    for text in (deep, 'f = lambda: [{a: b for a in b} for b in c]',
                 'assert all(any(any(x for x in y) for y in z) for z in w)'):
        assert [d for _, d in deep_statements(ast.parse(text))] == [3], text
    assert not deep_statements(ast.parse(f'def f():\n    x = {flat}\n    return {flat}'))
    assert not deep_statements(ast.parse('x = [f(a) for a in b], [g(lambda: a) for a in b]'))
    text = deep + '\n' + 'x' * 121
    assert form_faults(text, ast.parse(text)) == ['line 2: 121 wide, at most 120',
                                                  'line 1: 3 levels of comprehensions or lambdas, at most 2']


def code_cell(text): return dict(cell_type='code', source=text, id='a', outputs=[])


def test_numpydoc_docstrings_have_a_budget_of_their_own():
    page = ['    """What it does', '', '    Parameters', '    ----------', '    x', '        a number', '    """']
    public, private = (code_cell('\n'.join([f'def {name}(x):', *page, '    return x'])) for name in ('f', '_f'))
    assert (docstring_lines(public), entry_lines(public), cell_lines(public)) == (0, 7, 2)
    assert (docstring_lines(private), entry_lines(private), cell_lines(private)) == (7, 0, 9)
    prose = code_cell('def f(x):\n    """One\n    two\n    three\n    four"""')
    assert (docstring_lines(prose), entry_lines(prose)) == (4, 0)


def kind_faults(kind, cells, exp):
    "What makes a notebook two kinds at once"
    tagged, exported = sum('parameters' in tags_of(c) for c in cells), sum(map(is_export, cells))
    if kind == 'module':
        return [w for w, bad in (('no default_exp', not exp), ('nothing exported', not exported),
                                 ('a parameters cell', tagged)) if bad]
    out = [w for w, bad in (('default_exp', exp), ('an exported cell', exported)) if bad]
    return out + ([f'{tagged} parameters cells, exactly one wanted'] if kind == 'run' and tagged != 1
                  else ['a parameters cell'] if kind == 'plain' and tagged else [])


@EVERY
def test_kinds_are_never_mixed(path):
    assert number_of(path) is not None or path.parent in (NBS, NBS / 'runs', NBS / 'gallery'), (
        f'{name_of(path)}: notebooks live in nbs/NN_stage, nbs/runs and nbs/gallery')
    assert not kind_faults(kind_of(path), cells_of(path), default_exp(path))


def test_the_kind_check_finds_each_mixture():
    code = lambda src, *tags: dict(cell_type='code', source=src, metadata=dict(tags=list(tags)), outputs=[])
    export, params, free = code('#| export\nx = 1'), code('x = 1', 'parameters'), code('x')
    assert (not kind_faults('module', [export, free], 'm') and not kind_faults('run', [params, free], None)
            and not kind_faults('plain', [free], None))
    assert len(kind_faults('module', [params], None)) == 3
    assert (kind_faults('run', [free], None) and kind_faults('run', [params, params], None)
            and kind_faults('run', [params, export], None))
    assert kind_faults('plain', [params], None) and kind_faults('plain', [export], None)


@EVERY
def test_cell_ids(path):
    ids = [c.get('id') for c in cells_of(path)]
    assert all(ids), 'a cell without an id gets a new one with every clean'
    assert len(set(ids)) == len(ids), 'two cells share an id'


@EVERY
def test_one_heading_a_cell_and_an_opening(path):
    prose = [c for c in cells_of(path) if c['cell_type'] == 'markdown']
    for c in prose:
        text = re.sub(r'```.*?```', '', source_of(c), flags=re.S)
        assert len(re.findall(r'^#{1,6} ', text, flags=re.M)) <= 1, f"two headings in cell {c['id']}"
    first = cells_of(path)[0]
    assert first['cell_type'] == 'markdown' and source_of(first).startswith('# '), 'a notebook opens with its title'
    if kind_of(path) == 'module':
        assert re.search(r'^> ', source_of(first), flags=re.M), "the title is followed by a '>' subtitle"


DIRT = {'an absolute path': re.compile(
    r'(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|opt|var|mnt|private|builds|workspace|srv|github)/|[A-Z]:\\\\?Users'),
        'an object address': re.compile(r'\b0x[0-9a-fA-F]{6,}\b'),
        'a traceback': re.compile(r'Traceback \(most recent call last\)'),
        'a progress bar': re.compile(r'\d+%\|[\s█▏▎▍▌▋▊▉#-]*\||\r|it/s\]'),}


def wall_clock(text):
    "Dates between the start of the project and today: what an example of a simulated market cannot know"
    return [d for d in re.findall(r'\b20\d\d-[01]\d-[0-3]\d\b', text) if '2026-01-01' <= d <= date.today().isoformat()]


def output_dirt(outputs):
    "What may not stay in a notebook because it will not repeat"
    found = []
    for o in outputs:
        if o['output_type'] == 'error': found.append('a traceback')
        if o.get('name') == 'stderr': found.append('stderr: ' + ''.join(o['text'])[:80])
        data = o.get('data', {})
        if any('widget-view' in k for k in data): found.append('a progress bar or widget')
        texts = [o.get('text', '')] + [v for k, v in data.items() if k.startswith('text/') or k == 'image/svg+xml']
        texts = [t if isinstance(t, str) else ''.join(t) for t in texts]
        found += [f'a wall-clock date: {d}' for t in texts for d in wall_clock(t)]
        found += [f'{what}: {m[0]!r}' for t in texts for what, pattern in DIRT.items() if (m := pattern.search(t))]
    return found


@EVERY
def test_outputs_repeat(path):
    dirt = {c['id']: d for c in cells_of(path) if c['cell_type'] == 'code' and (d := output_dirt(c['outputs']))}
    assert not dirt
    assert all(c['execution_count'] is None for c in cells_of(path) if c['cell_type'] == 'code'), 'run nbdev_clean'


def test_the_output_check_finds_each_dirt():
    say = lambda text, name='stdout': [dict(output_type='stream', name=name, text=text)]
    for text in ('saved /home/me/x.csv', '<Figure at 0x7f3a2b4c5d6e>', f'on {date.today()}',
                 'Traceback (most recent call last):', ' 40%|####      | 4/10', 'a\rb'):
        assert output_dirt(say(text)), text
    assert output_dirt(say('careful', 'stderr')) and output_dirt([dict(output_type='error', ename='E')])
    assert output_dirt([dict(output_type='display_data', data={'application/vnd.jupyter.widget-view+json': {}})])
    for text in ('reports/daily/2020-01-02/x', 'rows 2019-12-31', 'due 2199-01-01', '40% of 10 | 4', 'and/or',
                 '0x1f', 'https://example.org/home/x'):
        assert not output_dirt(say(text)), text


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "The package as the notebooks make it, in a folder of its own"
    tmp = tmp_path_factory.mktemp('export')
    shutil.copy(ROOT / 'settings.ini', tmp)
    shutil.copytree(NBS, tmp / 'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    (tmp / 'gnn_quant').mkdir()
    shutil.copy(PACKAGE / '__init__.py', tmp / 'gnn_quant')
    env = {**os.environ, 'HOME': str(tmp), 'XDG_CONFIG_HOME': str(tmp / '.config')}
    done = subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'],
                          cwd=tmp, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return tmp / 'gnn_quant'


def python_files(folder):
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob('*.py') if '__pycache__' not in p.parts}


def test_notebooks_and_modules_are_the_same(exported):
    assert python_files(PACKAGE) - python_files(exported) == set(), (
        'modules that no notebook makes: remove them, or restore the notebook')
    assert python_files(exported) - python_files(PACKAGE) == set(), 'modules not exported: run nbdev_export'
    differ = filecmp.cmpfiles(PACKAGE, exported, sorted(python_files(exported)), shallow=False)[1]
    assert not differ, 'edited on one side only: run nbdev_export, or nbdev_update if the module is the newer one'


def test_sub_packages_are_empty():
    for p in PACKAGE.rglob('__init__.py'):
        if p.parent != PACKAGE:
            assert p.read_text() == '', f'{p.relative_to(ROOT)}: imports here would load whole stages'
    folders = {p.parent for p in PACKAGE.rglob('*.py') if '__pycache__' not in p.parts}
    assert all((f / '__init__.py').is_file() for f in folders)


def test_readme_is_the_index():
    import importlib.util
    spec = importlib.util.spec_from_file_location('readme', ROOT / '.ci/readme.py')
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert (ROOT / 'README.md').read_text(encoding='utf-8') == readme.text(NBS / 'index.ipynb'), (
        'README.md is made from nbs/index.ipynb: run .venv/bin/python .ci/readme.py')
