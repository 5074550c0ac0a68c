"README.md is made from nbs/index.ipynb: run this after the notebook was changed"
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r'^\s*#\s*\|.*\n?', flags=re.M)


def shown(path):
    "A notebook without its `#| hide` cells and directive lines, ready for nbconvert"
    nb = nbformat.read(path, as_version=4)
    nb.cells = [c for c in nb.cells if not re.search(r'^\s*#\s*\|\s*hide\b', c.source, flags=re.M)]
    for c in nb.cells:
        if c.cell_type == 'code': c.source = DIRECTIVE.sub('', c.source)
    nb.cells = [c for c in nb.cells if c.source.strip()]
    nb.metadata['language_info'] = dict(name='python')
    return nb


def text(path):
    "The notebook as Markdown; links to notebooks keep working on a code host"
    body, _ = MarkdownExporter().from_notebook_node(shown(path))
    body = re.sub(r'\]\((?!https?:|#|/|\.\./)([\w./-]+\.ipynb)', r'](nbs/\1', body).replace('](../', '](')
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(line.rstrip() for line in body.splitlines())).strip() + '\n'


if __name__ == '__main__':
    out = ROOT / 'README.md'
    new = text(ROOT / 'nbs/index.ipynb')
    if not out.is_file() or out.read_text(encoding='utf-8') != new: out.write_text(new, encoding='utf-8')
    sys.stdout.write(f'{out.name}: {len(new.splitlines())} lines\n')
