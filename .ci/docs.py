"The notebooks as pages to browse: one HTML page each, linked in their order, and an index"
import html
import os
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from readme import ROOT, shown


def title_of(nb):
    return next((m[1] for c in nb.cells
                 if c.cell_type == 'markdown' and (m := re.search(r'^# (.+)$', c.source, flags=re.M))), 'untitled')


def subtitle_of(nb):
    return next((m[1] for c in nb.cells
                 if c.cell_type == 'markdown' and (m := re.search(r'^> (.+)$', c.source, flags=re.M))), '')


def order():
    "index first, then the rooms by number, then the runs and the gallery"
    nbs = ROOT / 'nbs'
    pages = [p for folder in ('[0-9][0-9]_*', 'runs', 'gallery') for p in sorted(nbs.glob(f'{folder}/**/*.ipynb'))
             if '.ipynb_checkpoints' not in p.parts]
    return [nbs / 'index.ipynb', *pages]


def page_name(path): return '.'.join(path.relative_to(ROOT / 'nbs').with_suffix('').parts) + '.html'


def link_pages(nb, path):
    "Links between notebooks become links between their pages"
    def page(m): return '](' + page_name(Path(os.path.normpath(path.parent / m[1]))) + ')'
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = re.sub(r'\]\((?!https?:)([\w./-]+\.ipynb)\)', page, c.source)
    return nb


def contents(pages):
    rows = [f'- [{title_of(nb)}]({page_name(p)}) <small>{html.escape(subtitle_of(nb))}</small>' for p, nb in pages
            if p.stem != 'index']
    return nbformat.v4.new_markdown_cell('## All notebooks\n\n' + '\n'.join(rows))


def neighbours(pages, i):
    say = lambda j, word: f'[{word}: {title_of(pages[j][1])}]({page_name(pages[j][0])})' if 0 < j < len(pages) else ''
    return nbformat.v4.new_markdown_cell(
        ' &nbsp; '.join(x for x in ('[All notebooks](index.html)', say(i - 1, 'before'), say(i + 1, 'next')) if x))


def build(out):
    out.mkdir(parents=True, exist_ok=True)
    pages = [(p, link_pages(shown(p), p)) for p in order()]
    for i, (path, nb) in enumerate(pages):
        nb = nbformat.from_dict(dict(nb))
        nb.cells = ([*nb.cells, contents(pages)] if path.stem == 'index'
                    else [neighbours(pages, i), *nb.cells, neighbours(pages, i)])
        body, _ = HTMLExporter(embed_images=True).from_notebook_node(
            nb, resources=dict(metadata=dict(name=title_of(nb))))
        (out / page_name(path)).write_text(body, encoding='utf-8')
    return len(pages)


if __name__ == '__main__':
    folder = ROOT / (sys.argv[1] if len(sys.argv) > 1 else '_docs')
    print(f'{build(folder)} pages, start at {folder.relative_to(ROOT)}/index.html')
