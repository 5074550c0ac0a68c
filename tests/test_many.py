"All folds of all models at once: the same bits in any number of processes"
import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadParams, LookAhead, toy_bars
from gnn_quant.data.target import make_target
from gnn_quant.features.registry import make_features
from gnn_quant.models.registry import make_model
from gnn_quant.processes import how_many
from gnn_quant.training.many import run_models, seeds_that_differ
from gnn_quant.training.seeds import run_seeds
from gnn_quant.training.walk_forward import Fold, make_folds


def ridge(seed): return make_model('ridge')


def mlp(seed): return make_model('mlp', seed=seed, schedule=dict(epochs=1))


@pytest.fixture(scope='module')
def inputs():
    bars = toy_bars(6, 260)
    x, y = make_features(bars, ['ret_1', 'ret_5', 'vol_20'], 'z').iloc[21:], make_target(bars, 2)
    return x, None, y, make_folds(x.index, y.span, 100, 30, 50)


@pytest.mark.parametrize('jobs', [1, 2])
def test_the_same_as_model_by_model(inputs, jobs, tmp_path):
    x, events, y, folds = inputs
    lines, seeds = {'ridge': ridge, 'mlp': mlp}, {'ridge': [0, 1], 'mlp': [3, 4]}
    got = run_models(lines, seeds, x, events, y, folds, tmp_path, jobs=jobs)
    for m, make in lines.items():
        want = run_seeds(make, x, events, y, folds, seeds[m])
        assert list(got[m].scores) == list(want.scores) and got[m].random == want.random
        for s in want.scores: pd.testing.assert_frame_equal(got[m].scores[s], want.scores[s], check_exact=True)
        pd.testing.assert_frame_equal(got[m].history, want.history, check_exact=True)
    assert (tmp_path / 'seed3/mlp').is_dir() and list(got['ridge'].scores) == [0], (
        'a model without chance is trained once')


def test_finished_folds_are_taken_up(inputs, tmp_path):
    x, events, y, folds = inputs
    lines = []
    for _ in range(2): out = run_models({'ridge': ridge}, {'ridge': [0]}, x, events, y, folds, tmp_path, lines.append)
    assert len(lines) == 2 * len(folds) and lines[0].startswith('1 of 3: ridge')
    assert np.isfinite(out['ridge'].scores[0].dropna(how='all').to_numpy()).all()


def test_seeds_and_jobs_that_cannot_be_used():
    with pytest.raises(BadParams): seeds_that_differ(ridge, [])
    with pytest.raises(BadParams): seeds_that_differ(ridge, [1, 1])
    with pytest.raises(BadParams): how_many(-1)
    assert seeds_that_differ(mlp, [5, 6]) == ([5, 6], True) and seeds_that_differ(ridge, [5, 6]) == ([5], False)


def test_a_fold_that_would_see_the_future_stops_everything(inputs):
    x, events, y, folds = inputs
    f = folds[0]
    late = Fold(f.train.append(pd.DatetimeIndex([x.index[x.index.get_loc(f.valid[0]) - 1]])), f.valid, f.test)
    with pytest.raises(LookAhead): run_models({'ridge': ridge}, {'ridge': [0]}, x, events, y, [late])
