"Weights keep their promises on any scores: sums, caps, symmetry, and no knowledge of later rows"
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, peeks, toy_bars
from gnn_quant.portfolio.sizing import (cap_turnover, check_gross, dollar_neutral, equal_weight, long_only,
                                        rebalance_every, trailing_volatility, vol_target)

BARS = toy_bars(n=8, t=90)


def scores(seed, ties=False, holes=.3):
    rng, px = np.random.default_rng(seed), BARS['Close']
    v = rng.integers(0, 3, px.shape).astype(float) if ties else rng.normal(size=px.shape)
    return pd.DataFrame(v, px.index, px.columns).mask(rng.random(px.shape) < holes)


cases = settings(max_examples=20, deadline=None), given(st.integers(0, 10_000), st.booleans())
each = lambda f: cases[0](cases[1](f))


@each
def test_long_only_sums_to_one_on_the_best(seed, ties):
    s = scores(seed, ties)
    for top in (.25, 3):
        w = long_only(s, top)
        row = s.notna().sum(axis=1)
        full = row >= max(3 if top == 3 else 2, 2)
        assert np.allclose(w[full].sum(axis=1), 1) and (w.isna().all(axis=1) == (row < 2)).all() and w.min().min() >= 0
        assert (w.where(s.isna()).fillna(0) == 0).all(axis=None)
        assert (s.where(w > 0).min(axis=1) >= s.where(w == 0).max(axis=1)).where(
            (w > 0).any(axis=1) & (w.where(s.notna()) == 0).any(axis=1), True).all()
        assert long_only(s.iloc[:, ::-1], top)[s.columns].equals(w)


@each
def test_dollar_neutral_is_neutral(seed, ties):
    s = scores(seed, ties)
    w = dollar_neutral(s, gross=1.5)
    dec, tied = s.notna().sum(axis=1) >= 2, s.nunique(axis=1) == 1
    assert np.allclose(w[dec].sum(axis=1), 0, atol=1e-12) and np.allclose(w[dec & ~tied].abs().sum(axis=1), 1.5)
    assert (w[dec & tied] == 0).all(axis=None) and w[~dec].isna().all(axis=None)
    assert np.allclose(dollar_neutral(-s, gross=1.5), -w, equal_nan=True)


@each
def test_turnover_is_capped_and_goes_the_right_way(seed, ties):
    w = dollar_neutral(scores(seed, ties, holes=.6))
    c = cap_turnover(w, .3)
    moved = c.ffill().fillna(0).diff().fillna(c.ffill().fillna(0)).abs().sum(axis=1)
    assert (moved <= .3 + 1e-12).all() and (c.isna() == w.isna()).all(axis=None)
    assert np.allclose(cap_turnover(w, 100.), w, equal_nan=True)
    was = c.ffill().shift().fillna(0)
    assert ((w - was) * (c - was) >= -1e-12).where(w.notna(), True).all(axis=None)


def test_turnover_arrives():
    w = pd.DataFrame([[1., 0.]] * 5, BARS.index[:5], ['A', 'B'])
    assert np.allclose(cap_turnover(w, .4)['A'], [.4, .8, 1, 1, 1])


def test_equal_weight_follows_the_listed():
    bars = BARS.copy()
    bars.loc[bars.index[5]:, (slice(None), 'AAA')] = np.nan
    bars.loc[bars.index[9]] = np.nan
    w = equal_weight(bars)
    assert (np.allclose(w.iloc[:5], 1/8) and (w['AAA'].iloc[5:9] == 0).all()
            and np.allclose(w['BBB'].iloc[5:9], 1/7) and w.iloc[9].isna().all())


def test_thin_days_do_not_concentrate():
    s = pd.DataFrame([[1., 2, np.nan, np.nan], [1, np.nan, np.nan, np.nan]], BARS.index[:2], list('ABCD'))
    assert long_only(s, top=4).iloc[0].tolist() == [.25, .25, 0, 0] and long_only(s, top=4).iloc[1].isna().all()
    assert long_only(s, top=1, least=1).iloc[1].tolist() == [1, 0, 0, 0]


def test_volatility_is_the_quadratic_form():
    w, ret = dollar_neutral(scores(1, holes=0.)), BARS['Close'].pct_change(fill_method=None)
    vol = trailing_volatility(w, BARS, 20)
    for t in (20, 50, 89):
        assert vol.iloc[t] == pytest.approx((252 * w.iloc[t] @ ret.iloc[t-19:t+1].cov() @ w.iloc[t]) ** .5)
    scaled = vol_target(w, BARS, .05, 20, cap=10.)
    assert np.allclose(trailing_volatility(scaled, BARS, 20).iloc[10:], .05) and scaled.iloc[:10].isna().all(axis=None)
    capped = vol_target(w, BARS, .05, 20)
    assert (capped.abs().sum(axis=1) <= 1 + 1e-9).all() and np.allclose(
        capped.iloc[10:], w.iloc[10:].mul((.05 / vol.iloc[10:]).clip(upper=1), axis=0))


def test_volatility_with_unknown_returns():
    bars = BARS.copy()
    bars.loc[bars.index[:60], (slice(None), 'AAA')] = np.nan
    flat = pd.DataFrame(0., bars.index, bars['Close'].columns)
    assert (vol_target(flat.assign(AAA=.5), bars, window=20).isna().all(axis=1).to_numpy().nonzero()[0].tolist()
            == list(range(70)))
    assert vol_target(flat.assign(BBB=.5), bars, window=20).iloc[10:].notna().all(axis=None)
    assert (vol_target(flat, bars) == 0).all(axis=None)


def test_rebalance_counts_from_the_first_decision():
    w = dollar_neutral(scores(0, holes=0.))
    w.iloc[:4] = np.nan
    r = rebalance_every(w, 7)
    assert np.flatnonzero(r.notna().all(axis=1)).tolist() == list(range(4, 90, 7)) and r.iloc[11].equals(w.iloc[11])
    assert rebalance_every(w, 1).equals(w) and rebalance_every(w * np.nan, 3).isna().all(axis=None)


@pytest.mark.parametrize('cut', [30, 70])
def test_nothing_is_known_early(cut):
    def s(b): return b['Close'].pct_change(5, fill_method=None)
    rules = [equal_weight, lambda b: long_only(s(b)), lambda b: dollar_neutral(s(b)),
             lambda b: vol_target(dollar_neutral(s(b)), b, window=20), lambda b: cap_turnover(long_only(s(b)), .2),
             lambda b: rebalance_every(long_only(s(b)), 5)]
    assert not any(peeks(f, BARS, BARS.index[cut]) for f in rules)
    assert all(peeks(lambda b, f=f: f(b).shift(-5), BARS, BARS.index[cut]) for f in rules)


def test_gross_is_checked_at_the_door():
    w = pd.DataFrame(.25, BARS.index[:3], list('ABCD'))
    assert check_gross(w) is w and check_gross(w * 3, cap=3.) is not None
    with pytest.raises(BadData, match='gross exposure 2 on'): check_gross(w * 2)
    with pytest.raises(BadData, match='infinite'): check_gross(w * np.inf)


@pytest.mark.parametrize(
    'call',
    [lambda s: long_only(s, top=0), lambda s: long_only(s, top=-1), lambda s: long_only(s, top=2.5),
     lambda s: long_only(s, top=True), lambda s: long_only(s, top=float('nan')), lambda s: long_only(s, least=0),
     lambda s: dollar_neutral(s, gross=0), lambda s: dollar_neutral(s, gross=np.inf), lambda s: cap_turnover(s, 0),
     lambda s: cap_turnover(s, -1), lambda s: rebalance_every(s, 0), lambda s: rebalance_every(s, 1.5),
     lambda s: vol_target(s, BARS, target=0), lambda s: vol_target(s, BARS, cap=float('nan')),
     lambda s: vol_target(s, BARS, window=2)])
def test_bad_parameters_are_named(call):
    with pytest.raises(BadParams): call(scores(0))


@pytest.mark.parametrize('call', [long_only, dollar_neutral, lambda s: cap_turnover(s, 1.),
                                  lambda s: rebalance_every(s, 2), lambda s: vol_target(s, BARS)])
def test_bad_frames_are_named(call):
    for bad in (scores(0) * np.inf, scores(0).iloc[::-1], scores(0).to_numpy()):
        with pytest.raises(BadData): call(bad)


def test_weights_of_other_rows_are_not_scaled():
    with pytest.raises(BadData, match='rows or symbols'): vol_target(scores(0).iloc[1:], BARS)
