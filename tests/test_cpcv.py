"""Combinatorial purged cross-validation:
no label shared with a test on either side, every row once a path, known answers"""
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hyp, strategies as st

from gnn_quant.core import BadData, BadParams, LookAhead, toy_bars
from gnn_quant.features.registry import make_features
from gnn_quant.data.target import Target, make_target
from gnn_quant.models.tabular import Ridge
from gnn_quant.training.cpcv import check_splits, make_cpcv, path_plan, path_table, run_cpcv, split_table
from gnn_quant.training.task import rank_ic

BARS = toy_bars(n=6, t=360)
IDX = BARS.index


def target(horizon=5, delay=1, t=360):
    return Target(
        pd.DataFrame(np.random.default_rng(0).normal(size=(t, 6)),
                     pd.bdate_range('2020-01-01', periods=t, name='date'), list('ABCDEF')), horizon, delay)


def rows_of_labels(at, span): return {r for t in at for r in range(t, t + span + 1)}


# ---- what is left out

@given(st.integers(2, 8), st.integers(1, 3), st.integers(1, 9), st.integers(1, 3),
       st.sampled_from((None, 0, 4, 15)), st.integers(200, 360))
@hyp(max_examples=60)
def test_no_label_that_is_learned_from_shares_a_price_with_the_test(groups, held, horizon, delay, embargo, t):
    "By brute force: the rows that labels are made of, on both sides of every test block"
    if held >= groups: return
    y = target(horizon, delay, t)
    idx = y.frame.index
    try: s = make_cpcv(idx, y, groups, held, embargo)
    except BadData: return
    for f in s.folds:
        learned, test = idx.get_indexer(f.train.append(f.valid)), idx.get_indexer(f.test)
        assert not rows_of_labels(learned, y.span) & rows_of_labels(test, y.span)
        ends = [b for b in test if b + 1 not in set(test)]
        assert all(not e < r <= e + y.span + s.embargo for e in ends for r in learned)
        assert idx.get_indexer(f.valid).min() - idx.get_indexer(f.train).max() > y.span
        assert not (set(f.train) | set(f.valid)) & set(f.test) and len(f.train) and len(f.valid)
    check_splits(s, idx, y.span)


def test_the_purge_takes_no_more_than_it_has_to():
    s = make_cpcv(IDX, target(), groups=3, held=1, valid=.1)
    f = s.folds[1]
    at = IDX.get_indexer(f.train.append(f.valid))
    assert at[at < 120].max() == 120 - 6 - 1 and at[at > 120].min() == 240 + 6 + 6
    assert IDX.get_indexer(f.valid[:1])[0] - IDX.get_indexer(f.train[-1:])[0] - 1 == 6


@pytest.mark.parametrize('side', ('before', 'after'))
def test_a_row_whose_label_overlaps_the_test_is_refused_on_both_sides(side):
    "A split from elsewhere, with one row too many: the row before the test, or the row after it"
    y = target()
    s = make_cpcv(IDX, y, groups=6, held=1)
    f = s.folds[2]
    at = IDX.get_indexer(f.test)
    row = IDX[[at[0] - 6 if side == 'before' else at[-1] + 6 + 6]]
    bad = replace(s, folds=(replace(f, train=f.train.union(row).sort_values()),))
    with pytest.raises(LookAhead, match=f'split 0: learns from {row[0]:%Y-%m-%d}, '
                       f'{6 if side == "before" else 12} rows {side} a test row'):
        check_splits(bad, IDX, y.span)
    check_splits(replace(s, folds=(f,)), IDX, y.span)
    tail = s.folds[5]
    late = replace(s, folds=(replace(tail, valid=IDX[[IDX.get_indexer(tail.test[:1])[0] - 6]]),))
    with pytest.raises(LookAhead, match='before a test row'): check_splits(late, IDX, y.span)


def test_rows_that_choose_come_late_enough():
    y = target()
    s = make_cpcv(IDX, y)
    f = s.folds[3]
    near = replace(f, train=f.train.append(IDX[[IDX.get_indexer(f.valid[:1])[0] - 3]]))
    with pytest.raises(LookAhead, match='split 0: train and valid'):
        check_splits(replace(s, folds=(near,)), IDX, y.span)


def test_the_embargo_is_the_labels_or_the_look_backs_whichever_is_longer():
    y = target()
    assert ([make_cpcv(IDX, y, **k).embargo for k in ({}, dict(lookback=3), dict(lookback=20),
                                                      dict(lookback=(4, 25)), dict(embargo=9), dict(embargo=0))]
            == [6, 6, 20, 25, 9, 0])
    with pytest.raises(LookAhead, match='embargo=5'): make_cpcv(IDX, y, embargo=5, lookback=20)


def test_of_several_horizons_the_longest_decides():
    y = target(2), target(9)
    assert make_cpcv(IDX, y).span == 10
    with pytest.raises(LookAhead): check_splits(make_cpcv(IDX, y[0]), IDX, 10)


# ---- paths

@pytest.mark.parametrize('groups, held', [(2, 1), (5, 1), (6, 2), (6, 3), (9, 4)])
def test_paths_are_as_many_as_the_formula_says_and_use_each_score_once(groups, held):
    chosen = list(combinations(range(groups), held))
    plan = path_plan(chosen, groups)
    assert plan.shape == (comb(groups - 1, held - 1), groups) and comb(groups, held) * held == plan.size
    assert all(g in chosen[i] for path in plan for g, i in enumerate(path))
    used = [(i, g) for path in plan for g, i in enumerate(path)]
    assert len(set(used)) == len(used) == sum(map(len, chosen))


class Told:
    "Scores every row with the number of the training"
    made = []
    def __init__(self, seed): Told.made.append(self); self.number, self.seed = len(Told.made) - 1, seed
    def fit(self, x, events, y, train, valid): self.learned = train.append(valid); return self
    def predict(self, x, events, rows): return pd.DataFrame(float(self.number), rows, y_names(x))


def y_names(x): return list(dict.fromkeys(x.columns.get_level_values(1)))


def test_every_row_is_tested_once_a_path_by_a_fresh_model_that_did_not_learn_it():
    Told.made = []
    x, y = make_features(BARS), make_target(BARS)
    s = make_cpcv(IDX[40:], y, groups=6, held=2)
    paths = run_cpcv(Told, x, None, y, s, seed=7)
    assert len(paths) == 5 and len(Told.made) == 15 and {m.seed for m in Told.made} == {7}
    for p, plan in zip(paths, s.paths):
        assert p.index.equals(IDX) and p.iloc[:40].isna().all(axis=None) and p.iloc[40:].notna().all(axis=None)
        for g, rows in enumerate(s.groups):
            assert (p.loc[rows] == plan[g]).all(axis=None) and not len(Told.made[plan[g]].learned.intersection(rows))
    assert s.groups[0].append(list(s.groups[1:])).equals(IDX[40:])


def test_the_table_counts_every_row():
    t = split_table(make_cpcv(IDX, target()))
    assert (t[['train', 'valid', 'test', 'nobody']].sum(axis=1) == 360).all() and len(t) == 15 and t['groups'].iloc[
        -1] == '4 5'


def planted(strength, t=360, n=12):
    rng = np.random.default_rng(1)
    idx = pd.bdate_range('2020-01-01', periods=t, name='date')
    x = pd.DataFrame(rng.normal(size=(t, 2 * n)), idx, pd.MultiIndex.from_product(
        [['a', 'b'], [f'S{i}' for i in range(n)]], names=['feature', 'symbol']))
    return x, Target(strength * x['a']
                     + (1 - strength**2)**.5 * pd.DataFrame(rng.normal(size=(t, n)), idx, x['a'].columns), 1)


def test_a_planted_signal_is_found_on_every_path_and_noise_on_none():
    for strength in (.5, 0.):
        x, y = planted(strength)
        paths = run_cpcv(lambda seed: Ridge(), x, None, y, make_cpcv(x.index, y))
        table = path_table(paths, y)
        assert ((abs(table['rank_ic'] - 6 / np.pi * np.arcsin(strength / 2)) < .06).all()
                and (table['days'] == 360).all())
        assert np.isclose(table['rank_ic'].iloc[0], rank_ic(paths[0], y.frame).mean())


# ---- bad input

@pytest.mark.parametrize(
    'ask, error, words',
    [(dict(groups=1), BadParams, 'groups'), (dict(held=6), BadParams, 'fewer than all'),
     (dict(held=0), BadParams, 'at least one group'), (dict(valid=0), BadParams, 'share between 0 and 1'),
     (dict(valid=1.), BadParams, 'share between 0 and 1'), (dict(embargo=-1), LookAhead, 'embargo=-1'),
     (dict(embargo=400), BadData, 'no row is left|none is 6 rows before'),
     (dict(groups=3, held=2, valid=.98), BadData, 'smaller valid'),])
def test_bad_splits_are_named(ask, error, words):
    with pytest.raises(error, match=words): make_cpcv(IDX, target(), **ask)


def test_rows_with_holes_or_from_elsewhere_are_refused():
    with pytest.raises(BadData, match='1 rows of the target are missing after'): make_cpcv(IDX.delete(100), target())
    with pytest.raises(BadData, match='not in the features'): make_cpcv(IDX + pd.Timedelta(hours=1), target())
    s, x = make_cpcv(IDX, target()), make_features(BARS)
    with pytest.raises(BadData, match='not all of its rows are in the features'):
        run_cpcv(Told, x.iloc[30:], None, make_target(BARS), s)
    with pytest.raises(LookAhead): run_cpcv(Told, x, None, make_target(BARS, horizon=20), s)
