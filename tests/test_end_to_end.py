"The run notebooks of a day as they are stored, on real prices, in a folder of their own"
import shutil

import pandas as pd
import pytest
from _notebooks import ROOT
from _runs import killed

from gnn_quant.core import StaleData
from gnn_quant.pipeline.artifacts import Features, artefact_of
from gnn_quant.pipeline.audit_run import audit_run, signals_of
from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.pipeline.daily import DAY, ExperimentRun, in_silence, run_day, run_named
from gnn_quant.pipeline.verify import verify
from gnn_quant.runs.engine import run
from gnn_quant.runs.folders import get_frame, list_runs
from gnn_quant.runs.trials import trials_so_far
from gnn_quant.settings import Settings
from gnn_quant.storage.files import catalog, read_json, write_json

QUICK = Experiment.load(str(ROOT / 'nbs/experiments/quick.toml'))
SMALL = QUICK.with_(models=[dict(name='ridge'), dict(name='tgat')], training=dict(epochs=1, jobs=1))


@pytest.fixture(scope='module')
def s(tmp_path_factory):
    home = tmp_path_factory.mktemp('day')
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports', notebooks_dir=ROOT / 'nbs/runs')


def days(e, s, **more): return {x.name: x.run for x in run_day(e, s, in_silence, **more)}


def one(name, s, **params):
    with in_silence() as say: return run_named(name, params, s, say)


@pytest.fixture(scope='module')
def day(s): return days(QUICK, s)


@pytest.fixture(scope='module')
def small(s, day):
    "Two models of little training on the same data and features, up to the backtest"
    return days(SMALL, s, until='backtest')


def bytes_of(run, *starts):
    return {p.name: p.read_bytes() for p in sorted(run.path.iterdir())
            if p.name.startswith(starts) and p.suffix != '.ipynb'}


def test_the_day_ends_in_a_page_that_can_be_verified(s, day):
    assert list(day) == list(DAY) and {r.status for r in day.values()} == {'finished'}
    for r in day.values(): assert verify(r) == [], r.name
    page = (day['tearsheet'].path / 'tearsheet.html').read_text(encoding='utf-8')
    wanted = ('Survivorship', day['backtest'].id, 'edge_free', day['ingest'].frames['bars'], '<dt>gap</dt>',
              '<dt>purge</dt>', QUICK.hash[:12])
    assert all(w in page for w in wanted) and 'http' + '://' not in page.replace('http://www.w3.org', '')
    assert day['tearsheet'].metrics['trials'] == 5
    assert day['tearsheet'].id in (s.reports_dir / 'index.html').read_text(encoding='utf-8')


def test_no_notebook_says_anything_on_stderr(day):
    for name, r in day.items():
        cells = [c for c in read_json(r.path / f'{name}.ipynb')['cells'] if c['cell_type'] == 'code']
        assert not [o for c in cells for o in c['outputs'] if o.get('name') == 'stderr'], name


def test_what_was_built_on_what(day):
    for n, above in DAY.items():
        for a in above: assert day[n].manifest['upstream'][a]['manifest'] == day[a].manifest['hash']
    assert day['train'].manifest['inputs']['bars'] == day['ingest'].frames['bars']
    assert max(day['backtest'].metrics['agreement'].values()) < 1e-4, 'currency, of a million'
    assert {r.manifest['experiment']['hash'] for r in day.values()} == {QUICK.hash}


def test_an_unchanged_day_is_reused_and_a_changed_one_from_where_it_changes(s, day, small):
    assert [x.reused for x in run_day(QUICK, s, in_silence)] == [True] * 6 + [False], 'a page counts the trials since'
    runs, trials = len(list_runs(s)), trials_so_far(s)
    again = run_day(QUICK, s, in_silence)
    assert all(x.reused for x in again) and len(list_runs(s)) == runs and trials_so_far(s) == trials
    assert [x.run.id for x in again][:6] == [r.id for r in day.values()][:6]
    dear = run_day(SMALL.set('costs.slippage_bp', 10), s, in_silence, until='backtest')
    assert [x.reused for x in dear] == [True, True, True, True, False] and trials_so_far(s) == trials + 2
    assert [small[n].id for n in ('ingest', 'features')] == [day[n].id for n in ('ingest', 'features')]
    book = small['train'].path / 'scores.ridge.parquet'
    kept = book.read_bytes()
    book.write_bytes(kept[:-1])
    try: found = run_day(SMALL, s, in_silence, until='train')[-1]
    finally: book.write_bytes(kept)
    assert not found.reused and found.run.frames == small['train'].frames


def test_a_script_gets_what_the_day_made(s, day):
    r = ExperimentRun(QUICK, run_day(QUICK, s, in_silence))
    assert list(r.scores) == [k.label for k in QUICK.lines] and r.evidence.figures['name'] == 'tgat'
    pd.testing.assert_series_equal(r.ledger['tgat'].equity, get_frame(day['backtest'], 'book.tgat')['equity'])
    assert r[Features].hash == artefact_of(Features, day['features']).hash
    assert r.page.is_file() and day['tearsheet'].metrics['verdict'] in repr(r) and '<table>' in r._repr_html_()


def test_unchanged_data_is_one_version(s, day):
    again = one('ingest', s, experiment=QUICK.to_toml())
    assert again.frames == day['ingest'].frames and len(catalog(s.data_dir)) == 1
    assert again.id != day['ingest'].id


@pytest.mark.parametrize('path, value, said', [
    ('data.wanted', '2023-01-31', 'wanted 2023-01-31'), ('data.max_age', '3 sessions', r'\d+ sessions before')])
def test_stale_data_is_refused(s, path, value, said):
    with pytest.raises(Exception, match=f'StaleData: us20: last bar 2022-12-28, {said}'):
        days(QUICK.set(path, value), s, until='ingest')
    assert list_runs(s)[0].manifest['error']['kind'] == StaleData.__name__


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(s, day, small):
    count = trials_so_far(s)
    again = days(SMALL, s, until='backtest', reuse=False)
    assert trials_so_far(s) == count, 'a repetition is no new trial'
    for name, starts in (
        ('features', ('features', 'events', 'target', 'graph')), ('train', ('scores', 'history', 'metrics')),
        ('signals', ('signals', 'weights', 'orders', 'metrics')), ('backtest', ('book', 'fills', 'metrics'))):
        a, b = bytes_of(small[name], *starts), bytes_of(again[name], *starts)
        assert len(a) >= len(starts) and a == b, name
    other = days(SMALL.set('training.seed', 1), s, until='train')['train']
    assert other.frames['scores.tgat'] != small['train'].frames['scores.tgat']
    assert other.frames['scores.ridge'] == small['train'].frames['scores.ridge'], 'nothing is random in a ridge'
    assert trials_so_far(s) == count + 2


def test_a_killed_training_goes_on_where_it_stopped(s, day, small):
    params = dict(experiment=SMALL.to_toml(), features_run=str(day['features'].path))
    dead = killed('train', params, s, lambda folder: 'tgat, seed 0, fold 2' in (folder / 'progress.log').read_text())
    assert dead.status == 'interrupted'
    again = run('train', params, s, quiet=True)
    assert again.manifest['resumed'] == dead.id and again.frames == small['train'].frames and verify(again) == []
    old, new = ({p.parent.name: p.stat().st_mtime_ns
                 for p in (r.path / 'checkpoints/seed0/tgat').glob('*/fold.json')} for r in (dead, again))
    assert len(old) >= 1 and len(new) == 4 and all(new[k] == t for k, t in old.items()), (
        'finished folds were trained again')


def test_the_past_does_not_move_when_the_future_is_cut_off(s, day, small):
    full = get_frame(day['ingest'], 'bars')
    end = full.index[-90]
    less = dict(start=f'{full.index[0]:%Y-%m-%d}', end=f'{end:%Y-%m-%d}', rows=0)
    cut = days(SMALL.with_(data=less), s, until='signals')
    for name, frame in (('features', 'features'), ('train', 'scores.tgat'), ('train', 'scores.ridge'),
                        ('signals', 'signals.tgat'), ('signals', 'weights.tgat'), ('signals', 'weights.ridge')):
        was, now = get_frame(small[name], frame).loc[:end], get_frame(cut[name], frame)
        assert now.notna().any(axis=None) and now.index[-1] == end
        pd.testing.assert_frame_equal(was, now, check_exact=True, obj=frame)


def test_several_horizons_are_learned_and_the_first_is_scored(s, day, small):
    how = SMALL.with_(models=[dict(name='tgat')], split=dict(test=10_000)).override(['target.horizons=[5, 1, 20]'])
    many = days(how, s, until='train')['train']
    design, folds = read_json(many.path / 'design.json'), get_frame(many, 'folds')
    assert [design[k] for k in ('horizon', 'horizons', 'span', 'purge', 'gap')] == [5, [5, 1, 20], 6, 21, 21]
    assert folds.shape == get_frame(small['train'], 'folds').iloc[:3].shape and verify(many) == []
    alone = days(how.set('target.horizons', []).set('split.embargo', 15), s, until='train')['train']
    assert read_json(alone.path / 'design.json')['gap'] == 21
    a, b = (get_frame(r, 'scores.tgat') for r in (many, alone))
    assert (a.notna() == b.notna()).all(axis=None) and (a != b)[a.notna()].any(axis=None), (
        'the same rows, by another network')
    for wrong, says in ((['target.horizons=[1, 5]'], 'horizon'), (['target.horizons=[5, 5]'], 'horizon')):
        with pytest.raises(Exception, match=says): how.override(wrong)
    two = how.with_(models=[dict(name='tgat'), dict(name='ridge')])
    with pytest.raises(Exception, match='ridge'): days(two, s, until='train')


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
    assert (m['sentence'] in page and 'What a pass does not prove' in page
            and all(day[n].id in page for n in ('ingest', 'features', 'train', 'signals'))
            and 'No model of this run keeps a memory' in page)
    assert all(signals_of(ref, s).id == day['signals'].id
               for ref in (day['train'].id, day['tearsheet'].id, str(day['backtest'].path)))


def test_a_run_whose_notebook_did_something_else_is_not_vouched_for(s, small, tmp_path):
    "Features scaled over all dates in the training notebook itself: they are not those of the line, and nothing passes"
    home = tmp_path / 'runs'
    shutil.copytree(ROOT / 'nbs/runs', home)
    nb = read_json(home / 'train.ipynb')
    cell = next(c for c in nb['cells'] if 'scores, runs = train_scores(' in ''.join(c['source']))
    cell['source'] = SCALED + ''.join(cell['source'])
    write_json(nb, home / 'train.ipynb')
    own = s.model_copy(update=dict(notebooks_dir=home))
    e = SMALL.with_(models=[dict(name='ridge')])
    train = one('train', own, experiment=e.to_toml(), features_run=str(small['features'].path))
    one('signals', own, train_run=str(train.path))
    how = {'evidence.audit.dates': '2', 'evidence.audit.seed': '3'}
    with in_silence() as say: a = audit_run(train.id, own, how, True, say)
    assert a.metrics['passed'] is False and a.metrics['verdict'] == a.metrics['stages']['prediction'] == 'unrepeatable'
    assert (a.metrics['sentence'].startswith('Nothing can be said of look-ahead: prediction')
            and 'banner alarm' in (a.path / 'audit.html').read_text(encoding='utf-8'))


SCALED = """from dataclasses import replace
from gnn_quant.pipeline.stages import Features
x = day.above[Features]
day.above[Features] = replace(x, frame=x.frame / x.frame.abs().max() + x.frame.mean().mean())
"""


def test_the_same_audit_gives_the_same_bytes(s, small):
    dates = [f'{t:%Y-%m-%d}' for t in get_frame(small['train'], 'scores.tgat').dropna().index[[10, 90]]]
    how = [f"evidence.audit.dates=['{dates[0]}', '{dates[1]}']", "evidence.audit.models=['tgat']"]
    a, b = (one('audit', s, overrides=how, signals_run=str(small['signals'].path)) for _ in range(2))
    assert (a.metrics['passed'] and a.frames == b.frames and a.metrics == b.metrics and a.metrics['cuts'] == dates
            and trials_so_far(s) == a.manifest['trial']), 'an audit is no trial'
    with pytest.raises(Exception, match='1990-01-02 is no row of a test block'):
        one('audit', s, overrides=["evidence.audit.dates=['1990-01-02']"], signals_run=str(small['signals'].path))
