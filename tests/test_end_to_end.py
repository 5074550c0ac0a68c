"The six run notebooks of a day as they are stored, on real prices, in a folder of their own"
import shutil

import pandas as pd
import pytest
from _notebooks import ROOT
from _runs import killed

from gnn_quant.core import StaleData
from gnn_quant.pipeline.daily import STAGES, in_silence
from gnn_quant.runs.engine import run
from gnn_quant.runs.folders import get_frame, list_runs
from gnn_quant.pipeline.stages import audit_run, signals_of
from gnn_quant.runs.parameters import check_params, parameters
from gnn_quant.runs.trials import trials_so_far
from gnn_quant.pipeline.verify import verify
from gnn_quant.settings import Settings
from gnn_quant.storage.files import catalog, read_json, write_json

SMALL = dict(models=['ridge', 'tgat'], epochs=1)


@pytest.fixture(scope='module')
def s(tmp_path_factory):
    home = tmp_path_factory.mktemp('day')
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports', notebooks_dir=ROOT / 'nbs/runs')


@pytest.fixture(scope='module')
def day(s):
    "All six with the parameters that are stored in them"
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


def bytes_of(run, *starts):
    return {p.name: p.read_bytes() for p in sorted(run.path.iterdir())
            if p.name.startswith(starts) and p.suffix != '.ipynb'}


def test_the_day_ends_in_a_page_that_can_be_verified(s, day):
    assert [r.status for r in day.values()] == ['finished'] * 6
    for r in day.values(): assert verify(r) == [], r.name
    page = (day['tearsheet'].path / 'tearsheet.html').read_text(encoding='utf-8')
    assert (all(w in page for w in ('Survivorship', day['backtest'].id, 'edge_free', day['ingest'].frames['bars'],
                                    '<dt>gap</dt>', '<dt>purge</dt>'))
            and 'http' + '://' not in page.replace('http://www.w3.org', ''))
    assert (day['tearsheet'].metrics['trials'] == 5
            and day['tearsheet'].id in (s.reports_dir / 'index.html').read_text(encoding='utf-8'))


def test_no_notebook_says_anything_on_stderr(day):
    for name, r in day.items():
        outputs = [o for c in read_json(r.path / f'{name}.ipynb')['cells'] if c['cell_type'] == 'code'
                   for o in c['outputs']]
        assert not [o for o in outputs if o.get('name') == 'stderr'], name


def test_what_was_built_on_what(day):
    above = dict(train='ingest', signals='train', backtest='signals', audit='signals', tearsheet='backtest')
    assert all(day[n].manifest['upstream'][a]['manifest'] == day[a].manifest['hash'] for n, a in above.items())
    assert day['train'].manifest['inputs']['bars'] == day['ingest'].frames['bars']
    assert max(day['backtest'].metrics['agreement'].values()) < 1e-4, 'currency, of a million'


def test_unchanged_data_is_one_version(s, day):
    again = run('ingest', {}, s, quiet=True)
    assert again.frames == day['ingest'].frames and len(catalog(s.data_dir)) == 1
    assert again.id != day['ingest'].id


def test_stale_data_is_refused(s):
    with pytest.raises(Exception, match='StaleData: us20: last bar 2022-12-28, wanted 2023-01-31'):
        run('ingest', dict(wanted='2023-01-31'), s, quiet=True)
    assert list_runs(s)[0].manifest['error']['kind'] == StaleData.__name__


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(s, day, small):
    count = trials_so_far(s)
    again = chain(s, day['ingest'])
    assert trials_so_far(s) == count, 'a repetition is no new trial'
    for name, starts in (('train', ('scores', 'history', 'metrics', 'graph')),
                         ('signals', ('signals', 'weights', 'orders', 'metrics')),
                         ('backtest', ('book', 'fills', 'metrics'))):
        a, b = bytes_of(small[name], *starts), bytes_of(again[name], *starts)
        assert len(a) >= len(starts) and a == b, name
    other = chain(s, day['ingest'], to=1, seed=1)
    assert other['train'].frames['scores.tgat'] != small['train'].frames['scores.tgat']
    assert other['train'].frames['scores.ridge'] == small['train'].frames['scores.ridge'], (
        'nothing is random in a ridge')
    assert trials_so_far(s) == count + 2


def test_a_killed_training_goes_on_where_it_stopped(s, day, small):
    at = 'tgat: fold 2 of 4'
    dead = killed('train', SMALL | dict(ingest_run=str(day['ingest'].path)), s,
                  lambda folder: at in (folder / 'progress.log').read_text())
    assert dead.status == 'interrupted'
    again = chain(s, day['ingest'], to=1)['train']
    assert again.manifest['resumed'] == dead.id and again.frames == small['train'].frames and verify(again) == []
    old, new = ({p.parent.name: p.stat().st_mtime_ns
                 for p in (r.path / 'checkpoints/seed0/tgat').glob('*/fold.json')} for r in (dead, again))
    assert len(old) >= 1 and len(new) == 4 and all(new[k] == t for k, t in old.items()), (
        'finished folds were trained again')


def test_the_past_does_not_move_when_the_future_is_cut_off(s, day, small):
    full = get_frame(day['ingest'], 'bars')
    end = full.index[-90]
    short = run('ingest', dict(start=f'{full.index[0]:%Y-%m-%d}', end=f'{end:%Y-%m-%d}', rows=0), s, quiet=True)
    cut = chain(s, short, to=2)
    for name, frame in (('train', 'scores.tgat'), ('train', 'scores.ridge'), ('signals', 'signals.tgat'),
                        ('signals', 'weights.tgat'), ('signals', 'weights.ridge')):
        was, now = get_frame(small[name], frame).loc[:end], get_frame(cut[name], frame)
        assert now.notna().any(axis=None) and now.index[-1] == end
        pd.testing.assert_frame_equal(was, now, check_exact=True, obj=frame)


def test_several_horizons_are_learned_and_the_first_is_scored(s, day, small):
    typed = check_params(parameters(ROOT / 'nbs/runs/train.ipynb'), dict(horizons='[5, 1, 20]'), text=True)
    how = SMALL | dict(models=['tgat'], horizons=typed['horizons'], test_rows=10_000,
                       ingest_run=str(day['ingest'].path))
    many = run('train', how, s, quiet=True)
    design, folds = read_json(many.path / 'design.json'), get_frame(many, 'folds')
    assert (design['horizon'], design['horizons'], design['span'], design['purge'], design['gap']) == (
        5, [5, 1, 20], 6, 21, 21) and many.metrics['horizons'] == [5, 1, 20]
    assert folds.shape == get_frame(small['train'], 'folds').iloc[:3].shape and verify(many) == []
    alone = run('train', how | dict(horizons=[], embargo=15), s, quiet=True)
    assert 'horizons' not in alone.metrics and read_json(alone.path / 'design.json')['gap'] == 21
    a, b = (get_frame(r, 'scores.tgat') for r in (many, alone))
    assert (a.notna() == b.notna()).all(axis=None) and (a != b)[a.notna()].any(axis=None), (
        'the same rows, by another network')
    for wrong, says in ((dict(horizons=[1, 5]), 'begins with 1, and horizon=5'),
                        (dict(models=['tgat', 'ridge']), 'ridge can learn only one'),
                        (dict(horizons=[5, 5]), 'horizon 5 comes twice')):
        with pytest.raises(Exception, match=says): run('train', how | wrong, s, quiet=True)


# ---- the audit

def test_the_audit_of_the_day_finds_nothing_and_says_what_it_asked(s, day):
    a = day['audit']
    table, m = get_frame(a, 'audit'), a.metrics
    assert m['passed'] is True and (table == 'same').all(axis=None) and m['stages'] == {
        k: 'same' for k in table.index} and len(m['cuts']) == 3 and m['found'] == 0 and m['findings'] == []
    assert (list(table.index) == ['features', 'edges', 'sampler', 'prediction', 'signal', 'weights']
            and list(table) == m['cuts'] and len(get_frame(a, 'findings')) == 0)
    ties = get_frame(a, 'attention')
    assert (list(ties) == ['date', 'asker', 'neighbour', 'relation', 'weight', 'age']
            and set(m['cuts']) <= set(ties['date'].dt.strftime('%Y-%m-%d')) and ties['weight'].between(0, 1).all())
    assert {'1', '100', 'where'} == set(get_frame(a, 'warmup')) and (a.path / 'audit.html').stat().st_size < 50_000
    page = (a.path / 'audit.html').read_text(encoding='utf-8')
    assert m['sentence'] in page and 'What a pass does not prove' in page and all(
        day[n].id in page for n in ('ingest', 'train', 'signals')) and 'No model of this run keeps a memory' in page
    assert all(signals_of(ref, s).id == day['signals'].id
               for ref in (day['train'].id, day['tearsheet'].id, str(day['backtest'].path)))


def test_a_run_whose_notebook_did_something_else_is_not_vouched_for(s, small, tmp_path):
    "Features scaled over all dates in the training notebook itself: they are not those of the line, and nothing passes"
    home = tmp_path / 'runs'
    shutil.copytree(ROOT / 'nbs/runs', home)
    nb = read_json(home / 'train.ipynb')
    cell = next(c for c in nb['cells'] if 'x, ys = line_features' in ''.join(c['source']))
    cell['source'] = ''.join(cell['source']).replace('y, span = ys[0], span_of(ys)',
                                                     'x = x / x.abs().max()\ny, span = ys[0], span_of(ys)')
    write_json(nb, home / 'train.ipynb')
    own = s.model_copy(update=dict(notebooks_dir=home))
    train = run('train', dict(models=['ridge'], ingest_run=str(small['ingest'].path)), own, quiet=True)
    run('signals', dict(train_run=str(train.path)), own, quiet=True)
    with in_silence() as say: a = audit_run(train.id, own, dict(cuts='2', seed='3'), True, say)
    assert (a.metrics['passed'] is False
            and a.metrics['verdict'] == a.metrics['stages']['features'] == 'unrepeatable' and a.params['cuts'] == 2)
    assert (a.metrics['sentence'].startswith('Nothing can be said of look-ahead: features')
            and 'banner alarm' in (a.path / 'audit.html').read_text(encoding='utf-8'))


def test_the_same_audit_gives_the_same_bytes(s, small):
    dates = [f'{t:%Y-%m-%d}' for t in get_frame(small['train'], 'scores.tgat').dropna().index[[10, 90]]]
    a, b = (run('audit', dict(dates=dates, models=['tgat'], signals_run=str(small['signals'].path)), s, quiet=True)
            for _ in range(2))
    assert (a.metrics['passed'] and a.frames == b.frames and a.metrics == b.metrics and a.metrics['cuts'] == dates
            and trials_so_far(s) == a.manifest['trial']), 'an audit is no trial'
    with pytest.raises(Exception, match='1990-01-02 is no row of a test block'):
        run('audit', dict(dates=['1990-01-02'], signals_run=str(small['signals'].path)), s, quiet=True)
