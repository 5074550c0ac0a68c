"The exploring notebook runs from the top without a screen, its controls work, and its file keeps no trace"
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parents[1] / 'nbs/gallery/explore.ipynb'

DRIVE = '''
seen = {}
assert '<svg' in prices.value and '<svg' in edges.value and worth.value.count('<svg') == 2, 'the first pictures'
assert 'no training' in worth.value and 'SIMULATED' not in prices.value
seen['us20'] = len(names.options), len(day.options)

before = edges.value
day.value = day.options[len(day.options) // 2]
assert edges.value != before and day.value in edges.value, 'the slider of the graph'

before = prices.value
names.value = names.options[5:7]
assert prices.value != before and all(n in prices.value for n in names.value), 'the choice of symbols'

before = prices.value, worth.value
span.value = span.options[100], span.options[160]
assert prices.value != before[0] and worth.value != before[1], 'the span of dates'
span.value = span.options[0], span.options[0]
assert 'Choose a longer span' in worth.value, 'an impossible span is answered in words'
names.value = ()
assert 'No price' in prices.value

source.value = 'toy'
assert set(names.options) == set(market('toy').bars['Close']) and len(names.value) == 4
assert 'SIMULATED' in prices.value.upper() and '<svg' in edges.value and '<svg' in worth.value, 'another dataset \
refills every panel'
print(seen['us20'], len(day.options))
'''

TRAINED = '''
from types import SimpleNamespace
px = market('us20').bars['Close']
def use(ref, name): return SimpleNamespace(id='t1', params=dict(horizon=3), frames={'scores.tgat': '', \
'scores.other': '', 'book.tgat': ''})
def get_frame(run, name): return px.pct_change(20, fill_method=None) if name == 'scores.tgat' else \
px.iloc[:5].set_axis(list('ABCDEFGHIJKLMNOPQRST'), axis=1)
source.value = 'us20'
assert list(score.options) == ['tgat (train run t1)', simple], 'scores of the train run come first, those of other \
symbols not at all'
score.value = score.options[0]
assert 'tgat (train run t1): mean rank IC' in worth.value and '3 lags' in worth.value
print('trained')
'''


def run(tmp_path, *more):
    nb = nbformat.read(PATH, as_version=4)
    nb.cells += [nbformat.v4.new_code_cell(m) for m in more]
    NotebookClient(nb, timeout=300, kernel_name='python3', resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    return nb


def test_it_runs_and_its_controls_work(tmp_path):
    nb = run(tmp_path, DRIVE, TRAINED)
    assert '(20, ' in nb.cells[-2].outputs[0]['text'] and nb.cells[-1].outputs[0]['text'] == 'trained\n'
    assert not [o for c in nb.cells if c.cell_type == 'code' for o in c.outputs if o.get('name') == 'stderr']
    assert list(tmp_path.iterdir()) == [], 'nothing is written'


def test_the_file_keeps_no_trace():
    nb = nbformat.read(PATH, as_version=4)
    kept = nbformat.writes(nb)
    assert 'widget-view' not in kept and 'widgets' not in nb.metadata, (
        'clear the outputs of the cells with controls before saving')
    assert not re.search(r'0x[0-9a-f]{6,}|/home/|/root/|/tmp/|/Users/', kept)
    assert not [c for c in nb.cells
                if c.cell_type == 'code' and ('#| export' in c.source or 'default_exp' in c.source)], (
        'this notebook is no module')


def test_something_stays_visible_without_a_kernel():
    assert any('image/svg+xml' in o.get('data', {}) for c in nbformat.read(PATH, as_version=4).cells
               if c.cell_type == 'code' for o in c.outputs)
