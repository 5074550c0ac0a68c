"Calls come from ranks, confidence only from outcomes that were known"
import math
from dataclasses import FrozenInstanceError, replace
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.data.target import Target, make_target
from gnn_quant.signals import (SIGNAL_FIELDS, TradingSignal, centred_rank, hit_rate, latest, make_signals, right_calls,
                               risk_levels, sides, signals_on, sizes)

BARS = toy_bars(n=10, t=140)


def random_scores(seed, holes=.2):
    rng, px = np.random.default_rng(seed), BARS['Close']
    return pd.DataFrame(rng.normal(size=px.shape), px.index, px.columns).mask(rng.random(px.shape) < holes)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(.05, .5))
def test_sides_are_balanced_and_sizes_bounded(seed, q):
    s = random_scores(seed)
    side, size, n = sides(s, q), sizes(s), s.notna().sum(axis=1)
    assert ((side == 1).sum(axis=1) == (side == -1).sum(axis=1)).all()
    assert ((side == 1).sum(axis=1) <= q * n + .5).all()
    assert (side.isna() == s.isna()).all(axis=None) and (size.isna() == s.isna()).all(axis=None)
    assert size.min().min() >= 0 and (size.max(axis=1)[n > 1] == 1).all()
    assert (s.where(side == 1).min(axis=1) > s.where(side < 1).max(axis=1))[(side == 1).any(axis=1)].all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_only_the_order_of_scores_counts(seed):
    s = random_scores(seed)
    a, b = make_signals(s, make_target(BARS), BARS), make_signals(np.exp(3 * s), make_target(BARS), BARS)
    assert a.drop(columns='score', level=0).equals(b.drop(columns='score', level=0))


def test_ties_and_thin_rows():
    s = pd.DataFrame([[1., 1, 1, 1], [1, np.nan, np.nan, np.nan], [np.nan] * 4, [1, 2, np.nan, np.nan]],
                     BARS.index[:4], list('ABCD'))
    assert (sides(s).iloc[[0, 1, 3]].fillna(0) == 0).all(axis=None) and (sizes(s).iloc[:2].fillna(0) == 0).all(
        axis=None)
    assert centred_rank(s).iloc[2].isna().all() and sides(s, .5).iloc[3].tolist()[:2] == [-1, 1]


def test_confidence_by_hand_and_span_later():
    idx, span = pd.bdate_range('2020-01-01', periods=8), 2
    label = pd.DataFrame([[2., 1, 0]] * 4 + [[0., 1, 2]] * 4, idx, list('ABC'))
    side = pd.DataFrame([[1., 0, -1]] * 8, idx, list('ABC'))
    y = Target(label, horizon=1)
    assert (y.span == span and right_calls(side, y)['A'].tolist() == [1] * 4 + [0] * 4
            and right_calls(side, y)['B'].isna().all())
    got = hit_rate(side, y, window=3, least=2)
    assert got['A'].fillna(-1).tolist() == pytest.approx([-1, -1, -1, 1, 1, 1, 2/3, 1/3]) and got['B'].isna().all()


def test_always_right_always_wrong_and_coin():
    y = make_target(BARS, horizon=1)
    for sign, want in ((1, 1.), (-1, 0.)):
        c = hit_rate(sides(sign * y.frame), y, least=20)
        assert set(c.stack().dropna().unique()) == {want}
    coin = hit_rate(sides(random_scores(1, 0.)), y, least=20).iloc[-1].dropna()
    assert ((coin > .3) & (coin < .7)).all() and len(coin) == 4


def test_unknown_labels_are_not_misses():
    y = make_target(BARS, horizon=1)
    half = y.frame.copy()
    half.iloc[::2] = np.nan
    c = hit_rate(sides(y.frame), replace(y, frame=half), least=20)
    assert c.iloc[-3].dropna().eq(1).all() and c.iloc[-3].count() == 4
    assert c.notna().any(axis=1).to_numpy().argmax() == 1 + 2 * 19 + y.span


def test_labels_not_yet_known_change_nothing():
    s, y = random_scores(2), make_target(BARS, horizon=5)
    bent = y.frame.copy()
    bent.iloc[100 - y.span + 1:] *= -7
    a, b = (make_signals(s, t, BARS, least=20)['confidence'] for t in (y, replace(y, frame=bent)))
    assert a.iloc[:101].equals(b.iloc[:101]) and not a.iloc[101:].equals(b.iloc[101:])


@pytest.mark.parametrize('horizon', [1, 5])
def test_nothing_is_known_early(horizon):
    bars = toy_bars(n=10, t=200)
    def scores(b): return b['Close'].pct_change(3, fill_method=None)
    def early(b): return make_signals(scores(b), replace(make_target(b, horizon + 3), horizon=horizon), b, least=20)
    assert not peeks(lambda b: make_signals(scores(b), make_target(b, horizon), b, least=20), bars, bars.index[150])
    assert peeks(early, bars, bars.index[150])


def test_risk_levels_rank_volatility():
    bars = toy_bars(n=3, t=80)
    bars['Close'] = 100 * np.exp(np.log(bars['Close'] / 100) * [1., 5., .1])
    lv = risk_levels(bars[['Close']])
    assert lv.iloc[-1].tolist() == [1, 2, 0] and lv.iloc[:30].isna().all(axis=None)


def test_one_signal_at_a_time():
    sig = make_signals(random_scores(5), make_target(BARS), BARS)
    assert list(sig.columns.get_level_values(0).unique()) == list(SIGNAL_FIELDS)
    day = signals_on(sig, '2020-03-02')
    assert ([d.symbol for d in day]
            == sig['score'].loc['2020-03-02'].dropna().sort_values(ascending=False).index.tolist())
    assert day[0].side == 1 and day[-1].side == -1 and day[0].size == 1 and isinstance(day[0].side, int)
    with pytest.raises(FrozenInstanceError): day[0].score = 1
    assert (signals_on(sig, BARS.index[0])[0].risk_level is None
            and math.isnan(signals_on(sig, BARS.index[0])[0].confidence))
    sig.loc[sig.index[-2]:, 'score'] = np.nan
    assert latest(sig)[0].date == BARS.index[-3] and isinstance(latest(sig)[0], TradingSignal)


def test_bad_input_is_named():
    s, y = random_scores(0), make_target(BARS)
    for bad in (s.iloc[1:], s.iloc[:, 1:], s.iloc[:, ::-1], s * np.inf):
        with pytest.raises(BadData): make_signals(bad, y, BARS)
    with pytest.raises(BadData, match='target'): make_signals(s, replace(y, frame=y.frame.iloc[1:]), BARS)
    for kw in (dict(quantile=0), dict(quantile=.6), dict(least=0), dict(least=300)):
        with pytest.raises(BadParams, match='signals'): make_signals(s, y, BARS, **kw)
    with pytest.raises(BadData, match='no row'): signals_on(make_signals(s, y, BARS), '2020-01-04')
    with pytest.raises(BadData, match='no field'): signals_on(BARS, BARS.index[0])
    with pytest.raises(BadData, match='none of'): latest(make_signals(s * np.nan, y, BARS))
