"A search that is killed, pruned, fails or is given a bent future: what it chooses, and what is counted"
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gnn_quant.core import (BadData, BadParams, CheckpointMismatch, JournalBroken, LookAhead, MissingExtra, bend,
                            toy_symbols)
from gnn_quant.data.target import Target
from gnn_quant.storage.journal import read, verify_chain
from gnn_quant.training.walk_forward import make_folds
from gnn_quant.pipeline import search as module
from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.pipeline.daily import in_silence, run_day
from gnn_quant.runs.engine import run
from gnn_quant.runs.folders import get_frame
from gnn_quant.pipeline.search import Plan, check_untouched, inner_blocks, make_task, read_fixed, read_space, search
from gnn_quant.runs.trials import counted, journal_path, trials_so_far
from gnn_quant.settings import Settings
from gnn_quant.storage.files import read_json

PLAN = Plan('mlp', ('width=4|8', 'schedule.lr=0.001..0.01 log', 'dropout=0.0..0.5'), 4,
            {'schedule.epochs': 2, 'schedule.batch_rows': 16}, blocks=2)


def place(home):
    return Settings(data_dir=home / 'data', reports_dir=home / 'reports',
                    notebooks_dir=Path(__file__).parents[1] / 'nbs/runs')


def panel(n=5, t=120, seed=0):
    rng, idx, names = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=t, name='date'), toy_symbols(n)
    x = pd.concat({k: pd.DataFrame(rng.normal(size=(t, n)), idx, names) for k in 'ab'}, axis=1,
                  names=['feature', 'symbol'])
    return x, Target(pd.DataFrame(x['a'].to_numpy() + rng.normal(size=(t, n)), idx, names), horizon=1)


def task(blocks=2, x=None, y=None):
    a, b = panel()
    x, y = a if x is None else x, b if y is None else y
    return make_task(x, None, y, make_folds(x.index, y.span, 40, 12, 20)[0], blocks)


def journal(s): return [e.body for e in read(journal_path(s)) if e.kind == 'start']


def die(home, at):
    "Search in a process that dies in its `at`-th epoch"
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_search import PLAN, place, search, task
from gnn_quant.training import loop as train
kept, calls = train.Training.judge, []
def judge(self, *a):
    calls.append(0)
    if len(calls) == {at}: os.kill(os.getpid(), signal.SIGKILL)
    return kept(self, *a)
train.Training.judge = judge
search(PLAN, task(), Path({str(home)!r}) / 'kept', place(Path({str(home)!r})))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1])))
    assert done.returncode == -signal.SIGKILL, done.stderr[-1500:]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The undisturbed search"
    home = tmp_path_factory.mktemp('whole')
    return search(PLAN, task(), home / 'kept', place(home)), home


def test_a_killed_search_counts_what_it_began_and_ends_where_the_undisturbed_does(tmp_path, whole):
    die(tmp_path, at=4 * 2 + 4)  # two trials of two blocks of two epochs, then the last epoch of the third
    s = place(tmp_path)
    assert trials_so_far(s) == 3 and len(read_json(tmp_path / 'kept/search.json')['trials']) == 2, (
        'the abandoned trial is counted')
    assert [p.name for p in (tmp_path / 'kept/trial').iterdir()]
    found = search(PLAN, task(), tmp_path / 'kept', s)
    assert found.table.equals(whole[0].table) and found.best == whole[0].best and found.until == whole[0].until
    assert trials_so_far(s) == trials_so_far(place(whole[1])) == 4 and len(journal(s)) == 5, (
        'begun again, and the same trial')
    assert verify_chain(journal_path(s)) == 5 + 4 and not (tmp_path / 'kept/trial').exists()


def test_a_search_that_is_abandoned_for_good_still_counts(tmp_path, monkeypatch):
    s = place(tmp_path)
    def lightning(*a): raise SystemError('lightning')
    monkeypatch.setattr(module, '_parts', lightning)
    with pytest.raises(SystemError): search(PLAN, task(), tmp_path / 'kept', s)
    assert trials_so_far(s) == 1 and not (tmp_path / 'kept/search.json').exists()


def test_the_journal_knows_a_trial_before_it_is_trained(tmp_path, monkeypatch):
    s, known, parts = place(tmp_path), [], module._parts
    monkeypatch.setattr(module, '_parts', lambda *a: known.append(trials_so_far(s)) or parts(*a))
    search(PLAN, task(), tmp_path / 'kept', s)
    assert known == [1, 2, 3, 4]
    journal_path(s).write_text(journal_path(s).read_text().split('\n', 1)[1])
    with pytest.raises(JournalBroken): search(replace(PLAN, trials=5), task(), tmp_path / 'kept', s)
    assert len(known) == 4, 'trained without being counted'


def test_failed_and_pruned_trials_count(tmp_path, monkeypatch):
    s, parts = place(tmp_path), module._parts
    def some(plan, task, params, home, trial):
        if trial.number == 1: raise BadData('no')
        if trial.number == 2: return [-1.], 'PRUNED'
        return parts(plan, task, params, home, trial)
    monkeypatch.setattr(module, '_parts', some)
    found = search(PLAN, task(), tmp_path / 'kept', s)
    assert found.table['state'].tolist() == ['complete', 'fail', 'pruned', 'complete'] and trials_so_far(s) == 4
    ends = [e.body['status'] for e in read(journal_path(s)) if e.kind == 'end']
    starts = journal(s)
    assert (len({b['id'] for b in starts}) == 4 and len({b['data'] for b in starts}) == 1
            and all(b['params'] for b in starts) and (counted(s).failed, counted(s).returns) == (1, 0))
    assert ends == found.table['state'].tolist() and found.value == found.table['valid_ic'][[0, 3]].max()
    monkeypatch.setattr(module, '_parts', lambda *a: (_ for _ in ()).throw(BadData('never')))
    with pytest.raises(BadData, match='none of 4 trials was finished. The first said: BadData: never'):
        search(PLAN, task(), tmp_path / 'none', s)


def test_a_trial_below_the_median_is_pruned():
    params = {'width': 4, 'schedule.lr': .002, 'dropout': .1}
    done = [dict(number=i, state='COMPLETE', value=.5, parts=[.4, .6], params=params) for i in range(6)]
    for prune, value, says in ((True, .3, True), (True, .45, False), (False, .3, False)):
        study, axes = module._study(replace(PLAN, prune=prune), done)
        trial = study.ask(axes)
        trial.report(value, 0)
        assert bool(trial.should_prune()) is says


@pytest.mark.parametrize('how', ['noise', 'blank'])
def test_no_test_row_is_touched(tmp_path, whole, how):
    x, y = panel()
    folds = make_folds(x.index, y.span, 40, 12, 20)
    cut = folds[0].valid[-1]
    bent = task(2, bend(x, cut, how), Target(bend(y.frame, cut, how), 1))
    found = search(PLAN, bent, tmp_path / 'kept', place(tmp_path))
    assert found.table.equals(whole[0].table) and found.best == whole[0].best
    assert bent.x.index[-1] == cut and bent.y.frame.index[-1] == cut
    inside = folds[0].valid[3]
    moved = task(2, x, Target(bend(y.frame, inside, 'noise'), 1))
    assert not search(PLAN, moved, tmp_path / 'other', place(tmp_path / 'b')).table.equals(found.table), (
        'it does see the validation rows')
    check_untouched(found.until, folds)
    with pytest.raises(LookAhead, match='Report on later rows only'): check_untouched(folds[0].test[0], folds)


@pytest.mark.parametrize('seed', range(6))
def test_blocks_keep_the_folds_own_gap(seed):
    rng, idx = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=300)
    span, valid, embargo = (int(rng.integers(*r)) for r in ((2, 9), (5, 15), (0, 9)))
    fold, blocks = make_folds(idx, span, 150, valid, 30, embargo=embargo)[0], int(rng.integers(1, 5))
    pairs, at = inner_blocks(idx, fold, blocks), idx.get_indexer
    for t, v in pairs:
        assert (at(v)[0] - at(t)[-1] - 1 == span + embargo and len(v) == valid and at(t)[0] == at(fold.train)[0]
                and at(v)[-1] + span < at(fold.test)[0])
    judged = np.concatenate([at(v) for _, v in pairs])
    assert (np.diff(judged) == 1).all() and pairs[-1][0].equals(fold.train)
    with pytest.raises(BadData, match='Use fewer blocks'): inner_blocks(idx, fold, 60)


def test_the_same_seed_proposes_the_same(tmp_path, whole):
    s = place(tmp_path)
    assert search(PLAN, task(), tmp_path / 'a', s).table.equals(whole[0].table)
    for i, other in enumerate((replace(PLAN, seed=1), replace(PLAN, sampler='random'))):
        table = search(other, task(), tmp_path / f'b{i}', s).table
        assert len(table) == 4 and (other.seed == 0 or not table.equals(whole[0].table))
    before = trials_so_far(s)
    two = search(replace(PLAN, seeds=(0, 1), trials=1), task(), tmp_path / 'c', s)
    assert (trials_so_far(s) == before + 2
            and [sorted(b['trials']) for b in journal(s)][-1] == ['mlp, seed 0', 'mlp, seed 1']), 'each seed counts'
    assert (len(read_json(tmp_path / 'c/search.json')['trials'][0]['parts']) == 4
            and two.value != whole[0].table['valid_ic'][0])
    with pytest.raises(CheckpointMismatch, match='seed was 0, is 1'):
        search(replace(PLAN, seed=1), task(), tmp_path / 'a', s)
    x, y = panel(seed=1)
    with pytest.raises(CheckpointMismatch, match='features 0 was'): search(PLAN, task(x=x, y=y), tmp_path / 'a', s)


def test_bad_plans_are_refused_before_anything_is_counted():
    good = dict(model='mlp', space=('width=4|8',))
    for bad, says in ((dict(space=()), 'empty space'), (dict(space=('width=4|8', 'width=1|2')), 'searched twice'),
                      (dict(space=('heads=1|2',)), "no parameter 'heads'"),
                      (dict(space=('schedule.speed=1..2',)), "no field 'speed'"),
                      (dict(space=('seed=0..9',)), "no parameter 'seed'"), (dict(model='forest'), 'unknown'),
                      (dict(fixed=dict(width=3)), 'both fixed and searched'), (dict(trials=0), 'at least one'),
                      (dict(seeds=()), 'at least one'), (dict(sampler='grid'), "'grid'")):
        with pytest.raises(BadParams, match=says): Plan(**(good | bad))
    for line in ('width', 'width=', '=3', 'Width=1|2', 'lr=1..0', 'lr=a..b', 'lr=-1..1 log', 'lr=1..2 cubic'):
        with pytest.raises(BadParams, match='cannot be read'): read_space([line])
    with pytest.raises(BadParams, match='cannot be read'): read_fixed(['epochs'])
    a, b, c = read_space(['n=1..9', 'lr=1e-4..1e-2 log', 'loss=ic|mse'])
    assert (a.low, a.high, b.log, c.values) == (1, 9, True, ('ic', 'mse')) and isinstance(a.low, int)


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(MissingExtra, match=r'gnn_quant\[optuna\]'):
        search(PLAN, task(), tmp_path / 'kept', place(tmp_path))
    assert trials_so_far(place(tmp_path)) == 0


def test_the_run_notebook_counts_each_trial_and_not_itself(tmp_path):
    s = place(tmp_path)
    e = Experiment(data=dict(source='toy'), features=dict(warmup=60), split=dict(train=100, valid=30, test=30),
                   models=[dict(name='lightgbm', trees=10)])
    run_day(e, s, in_silence, until='features')
    how = dict(model='lightgbm', space=['leaves=3|7|15', 'min_leaf=10..40'], trials=3)
    done = run('search', how, s, quiet=True)
    assert done.manifest['trials'] == {} and trials_so_far(s) == done.metrics['trials_so_far'] == 3
    table = get_frame(done, 'trials.lightgbm')
    assert (len(table) == 3 and done.metrics['valid_ic'] == table['valid_ic'].max()
            and (done.path / 'trials.svg').read_text().startswith('<svg'))
    again = run('search', how, s, quiet=True)
    assert trials_so_far(s) == 3 and again.frames == done.frames, 'an exact repetition is no new trial'
