"Sizers by name: the score's books are those of before, and signal_weighted reacts to side, size and confidence"
from types import SimpleNamespace

import numpy as np, pandas as pd, pytest

from _outside import Installed

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.data.bars import returns
from gnn_quant.data.target import make_target
from gnn_quant.plugins import find, plugins_of, sizer
from gnn_quant.portfolio.sizing import (cap_turnover, dollar_neutral, long_only, make_weights, size_signal_weighted,
                                        trailing_volatility, vol_target)
from gnn_quant.signals import make_signals

BARS = toy_bars(n=8, t=160)


def signals_of(b):
    return make_signals(b['Close'].pct_change(5, fill_method=None), make_target(b, 1), b, window=20, least=5)


def weights(b, name, **o): return make_weights(signals_of(b), SimpleNamespace(bars=b), name, o, vol_window=20)


@pytest.mark.parametrize('name, f', [('dollar_neutral', dollar_neutral), ('long_only', long_only)])
def test_books_of_the_score_are_those_of_the_functions(name, f):
    full = returns(BARS).notna().rolling(20).sum() == 20
    want = cap_turnover(vol_target(f(signals_of(BARS)['score'].where(full)), BARS, .1, 20), .1)
    pd.testing.assert_frame_equal(weights(BARS, name), want, check_exact=True, check_names=False)


def test_rows_a_year_scale_the_volatility():
    w = dollar_neutral(signals_of(BARS)['score'])
    a, b = trailing_volatility(w, BARS, 20, 252.), trailing_volatility(w, BARS, 20, 365.)
    assert (a.dropna() == trailing_volatility(w, BARS, 20).dropna()).all()
    assert np.allclose((b / a).dropna(), (365 / 252) ** .5)
    with pytest.raises(BadParams): vol_target(w, BARS, year=0.)


def one_row(**change):
    base = dict(side=[1., 1, 0, -1], size=[1., .5, .1, 1], confidence=[.6, .6, .5, .4]) | change
    rows = {k: pd.DataFrame([v], BARS.index[:1], list('ABCD')) for k, v in base.items()}
    return pd.concat(rows, axis=1)


@pytest.mark.parametrize('norm', ['gross', 'dollar'])
@pytest.mark.parametrize('field, row',
                         [('side', [-1., 1, 0, -1]), ('size', [.2, .5, .1, 1]), ('confidence', [.9, .6, .5, .4])])
def test_signal_weighted_reacts_to_each_field(field, row, norm):
    a, b = (size_signal_weighted(one_row(**c), None, norm=norm) for c in ({}, {field: row}))
    assert not np.allclose(a, b)


def test_signal_weighted_by_hand():
    w = size_signal_weighted(one_row(), None).iloc[0].to_numpy()
    assert np.allclose(w, np.array([.6, .3, 0, -.4]) / 1.3)
    w = size_signal_weighted(one_row(), None, norm='dollar').iloc[0].to_numpy()
    assert np.allclose(w, [1 / 3, 1 / 6, 0, -.5])
    unknown = size_signal_weighted(one_row(confidence=[np.nan] * 4), None)
    assert (unknown == 0).all(axis=None)
    assert size_signal_weighted(one_row(side=[np.nan, np.nan, np.nan, 1]), None).isna().all(axis=None)
    one_side = size_signal_weighted(one_row(side=[1., 1, 0, 1]), None, norm='dollar')
    assert (one_side == 0).all(axis=None)


@pytest.mark.parametrize('name', [p.name for p in plugins_of('sizer', 'gnn_quant')])
def test_no_sizer_reads_later_rows(name): assert not peeks(lambda b: weights(b, name), BARS, BARS.index[110])


def test_a_leaky_sizer_is_found_and_a_wrong_grid_refused():
    with Installed():
        @sizer('next_return_leak')
        def leak(signals, bundle): return np.sign(bundle.bars['Close'].pct_change(fill_method=None).shift(-1)) / 8
        @sizer('short_frame')
        def short(signals, bundle): return signals['score'].iloc[:-1]
        assert peeks(lambda b: weights(b, 'next_return_leak'), BARS, BARS.index[110])
        with pytest.raises(BadData, match='short_frame'): weights(BARS, 'short_frame')


def test_names_and_options_are_checked():
    with pytest.raises(BadParams, match='dollar_neutral'): weights(BARS, 'dolar_neutral')
    with pytest.raises(BadParams, match='gross'): weights(BARS, 'dollar_neutral', gros=1)
    with pytest.raises(BadParams): weights(BARS, 'signal_weighted', norm='net')
    with pytest.raises(BadData): make_weights(signals_of(BARS), SimpleNamespace(bars=BARS.iloc[:-1]))
    assert find('sizer', 'signal_weighted').options == dict(gross=1., norm='gross', least=2)
