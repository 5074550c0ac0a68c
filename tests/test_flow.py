"Imports point one way: from a room to rooms with a lower number, and never round in a circle"
import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest
from _notebooks import (PACKAGE, cells_of, default_exp, kind_of, all_notebooks, module_file, module_notebooks,
                        module_of, name_of, number_of, tree_of)

NUMBER = {default_exp(p): number_of(p) for p in module_notebooks() if default_exp(p)}


def resolve(dotted, known):
    "The longest known module that a dotted name under gnn_quant stands for, or None for the bare package"
    parts = [] if dotted == 'gnn_quant.__version__' else dotted.split('.')[1:]
    for n in range(len(parts), 0, -1):
        if '.'.join(parts[:n]) in known: return '.'.join(parts[:n])
    return '.'.join(parts) if parts else None


def imports(tree, known, module=''):
    "Modules of gnn_quant that a syntax tree imports anywhere, inside functions and by importlib or need() too"
    found = set()
    for n in ast.walk(tree):
        names = []
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            base = ['gnn_quant', *module.split('.')][:-n.level] if n.level else []
            if n.level and not module: found.add('a relative import')
            names = (['.'.join([*base, *([n.module] if n.module else []), a.name]) for a in n.names]
                     if module or not n.level else [])
        elif (isinstance(n, ast.Call)
              and getattr(n.func, 'attr', getattr(n.func, 'id', '')) in ('import_module', '__import__', 'need')):
            names = [a.value for a in n.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        found |= {m for x in names if x.split('.')[0] == 'gnn_quant' and (m := resolve(x, known))}
    return found


# `from gnn_quant import Experiment` is an import of pipeline.experiment
ENTRY_POINTS = __import__('gnn_quant')._LAZY


@cache
def graph():
    return {m: imports(ast.parse(module_file(m).read_text(encoding='utf-8')), NUMBER, m) for m in NUMBER
            if module_file(m).is_file()}


def violations(module, found, number):
    "What is wrong with what a module imports, in words"
    out = [f'{module} ({number[module]}) imports {m}, which no notebook makes' for m in found if m not in number]
    return out + [f'{module} ({number[module]}) imports {m} ({number[m]})' for m in found
                  if m in number and m != module and number[m] > number[module]]


@pytest.mark.parametrize('path', module_notebooks(), ids=name_of)
def test_number_and_module_agree(path):
    "nbs/NN_stage/topic.ipynb makes stage.topic; one module, one notebook"
    assert number_of(path) is not None, f'{name_of(path)}: no number. Put it in a folder NN_stage.'
    assert default_exp(path) == module_of(path), (
        f'{name_of(path)} exports {default_exp(path)}. Name the one after the other.')
    assert [default_exp(p) for p in module_notebooks()].count(default_exp(path)) == 1


@pytest.mark.parametrize('module', sorted(NUMBER))
def test_imports_come_from_lower_numbers(module):
    assert module_file(module).is_file(), f'{module}: not exported. Run nbdev_export.'
    found = graph()[module]
    assert module not in found, f'{module} imports itself'
    assert not violations(module, found, NUMBER)


def test_no_circles():
    try: tuple(TopologicalSorter(graph()).static_order())
    except CycleError as e: pytest.fail('imports in a circle: ' + ' -> '.join(e.args[1]))


@pytest.mark.parametrize('path', all_notebooks(), ids=name_of)
def test_cells_import_from_lower_numbers_too(path):
    "Example cells as well; and no notebook imports the module it makes"
    found = set().union(*[imports(tree_of(c), NUMBER) for c in cells_of(path) if c['cell_type'] == 'code'])
    found = {ENTRY_POINTS.get(m, m) for m in found}
    assert not (unknown := found - set(NUMBER)), f'{name_of(path)} imports {unknown}, which no notebook makes'
    if kind_of(path) != 'module': return
    own = default_exp(path)
    assert own not in found, (
        f'{name_of(path)} imports its own module: '
        'the class in the kernel and the class in the file are two classes')
    assert not violations(own, found, NUMBER)


def test_package_start_imports_nothing():
    tree = ast.parse((PACKAGE / '__init__.py').read_text(encoding='utf-8'))
    assert not [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]


def test_entry_points_are_imported_when_they_are_asked_for():
    import gnn_quant
    for name, module in gnn_quant._LAZY.items():
        assert module in NUMBER and getattr(gnn_quant, name).__name__ == name
    with pytest.raises(AttributeError, match='Experiment'): gnn_quant.NoSuchName
    code = ("import sys; from gnn_quant import Experiment; Experiment(); "
            "print('torch' in sys.modules, 'numba' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['False', 'False']


def test_the_check_sees_every_way_of_importing():
    known = {'core': 0, 'data.bars': 10, 'cli': 98}
    for text in ('from gnn_quant.cli import main', 'import gnn_quant.cli as c', 'from gnn_quant import cli',
                 'def f():\n    from gnn_quant import cli',
                 "def f():\n    return importlib.import_module('gnn_quant.cli')", "need('gnn_quant.cli', 'serve')"):
        found = imports(ast.parse(text), known)
        assert found == {'cli'} and violations('core', found, known) == ['core (0) imports cli (98)'], text
    assert (imports(ast.parse('from gnn_quant.data.bars import returns\nfrom gnn_quant.data import bars'), known)
            == {'data.bars'})
    assert imports(ast.parse('from .core import need'), known) == {'a relative import'}
    assert (imports(ast.parse('from ..core import need\nfrom .bars import returns'), known, 'data.bundle')
            == {'core', 'data.bars'})
    assert imports(ast.parse('from . import cli'), known, 'core') == {'cli'}
    assert violations('core', {'gone'}, known) == ['core (0) imports gone, which no notebook makes']
