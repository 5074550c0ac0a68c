"The five run notebooks as they are stored, on real prices, in a folder of their own"
import pandas as pd
import pytest
from _notebooks import ROOT
from _runs import killed

from gnn_quant.core import StaleData
from gnn_quant.runs.daily import STAGES
from gnn_quant.runs.engine import run
from gnn_quant.runs.folders import get_frame, list_runs
from gnn_quant.runs.parameters import check_params, parameters
from gnn_quant.runs.trials import trials_so_far
from gnn_quant.runs.verify import verify
from gnn_quant.settings import Settings
from gnn_quant.store import catalog, read_json

SMALL = dict(models=['ridge', 'tgat'], epochs=1)


@pytest.fixture(scope='module')
def s(tmp_path_factory):
    home = tmp_path_factory.mktemp('day')
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports', notebooks_dir=ROOT / 'nbs/runs')


@pytest.fixture(scope='module')
def day(s):
    "All five with the parameters that are stored in them"
    return {name: run(name, {}, s, quiet=True) for name in STAGES}


@pytest.fixture(scope='module')
def small(s, day):
    "Two models of little training on the same data, up to the backtest"
    return chain(s, day['ingest'])


def chain(s, ingest, to=3, **params):
    out = [ingest]
    for name, more in [('train', SMALL | params), ('signals', {}), ('backtest', {})][:to]:
        out.append(run(name, more | {f'{out[-1].name}_run': str(out[-1].path)}, s, quiet=True))
    return {r.name: r for r in out}


def bytes_of(run, *starts): return {p.name: p.read_bytes() for p in sorted(run.path.iterdir()) if p.name.startswith(starts) and p.suffix != '.ipynb'}


def test_the_day_ends_in_a_page_that_can_be_verified(s, day):
    assert [r.status for r in day.values()] == ['finished'] * 5
    for r in day.values(): assert verify(r) == [], r.name
    page = (day['tearsheet'].path / 'tearsheet.html').read_text(encoding='utf-8')
    assert all(w in page for w in ('Survivorship', day['backtest'].id, 'edge_free', day['ingest'].frames['bars'], '<dt>gap</dt>', '<dt>purge</dt>')) and 'http' + '://' not in page.replace('http://www.w3.org', '')
    assert day['tearsheet'].metrics['trials'] == 4 and day['tearsheet'].id in (s.reports_dir / 'index.html').read_text(encoding='utf-8')


def test_no_notebook_says_anything_on_stderr(day):
    for name, r in day.items():
        outputs = [o for c in read_json(r.path / f'{name}.ipynb')['cells'] if c['cell_type'] == 'code' for o in c['outputs']]
        assert not [o for o in outputs if o.get('name') == 'stderr'], name


def test_what_was_built_on_what(day):
    assert all(r.manifest['upstream'][a]['manifest'] == day[a].manifest['hash'] for a, r in zip(STAGES, list(day.values())[1:]))
    assert day['train'].manifest['inputs']['bars'] == day['ingest'].frames['bars']
    assert max(day['backtest'].metrics['agreement'].values()) < 1e-4, 'currency, of a million'


def test_unchanged_data_is_one_version(s, day):
    again = run('ingest', {}, s, quiet=True)
    assert again.frames == day['ingest'].frames and len(catalog(s.data_dir)) == 1
    assert again.id != day['ingest'].id


def test_stale_data_is_refused(s):
    with pytest.raises(Exception, match='StaleData: us20: last bar 2022-12-28, wanted 2023-01-31'): run('ingest', dict(wanted='2023-01-31'), s, quiet=True)
    assert list_runs(s)[0].manifest['error']['kind'] == StaleData.__name__


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(s, day, small):
    count = trials_so_far(s)
    again = chain(s, day['ingest'])
    assert trials_so_far(s) == count, 'a repetition is no new trial'
    for name, starts in (('train', ('scores', 'history', 'metrics', 'graph')), ('signals', ('signals', 'weights', 'orders', 'metrics')), ('backtest', ('book', 'fills', 'metrics'))):
        a, b = bytes_of(small[name], *starts), bytes_of(again[name], *starts)
        assert len(a) >= len(starts) and a == b, name
    other = chain(s, day['ingest'], to=1, seed=1)
    assert other['train'].frames['scores.tgat'] != small['train'].frames['scores.tgat']
    assert other['train'].frames['scores.ridge'] == small['train'].frames['scores.ridge'], 'nothing is random in a ridge'
    assert trials_so_far(s) == count + 2


def test_a_killed_training_goes_on_where_it_stopped(s, day, small):
    at = 'tgat: fold 2 of 4'
    dead = killed('train', SMALL | dict(ingest_run=str(day['ingest'].path)), s, lambda folder: at in (folder / 'progress.log').read_text())
    assert dead.status == 'interrupted'
    again = chain(s, day['ingest'], to=1)['train']
    assert again.manifest['resumed'] == dead.id and again.frames == small['train'].frames and verify(again) == []
    old, new = ({p.parent.name: p.stat().st_mtime_ns for p in (r.path / 'checkpoints/seed0/tgat').glob('*/fold.json')} for r in (dead, again))
    assert len(old) >= 1 and len(new) == 4 and all(new[k] == t for k, t in old.items()), 'finished folds were trained again'


def test_the_past_does_not_move_when_the_future_is_cut_off(s, day, small):
    full = get_frame(day['ingest'], 'bars')
    end = full.index[-90]
    short = run('ingest', dict(start=f'{full.index[0]:%Y-%m-%d}', end=f'{end:%Y-%m-%d}', rows=0), s, quiet=True)
    cut = chain(s, short, to=2)
    for name, frame in (('train', 'scores.tgat'), ('train', 'scores.ridge'), ('signals', 'signals.tgat'), ('signals', 'weights.tgat'), ('signals', 'weights.ridge')):
        was, now = get_frame(small[name], frame).loc[:end], get_frame(cut[name], frame)
        assert now.notna().any(axis=None) and now.index[-1] == end
        pd.testing.assert_frame_equal(was, now, check_exact=True, obj=frame)


def test_several_horizons_are_learned_and_the_first_is_scored(s, day, small):
    typed = check_params(parameters(ROOT / 'nbs/runs/train.ipynb'), dict(horizons='[5, 1, 20]'), text=True)
    how = SMALL | dict(models=['tgat'], horizons=typed['horizons'], test_rows=10_000, ingest_run=str(day['ingest'].path))
    many = run('train', how, s, quiet=True)
    design, folds = read_json(many.path / 'design.json'), get_frame(many, 'folds')
    assert (design['horizon'], design['horizons'], design['span'], design['purge'], design['gap']) == (5, [5, 1, 20], 6, 21, 21) and many.metrics['horizons'] == [5, 1, 20]
    assert folds.shape == get_frame(small['train'], 'folds').iloc[:3].shape and verify(many) == []
    alone = run('train', how | dict(horizons=[], embargo=15), s, quiet=True)
    assert 'horizons' not in alone.metrics and read_json(alone.path / 'design.json')['gap'] == 21
    a, b = (get_frame(r, 'scores.tgat') for r in (many, alone))
    assert (a.notna() == b.notna()).all(axis=None) and (a != b)[a.notna()].any(axis=None), 'the same rows, by another network'
    for wrong, says in ((dict(horizons=[1, 5]), 'begins with 1, and horizon=5'), (dict(models=['tgat', 'ridge']), 'ridge can learn only one'), (dict(horizons=[5, 5]), 'horizon 5 comes twice')):
        with pytest.raises(Exception, match=says): run('train', how | wrong, s, quiet=True)
