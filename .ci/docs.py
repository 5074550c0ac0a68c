"The notebooks as pages to browse: one HTML page each, linked in their order, and an index"
import html
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from readme import ROOT, shown


def title_of(nb): return next((m[1] for c in nb.cells if c.cell_type == 'markdown' and (m := re.search(r'^# (.+)$', c.source, flags=re.M))), 'untitled')


def subtitle_of(nb): return next((m[1] for c in nb.cells if c.cell_type == 'markdown' and (m := re.search(r'^> (.+)$', c.source, flags=re.M))), '')


def order():
    "index first, then the stages by number, then the runs and whatever explores"
    nbs = ROOT / 'nbs'
    stages, rest = sorted(nbs.glob('[0-9][0-9]_*.ipynb')), sorted(p for p in nbs.glob('*.ipynb') if not p.stem[:2].isdigit() and p.stem != 'index')
    return [nbs / 'index.ipynb', *stages, *sorted((nbs / 'runs').glob('*.ipynb')), *rest]


def page_name(path): return path.stem + '.html' if path.parent.name != 'runs' else f'run.{path.stem}.html'


def link_pages(nb):
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = re.sub(r'\]\((?!https?:)(?:\./)?(runs/)?([\w.-]+)\.ipynb', lambda m: f"]({'run.' if m[1] else ''}{m[2]}.html", c.source)
    return nb


def contents(pages):
    rows = [f'- [{title_of(nb)}]({page_name(p)}) <small>{html.escape(subtitle_of(nb))}</small>' for p, nb in pages if p.stem != 'index']
    return nbformat.v4.new_markdown_cell('## All notebooks\n\n' + '\n'.join(rows))


def neighbours(pages, i):
    say = lambda j, word: f'[{word}: {title_of(pages[j][1])}]({page_name(pages[j][0])})' if 0 < j < len(pages) else ''
    return nbformat.v4.new_markdown_cell(' &nbsp; '.join(x for x in ('[All notebooks](index.html)', say(i - 1, 'before'), say(i + 1, 'next')) if x))


def build(out):
    out.mkdir(parents=True, exist_ok=True)
    pages = [(p, link_pages(shown(p))) for p in order()]
    for i, (path, nb) in enumerate(pages):
        nb = nbformat.from_dict(dict(nb))
        nb.cells = [*nb.cells, contents(pages)] if path.stem == 'index' else [neighbours(pages, i), *nb.cells, neighbours(pages, i)]
        body, _ = HTMLExporter(embed_images=True).from_notebook_node(nb, resources=dict(metadata=dict(name=title_of(nb))))
        (out / page_name(path)).write_text(body, encoding='utf-8')
    return len(pages)


if __name__ == '__main__':
    folder = ROOT / (sys.argv[1] if len(sys.argv) > 1 else '_docs')
    print(f'{build(folder)} pages, start at {folder.relative_to(ROOT)}/index.html')
