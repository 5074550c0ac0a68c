"Ranks across a row: those of pandas and of scipy, bit for bit, with ties, gaps, infinities and zeros of both signs"
import numpy as np
import pandas as pd
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from gnn_quant.core import toy_bars
from gnn_quant.kernels.ranks import average_ranks, rank_across
from gnn_quant.stats.ic import daily_ic
from gnn_quant.training.task import rank_ic

VALUES = st.one_of(st.sampled_from([0., -0., 1., -1., 2., np.inf, -np.inf, np.nan, 1e-300]),
                   st.floats(width=64, allow_subnormal=True))


@settings(max_examples=300)
@given(arrays(float, st.tuples(st.integers(1, 4), st.integers(0, 70)), elements=VALUES))
def test_ranks_are_those_of_pandas_and_scipy(x):
    got = average_ranks(x)
    assert np.array_equal(got, pd.DataFrame(x).rank(axis=1).to_numpy(float).reshape(x.shape), equal_nan=True)
    for row, r in zip(x, got):
        known = ~np.isnan(row)
        assert np.array_equal(r[known], rankdata(row[known])) and np.isnan(r[~known]).all()


def test_wide_rows_any_layout_and_whole_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1000)).round(2)
    x[rng.random(x.shape) < .3] = np.nan
    want = pd.DataFrame(x).rank(axis=1)
    assert (np.array_equal(average_ranks(np.asfortranarray(x)), want, equal_nan=True)
            and np.array_equal(average_ranks(x[::2, ::3]), want.iloc[::2, ::3].rank(axis=1), equal_nan=True))
    assert np.array_equal(average_ranks(np.arange(6).reshape(2, 3)), [[1, 2, 3]] * 2)
    f = pd.DataFrame(x, pd.bdate_range('2020-01-01', periods=40, name='date'))
    assert rank_across(f).equals(want.set_axis(f.index))


def test_rank_ic_is_spearman_and_is_stated_once():
    from scipy.stats import spearmanr
    px = toy_bars(12, 60)['Close']
    s, y = px.pct_change(5, fill_method=None), px.pct_change(fill_method=None).shift(-1)
    ic = rank_ic(s, y)
    assert ic.equals(daily_ic(s, y, 'rank')) and ic.isna().sum() == 6
    assert all(np.isclose(ic[d], spearmanr(s.loc[d], y.loc[d])[0]) for d in ic.dropna().index)
    gone = y.drop(columns='AAA')
    assert np.isclose(rank_ic(s, gone).iloc[20], spearmanr(s.drop(columns='AAA').iloc[20], gone.iloc[20])[0])
