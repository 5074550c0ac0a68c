"Honest models pass their controls, and every fault is caught by the control that was made for it"
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hyp, strategies as st

from gnn_quant.core import BadData, BadParams, RunFailed, peeks
from gnn_quant.evidence.controls import (ROWS, control_words, controls, heard_score, planted_labels, score_ic,
                                         shuffled_labels, normal_scores)
from gnn_quant.stats.ic import daily_ic
from gnn_quant.evidence.planted import planted_models, planted_task
from gnn_quant.data.target import Target
from gnn_quant.data.events import Events, make_events, take
from gnn_quant.models.tabular import Ridge
from gnn_quant.models.graph_features import RidgeGraph
from gnn_quant.training.walk_forward import Fold, make_folds

TASK = planted_task(.3, n=12, t=240)
ASK = dict(x=TASK.x, events=TASK.events, y=TASK.y, fold=TASK.fold, neighbors=2)


def ask(make, **how): return controls(make, **(ASK | dict(seeds=(0,)) | how))


# ---- the tasks

def test_standing_is_a_normal_score_and_knows_only_order():
    s = pd.DataFrame([[3., 1., 2., np.nan], [5., 5., 5., 5.], [1., np.nan, np.nan, np.nan], [1., 1., 2., 3.]])
    z = normal_scores(s)
    assert (z.iloc[0].isna().tolist() == [False, False, False, True] and z.iloc[1:3].isna().all(axis=None)
            and z.iloc[3, 0] == z.iloc[3, 1] < z.iloc[3, 2])
    assert np.allclose(z.iloc[0, :3], [1.5**.5, -1.5**.5, 0])
    assert (np.allclose(z.iloc[[0, 3]].mean(axis=1), 0) and np.allclose((z.iloc[[0, 3]]**2).mean(axis=1), 1)
            and normal_scores(np.exp(s)).equals(z))


@hyp(max_examples=8, deadline=None)
@given(st.integers(4, 40), st.floats(0, .95), st.integers(0, 99))
def test_the_planted_score_has_the_rank_ic_that_was_asked_for(n, ic, seed):
    t = 2000
    idx = pd.bdate_range('2000-01-03', periods=t, name='date')
    score = pd.DataFrame(np.random.default_rng(seed).standard_t(3, (t, n)), idx)
    found = daily_ic(score, planted_labels(Target(score * 0, 1), score, ic, seed).frame, 'rank')
    assert abs(found.mean() - ic) < 4 * found.std() / np.sqrt(t) + 1e-6 and found.notna().all()


def test_the_closed_form_is_spearmans_limit_and_exact_for_few():
    "Three names, one right order: the expected rank IC by drawing"
    g, z = np.random.default_rng(0), normal_scores(pd.DataFrame([[0., 1., 2.]])).to_numpy()[0]
    y = pd.DataFrame(np.sqrt(.4) * z + np.sqrt(.6) * g.normal(size=(60_000, 3)))
    ic = y.rank(axis=1).sub(2).mul([-1, 0, 1]).sum(axis=1) / 2
    assert (abs(score_ic(.4, 3) - ic.mean()) < .01
            and abs(score_ic(.3, 400) - 6 / np.pi * np.arcsin(np.sqrt(.3) / 2)) < .004 and score_ic(0., 5) == 0)


def test_noise_is_not_the_market_of_the_same_seed():
    for seed in range(3):
        task = planted_task(0., n=12, t=300, seed=seed)
        assert abs(daily_ic(task.x['f'], planted_labels(task.y, task.x['f'], 0., seed).frame).mean()) < .06
        assert not planted_labels(task.y, task.x['f'], .1, seed).frame.equals(
            planted_labels(task.y, task.x['f'], .1, seed + 1).frame)


def test_labels_keep_horizon_delay_and_what_is_not_known():
    y = Target(TASK.y.frame.where(TASK.y.frame < 1.), 3, 2)
    f = TASK.x['f'].where(TASK.x['f'] > -1)
    for other in (planted_labels(y, f, .2), shuffled_labels(y)):
        assert (other.horizon, other.delay, other.span) == (3, 2, 5)
    assert (planted_labels(y, f, .2).frame.notna() == (y.frame.notna() & f.notna())).all(axis=None)
    s = shuffled_labels(y).frame
    assert (s.notna() == y.frame.notna()).all(axis=None) and np.array_equal(
        np.sort(s), np.sort(y.frame), equal_nan=True) and not s.equals(y.frame)
    assert (y.frame.notna() == Target(TASK.y.frame.where(TASK.y.frame < 1.), 1).frame.notna()).all(axis=None)
    for bad in (-.1, 1., np.nan):
        with pytest.raises(BadParams): planted_labels(y, f, bad)


def test_what_is_heard_is_the_neighbours_mean_without_what_one_has_at_home():
    f, e = TASK.x['f'], TASK.events
    s = heard_score(TASK.x, e, 'f', 2)
    row, now = f.iloc[100], np.flatnonzero(e.t <= TASK.x.index[100].as_unit('ns').value)
    told = np.array([row.to_numpy()[e.src[[i for i in now[::-1] if e.dst[i] == k][:2]]].mean() for k in range(12)])
    z = normal_scores(f).iloc[100].to_numpy()
    left = told - told.mean() - z * (z @ (told - told.mean())) / (z @ z)
    assert np.allclose(s.iloc[100], left) and np.abs((s * normal_scores(f)).sum(axis=1)).max() < 1e-6
    assert heard_score(TASK.x, take(e, slice(0, 0)), 'f').isna().all(axis=None)
    before = heard_score(TASK.x, take(e, np.flatnonzero(e.dst != 3)), 'f', 2)
    assert before.iloc[:, 3].isna().all() and before.drop(columns=before.columns[3]).notna().all(axis=None)


def test_no_task_looks_ahead():
    cut = TASK.x.index[140]
    labels = lambda x, seed=0: planted_labels(TASK.y, heard_score(x, TASK.events.until(x.index[-1]), 'f', 2), .3,
                                              seed).frame
    assert not peeks(labels, TASK.x, cut) and not peeks(lambda x: planted_labels(TASK.y, x['f'], .3).frame, TASK.x, cut)
    assert not peeks(lambda f: shuffled_labels(Target(f, 1)).frame, TASK.y.frame, cut)


# ---- honest models

@pytest.mark.parametrize('model', ['ridge_graph', 'tgat'])
def test_an_honest_graph_model_holds(model):
    t = ask(planted_models((model,))[model])
    assert (list(t.index) == list(ROWS) and (t['verdict'].iloc[2:] == 'holds').all()
            and t.loc['as is', 'verdict'] == 'above chance' and t['rank_ic'].notna().all())
    assert control_words(t).startswith('All 5 controls hold') and (t['lo'] < t['hi']).all()
    assert (t.loc['edges rewired', 'rank_ic'] < t.loc['as is', 'rank_ic'] - .2
            and t.loc['nodes permuted', 'rank_ic'] < t.loc['as is', 'rank_ic'] - .2)


@pytest.mark.parametrize('model', ['ridge', 'edge_free', 'random'])
def test_a_model_that_reads_no_edges_is_not_asked_about_them(model):
    t = ask(planted_models((model,))[model] if model == 'edge_free' else model)
    assert (t.loc[['planted along edges', 'nodes permuted', 'edges rewired'], 'verdict'].tolist()
            == ['not asked'] * 3 and t.loc['labels shuffled', 'verdict'] == 'holds')
    assert (t.loc['planted in nodes', 'verdict'] == ('missed' if model == 'random' else 'holds')
            and t.loc['as is', 'rank_ic'] == t.loc['no edges', 'rank_ic'])
    assert control_words(t).startswith('1 of 2 controls FAILED. Planted in nodes' if model == 'random'
                                       else 'All 2 controls hold')


def test_a_graph_without_events_and_a_model_without_opinion():
    t = ask(planted_models(('ridge_graph',))['ridge_graph'], events=take(TASK.events, slice(0, 0)))
    assert t.loc['edges rewired', 'verdict'] == 'not asked' and t.loc['planted in nodes', 'verdict'] == 'holds'
    flat = ask('constant')
    assert (flat.loc['as is', 'verdict'] == 'no score' and flat.loc['planted in nodes', 'verdict'] == 'missed'
            and flat.loc['labels shuffled', 'verdict'] == 'holds')
    assert 'FAILED' in control_words(flat)


def test_the_table_repeats_and_the_limits_are_those_of_chance():
    t = ask('ridge', seeds=(0, 1, 2), level=.95)
    assert t.equals(ask('ridge', seeds=(0, 1, 2), level=.95))
    cells = 11 * len(TASK.fold.test)
    reach = 1.96 / np.sqrt(cells)
    assert (np.allclose(t.loc['as is', ['lo', 'hi']].astype(float), [-reach, reach], rtol=1e-3)
            and np.allclose(float(t.loc['labels shuffled', 'hi']), reach / np.sqrt(3), rtol=1e-3))
    assert np.isclose(t.loc['planted in nodes', 'hi'] - t.loc['planted in nodes', 'lo'], 8 / np.sqrt(cells), rtol=1e-3)
    longer = ask('ridge', level=.95, y=replace(TASK.y, horizon=4), fold=make_folds(TASK.x.index, 5, 130, 20, 60)[0])
    assert np.isclose(longer.loc['as is', 'hi'],
                      2 * 1.96 * np.sqrt(1 / 11 / len(make_folds(TASK.x.index, 5, 130, 20, 60)[0].test)), rtol=1e-3)
    assert ask('ridge', planted_ic=.5).loc['planted in nodes', 'rank_ic'] > .4


# ---- faults

class Late(Ridge):
    "Yesterday's features"
    def predict(self, x, events, rows): return super().predict(x.shift(1), events, rows)


class Cheat(Ridge):
    "A little of the answer in every score"
    def fit(self, x, events, y, *rows):
        self.y = y.frame
        return super().fit(x, events, y, *rows)
    def predict(self, x, events, rows): return super().predict(x, events, rows) + .05 * self.y.loc[rows]


class Backwards(RidgeGraph):
    "Hears those whom it tells"
    def turn(self, e): return Events(e.dst, e.src, e.t, e.msg, e.symbols, e.fields)
    def fit(self, x, events, y, *rows): return super().fit(x, self.turn(events), y, *rows)
    def predict(self, x, events, rows): return super().predict(x, self.turn(events), rows)


class Owners(Ridge):
    "Scores of the names the other way round"
    def predict(self, x, events, rows):
        s = super().predict(x, events, rows)
        return pd.DataFrame(s.to_numpy()[:, ::-1], s.index, s.columns)


@pytest.mark.parametrize('model,row,verdict',
                         [(Late, 'planted in nodes', 'missed'), (Owners, 'planted in nodes', 'missed'),
                          (Cheat, 'labels shuffled', 'found something'), (Cheat, 'planted in nodes', 'too good'),
                          (Backwards, 'planted along edges', 'missed')], ids=str)
def test_each_fault_is_caught_by_its_control(model, row, verdict):
    t = ask(lambda seed: model())
    assert (t.loc[row, 'verdict'] == verdict and 'FAILED' in control_words(t)
            and f'{row[1:]}: rank IC' in control_words(t))


def test_a_model_that_counts_edges_is_found_out_by_rewiring():
    "Labels follow how many tell a name something: rewired edges keep that, so they help as well, and say so"
    g, n, t = np.random.default_rng(0), 12, 240
    idx = TASK.x.index
    degree = np.array([g.permutation(n) // 2 for _ in range(t)])
    pairs = [(s, d, r) for r in range(t) for d in range(n)
             for s in g.choice(np.delete(np.arange(n), d), degree[r, d], replace=False)]
    src, dst, at = np.array(pairs).T
    events = make_events(src, dst, idx.as_unit('ns').asi8[at], np.ones((len(at), 1)), TASK.events.symbols, ['tie'])
    y = replace(TASK.y, frame=pd.DataFrame(degree + g.normal(size=(t, n)), idx, TASK.y.frame.columns))
    table = ask(lambda seed: RidgeGraph(parts=('degree',), max_age=.5), events=events, y=y)
    assert (table.loc['edges rewired', 'verdict'] == 'found something' and table.loc['as is', 'rank_ic'] > .5
            and table.loc['nodes permuted', 'verdict'] == 'holds')
    assert 'not who is joined to whom' in control_words(table)


@pytest.mark.parametrize('error,how',
                         [(BadParams, dict(seeds=())), (BadParams, dict(level=1.)), (BadParams, dict(feature='g')),
                          (BadParams, dict(model=3)), (BadParams, dict(model='tgta')),
                          (BadData, dict(y=replace(TASK.y, frame=TASK.y.frame * np.nan))),
                          (BadData, dict(fold=Fold(TASK.fold.train, TASK.fold.valid, TASK.fold.test[:10])))],
                         ids=range(7))
def test_controls_refuse_what_they_cannot_ask(error, how):
    with pytest.raises(error): controls(**(ASK | dict(model='ridge') | how))


def test_several_trainings_at_a_time_change_no_bit():
    one, two = (controls('ridge_graph', **(ASK | dict(seeds=(0, 1), jobs=k))) for k in (1, 2))
    assert one.equals(two) and one['rank_ic'].notna().sum() >= 4


def test_a_training_that_is_killed_ends_the_controls_with_an_error():
    import os, signal
    here = os.getpid()
    class Fatal(RidgeGraph):
        def fit(self, *a):
            if os.getpid() != here: os.kill(os.getpid(), signal.SIGKILL)
            return super().fit(*a)
    with pytest.raises(RunFailed, match="jobs=1"): ask(lambda seed: Fatal(), jobs=2)
