"What the tests know about notebooks: their kinds, their numbers, and the measures of the house style"
import ast
import json
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
NBS = ROOT / 'nbs'
PACKAGE = ROOT / 'gnn_quant'
DIRECTIVE = re.compile(r'^\s*#\s*\|\s*(\w+):?\s*(.*?)\s*$')


def all_notebooks(): return sorted(p for p in NBS.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


def kind_of(path):
    "'run', 'plain' or 'module': told by the place and the name alone"
    if path.parent == NBS / 'runs': return 'run'
    if path.parent in (NBS, NBS / 'gallery'): return 'plain'
    return 'module'


def module_notebooks(): return [p for p in all_notebooks() if kind_of(p) == 'module']


def name_of(path): return path.relative_to(NBS).as_posix()


@cache
def cells_of(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def source_of(cell): return cell['source'] if isinstance(cell['source'], str) else ''.join(cell['source'])


def directives_of(cell):
    "{'export': '', 'default_exp': 'core'} of a code cell"
    if cell['cell_type'] != 'code': return {}
    return dict(m.groups() for line in source_of(cell).splitlines() if (m := DIRECTIVE.match(line)))


def is_export(cell): return bool(directives_of(cell).keys() & {'export', 'exports', 'exporti'})


def is_hidden(cell): return 'hide' in directives_of(cell)


def default_exp(path):
    return next((d['default_exp'] for c in cells_of(path) if 'default_exp' in (d := directives_of(c))), None)


def number_of(path):
    "The layer of a module notebook: the number of the folder below nbs that it lies in"
    return int(m[1]) if (m := re.match(r'(\d\d)_', path.relative_to(NBS).parts[0])) else None


def module_of(path):
    "The module that the place of a notebook asks for: nbs/10_data/sources/folder.ipynb is data.sources.folder"
    stage, *rest = path.relative_to(NBS).with_suffix('').parts
    return rest[0] if stage[3:] in (rest[0], 'base') and len(rest) == 1 else '.'.join([stage[3:], *rest])


def module_file(exp): return PACKAGE / (exp.replace('.', '/') + '.py')


def tags_of(cell): return cell.get('metadata', {}).get('tags', [])


def tree_of(cell):
    "The cell's syntax; IPython lines (% and !) are left out"
    return ast.parse('\n'.join('' if line.lstrip().startswith(('%', '!')) else line
                               for line in source_of(cell).splitlines()))


def _defs(cell): return [n for n in ast.walk(tree_of(cell)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _docstring(node):
    first = node.body[0] if node.body else None
    return (first if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str) else None)


def body_lines(node):
    rest = node.body[1:] if _docstring(node) else node.body
    return rest[-1].end_lineno - rest[0].lineno + 1 if rest else 0


SECTIONS = re.compile(r'^[ ]*(Parameters|Returns|Yields|Raises|Attributes|Examples|References|Notes)\n[ ]*-{3,}[ '
                      r']*$', re.M)


def _docstrings(tree):
    "(is numpydoc of a public name, lines) of each docstring of functions and classes"
    nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    docs = [(n, d) for n in nodes if (d := _docstring(n))]
    numpydoc = lambda n, d: not n.name.startswith('_') and bool(SECTIONS.search(d.value.value))
    return [(numpydoc(n, d), d.end_lineno - d.lineno + 1) for n, d in docs]


def docstring_lines(cell):
    "The longest docstring of the cell's functions and classes that is no numpydoc page of an entry point, in lines"
    return max((lines for entry, lines in _docstrings(tree_of(cell)) if not entry), default=0)


def entry_lines(cell):
    "The longest numpydoc docstring of the cell, in lines"
    return max((lines for entry, lines in _docstrings(tree_of(cell)) if entry), default=0)


def numpydoc_lines(tree):
    "All lines of numpydoc docstrings: neither a cell nor a module grows by them"
    return sum(lines for entry, lines in _docstrings(tree) if entry)


def cell_lines(cell): return len(code_lines(cell)) - numpydoc_lines(tree_of(cell))


def module_lines(file):
    text = file.read_text(encoding='utf-8')
    return len(text.splitlines()) - numpydoc_lines(ast.parse(text))


def code_lines(cell): return [x for x in source_of(cell).strip().splitlines() if not DIRECTIVE.match(x)]


NESTS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


def nesting(node):
    "The deepest nesting of comprehensions and lambdas below a statement, the statements inside it left to themselves"
    below = [nesting(n) for n in ast.iter_child_nodes(node) if not isinstance(n, ast.stmt)]
    return isinstance(node, NESTS) + max(below, default=0)


def deep_statements(tree, most=2):
    "(line, levels) of each statement with more levels of comprehensions and lambdas than `most`"
    return [(n.lineno, d) for n in ast.walk(tree) if isinstance(n, ast.stmt) and (d := nesting(n)) > most]


def wide_lines(text, most=120):
    "(line, width) of each line wider than `most`"
    return [(i, len(x)) for i, x in enumerate(text.splitlines(), 1) if len(x) > most]


def form_faults(text, tree):
    "What is too wide or nested too deep in a cell or a file"
    return ([f'line {i}: {w} wide, at most 120' for i, w in wide_lines(text)]
            + [f'line {i}: {d} levels of comprehensions or lambdas, at most 2' for i, d in deep_statements(tree)])


def notebook_faults(path):
    "The same for the code cells of a notebook, each with its cell"
    code = [c for c in cells_of(path) if c['cell_type'] == 'code']
    return [f"cell {c['id']}, {fault}" for c in code for fault in form_faults(source_of(c), tree_of(c))]


def shows(cell): return any(o['output_type'] in ('execute_result', 'display_data', 'stream') for o in cell['outputs'])


def measure(path):
    "One line of the table: what STYLE's budget is about, for one notebook"
    cells = cells_of(path)
    code = [c for c in cells if c['cell_type'] == 'code']
    exported = [c for c in code if is_export(c)]
    examples = [c for c in code if not is_export(c) and not is_hidden(c) and 'default_exp' not in directives_of(c)
                and not only_imports(c)]
    bodies = sorted(body_lines(f) for c in exported for f in _defs(c))
    lines = [x for c in code for x in code_lines(c)]
    exp = default_exp(path)
    return dict(
        cells=len(cells), prose=sum(c['cell_type'] == 'markdown' for c in cells) / max(1, len(cells)),
        hidden=sum(map(is_hidden, code)) / max(1, len(cells)), examples=len(examples),
        shown=sum(map(shows, examples)) / max(1, len(examples)), cell=max(map(cell_lines, exported), default=0),
        body=bodies[-1] if bodies else 0, body_p90=bodies[int(.9 * (len(bodies) - 1))] if bodies else 0,
        body_mid=bodies[len(bodies) // 2] if bodies else 0, doc=max(map(docstring_lines, exported), default=0),
        entry=max(map(entry_lines, exported), default=0),
        wide=max((len(x) for c in code for x in source_of(c).splitlines()), default=0),
        nested=max((nesting(n) for c in code for n in ast.walk(tree_of(c)) if isinstance(n, ast.stmt)), default=0),
        comments=sum(x.lstrip().startswith('#') for x in lines) / max(1, len(lines)),
        module=module_lines(module_file(exp)) if exp and module_file(exp).is_file() else 0)


def only_imports(cell):
    body = tree_of(cell).body
    return bool(body) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)


def table():
    "The budget table as text, one line a notebook"
    rows = [(name_of(p), kind_of(p), measure(p)) for p in all_notebooks()]
    if not rows: return 'no notebooks'
    wide = max(len(n) for n, _, _ in rows)
    heads = list(rows[0][2])
    show = lambda v: f'{v:.0%}' if isinstance(v, float) else str(v)
    lines = [f"{'notebook':{wide}}  kind    " + ' '.join(f'{h:>8}' for h in heads)]
    return '\n'.join(lines
                     + [f'{n:{wide}}  {k:6}  ' + ' '.join(f'{show(v):>8}' for v in m.values()) for n, k, m in rows])
