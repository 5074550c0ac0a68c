"One difference has one interval: Sharpe ratios and rank ICs of two strategies are resampled together, on the same rows"
import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadData, BadParams
from gnn_quant.stats.ic import gap_of, resampled, stationary_rows
from gnn_quant.stats.paired import DRAWS, ic_block, paired_differences, sharpe_draws, sharpe_gaps

RNG = np.random.default_rng(3)
DAYS = pd.bdate_range('2010-01-04', periods=600, name='date')
RET = pd.DataFrame(RNG.normal(.0004, .01, (600, 3)), DAYS, columns=['own', 'twin', 'other'])
IC = pd.DataFrame(RNG.normal(.02, .1, (600, 2)), DAYS, columns=['own', 'twin'])
IC.iloc[:5] = np.nan


def test_the_table_is_the_gaps_and_the_ics_in_one_place():
    t = paired_differences(RET, IC, 300, 21., 1, 252, 5)
    gaps = sharpe_gaps(RET, 300, 21., 1, 252)
    assert ([(g.peer, g.sharpe, g.diff, g.lo, g.hi, g.side) for g in gaps]
            == list(t[['sharpe', 'diff', 'lo', 'hi', 'side']].itertuples(name=None)))
    known = IC.dropna()
    means = resampled(known, 300, ic_block(5), 1)[0]
    d = gap_of(*(np.r_[known[k].mean(), means[:, i]] for i, k in enumerate(known)))
    assert (t.loc['twin', 'ic_diff'], t.loc['twin', 'ic_lo'], t.loc['twin', 'ic_hi'], t.loc['twin', 'ic_side']) == (
        d.diff, d.lo, d.hi, d.side)
    assert (t.loc['other', ['rank_ic', 'ic_diff']].isna().all()
            and list(paired_differences(RET, None, 20).columns) == ['sharpe', 'diff', 'lo', 'hi', 'side'])
    assert DRAWS == 2000 and ic_block(1) == 10 and ic_block(22) == 44


def test_counting_rows_is_drawing_them():
    "Sharpe ratios of resampled histories, row by row from the drawn histories"
    got, rng = sharpe_draws(RET, 150, 21., 7, 252).to_numpy(), np.random.default_rng(7)
    at = np.concatenate([stationary_rows(600, k, 21., rng) for k in (100, 50)])
    x = RET.to_numpy()[at]
    np.testing.assert_allclose(got, x.mean(1) / x.std(1, ddof=1) * 252**.5, rtol=1e-10)


def test_short_flat_and_bad_input():
    assert paired_differences(RET[:60], IC[:30], 50)[['side', 'ic_side']].loc['twin'].tolist() == ['short', 'short']
    flat = paired_differences(RET.assign(twin=0.), None, 50)
    assert flat.loc['twin', 'side'] == 'flat' and np.isnan(flat.loc['twin', 'diff'])
    with pytest.raises(BadData): paired_differences(RET.mask(RET > .02), None, 50)
    with pytest.raises(BadParams): paired_differences(RET, None, 0)
