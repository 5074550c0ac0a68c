"Backtest overfitting: exact ranks by hand, the paper's procedure, what is known of noise and of skill, bad input"
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hyp, strategies as st
from scipy.stats import norm, rankdata

from gnn_quant.core import BadData, BadParams
from gnn_quant.stats.pbo import cscv, halves, overfit_sentence, subset_sums


def frame(r): return pd.DataFrame(r, pd.bdate_range('2000-01-03', periods=len(r), name='date'))


def noise(seed, t=400, m=20): return frame(np.random.default_rng(seed).normal(0, .01, (t, m)))


# ---- the same by other means

def exact(r, blocks):
    "mask -> (relative rank of the chosen, did it lose), in fractions: no rounding, ties are ties"
    n, out = len(r) // blocks, {}
    def ratio(rows, j): # a number that grows with the Sharpe ratio, without a root
        v = [Fraction(int(r[i, j])) for i in rows]
        s, q = sum(v), sum(a * a for a in v)
        var = q - s * s / len(v)
        return Fraction(0) if var == 0 else (1 if s > 0 else -1) * s * s / var
    for c in combinations(range(blocks), blocks // 2):
        rows = [i for b in c for i in range(b * n, b * n + n)]
        rest = [i for i in range(blocks * n) if i not in rows]
        a, b = ([ratio(k, j) for j in range(r.shape[1])] for k in (rows, rest))
        won = [j for j in range(r.shape[1]) if a[j] == max(a)]
        rank = sum(sum(x < b[j] for x in b) + Fraction(sum(x == b[j] for x in b) + 1, 2) for j in won) / len(won)
        out[sum(1 << i for i in c)] = rank / (r.shape[1] + 1)
    return out


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from((2, 4, 6)), st.sampled_from((2, 3)))
@hyp(max_examples=60)
def test_ranks_are_exact_also_where_trials_are_tied(seed, m, blocks, n):
    "Whole-number returns tie all the time: copies, copies at three times the stake, trials that stood still in a half"
    rng = np.random.default_rng(seed)
    r = rng.integers(-2, 3, (blocks * n, m)).astype(float)
    r[:, -1] = rng.choice([1, 3]) * r[:, 0]
    if seed % 3 == 0: r[:blocks * n // 2, 0] = 0
    try: o = cscv(frame(r), blocks, least=2)
    except BadData as e:
        assert 'same number' in str(e)
        return
    want = exact(r, blocks)
    w = np.array([float(want[m_]) for m_ in halves(blocks)])
    assert np.allclose(o.logits, np.log(w / (1 - w)), atol=1e-12)
    assert o.pbo == np.mean([want[m_] <= Fraction(1, 2) for m_ in halves(blocks)])


def plain(r, blocks):
    "The paper's five steps, a loop over splits and a loop over trials"
    parts, out = np.split(np.arange(len(r)), blocks), {}
    for c in combinations(range(blocks), blocks // 2):
        rows = np.concatenate([parts[i] for i in c])
        rest = np.setdiff1d(np.arange(len(r)), rows)
        a, b = (np.array([r[k, j].mean() / r[k, j].std(ddof=1) for j in range(r.shape[1])]) for k in (rows, rest))
        w = rankdata(b)[np.argmax(a)] / (r.shape[1] + 1)
        out[sum(1 << i for i in c)] = np.log(w / (1 - w)), a.max(), b[np.argmax(a)], b.mean()
    return np.array([out[m] for m in halves(blocks)]).T


@pytest.mark.parametrize('t, m, blocks', [(120, 7, 6), (160, 25, 8), (400, 3, 10)])
def test_all_figures_are_those_of_the_plain_double_loop(t, m, blocks):
    r = noise(1, t, m) + .001
    o, (logits, inside, outside, typical) = cscv(r, blocks), plain(r.to_numpy(), blocks)
    for got, want in ((o.logits, logits), (o.inside, inside), (o.outside, outside), (o.typical, typical)):
        assert np.allclose(got, want, atol=1e-12)
    assert o.pbo == (logits <= 0).mean() and o.loss_probability == (outside < 0).mean()
    assert np.isclose(o.slope, np.polyfit(inside, outside, 1)[0]) and np.isclose(o.gain, (outside - typical).mean())
    assert o.figures == dict(pbo=o.pbo, splits=len(logits), blocks=blocks, trials=m, rows=t,
                             loss_probability=o.loss_probability, slope=o.slope, gain=o.gain)


def test_halves_are_all_choices_and_mirror_each_other():
    for s in (2, 4, 10, 16):
        h = halves(s)
        assert {tuple(i for i in range(s) if m >> i & 1) for m in h} == set(combinations(range(s), s // 2))
        assert (h + h[::-1] == 2**s - 1).all() and (np.diff(h) > 0).all()


def test_subset_sums_are_sums_over_subsets():
    x = np.random.default_rng(0).normal(size=(5, 3))
    got = subset_sums(x)
    def rows(m): return [i for i in range(5) if m >> i & 1]
    assert np.allclose(got, [[x[rows(m), j].sum() for j in range(3)] for m in range(32)])


def test_only_ranks_matter_so_order_of_columns_leverage_and_units_do_not():
    r, rng = noise(2), np.random.default_rng(3)
    o = cscv(r, 8)
    again = [cscv(r[rng.permutation(20)], 8), cscv(r * 7, 8), cscv(r * rng.uniform(.1, 5, 20), 8)]
    for a in again:
        assert np.allclose(a.logits, o.logits) and np.allclose(a.inside, o.inside) and np.isclose(a.slope, o.slope)
    assert again[0].pbo == o.pbo


def test_the_oldest_rows_that_fill_no_block_are_left_out():
    r = noise(4, 405)
    a, b = cscv(r, 8), cscv(r.iloc[5:], 8)
    assert a.rows == b.rows == 400 and (a.logits == b.logits).all()


# ---- what is known

def test_without_skill_the_expected_pbo_is_a_half_or_the_median_more():
    for m, want in ((2, 1 / 2), (3, 2 / 3), (20, 1 / 2)):
        found = np.array([cscv(noise(i, 240, m), 8).pbo for i in range(300)])
        assert abs(found.mean() - want) < 4 * found.std() / np.sqrt(300)


def test_a_history_of_noise_says_little_by_itself():
    found = np.array([cscv(noise(i, 240, 50), 8).pbo for i in range(200)])
    assert (found < .25).mean() > .05 and (found > .75).mean() > .05


@pytest.mark.parametrize('delta', (.08, .15))
def test_of_two_trials_the_better_loses_with_the_probability_of_the_closed_form(delta):
    p = norm.cdf(delta * np.sqrt(100))
    found = np.array([cscv(noise(i, 400, 2) + np.array([delta * .01, 0]), 8).pbo for i in range(400)])
    assert abs(found.mean() - 2 * p * (1 - p)) < 4 * found.std() / 20


def test_one_good_trial_among_many_is_found_and_a_half_good_one_is_not():
    r = noise(5, 1000, 100)
    good = cscv(r.assign(good=r[0] + .003))
    assert good.pbo < .01 and good.loss_probability < .01 and good.gain > .15
    assert cscv(r.assign(good=r[0] + .0001)).pbo > .2


def test_trials_that_all_end_in_the_same_place_are_always_overfit():
    r = noise(6, 480, 30)
    o = cscv(r - r.mean(), 12)
    assert o.pbo == 1 and o.loss_probability == 1 and abs(o.slope + 1) < .1


def test_hopeless_trials_hide_overfitting_and_the_loss_does_not():
    r = noise(7, 400, 20)
    padded = pd.concat([r, noise(8, 400, 60).set_axis(range(20, 80), axis=1) - .01], axis=1)
    assert cscv(padded, 8).pbo == 0 and cscv(padded, 8).loss_probability == cscv(r, 8).loss_probability


# ---- bad input

@pytest.mark.parametrize('bad, ask, error, words', [
    (lambda r: r[[0]], {}, BadData, 'at least 2'),
    (lambda r: r.mask(r > .02), {}, BadData, r'no return on .*dropna'),
    (lambda r: r.iloc[:150], {}, BadData, '150 rows, 16 blocks need 160'),
    (lambda r: r.assign(bank=1e-4), {}, BadData, 'trial bank returns the same number'),
    (lambda r: r.assign(bank=np.where(np.arange(400) < 200, 1e-4, r[0])), {}, BadData, 'trial bank'),
    (lambda r: r.assign(bad=np.inf), {}, BadData, 'infinite'),
    (lambda r: r.to_numpy(), {}, BadData, 'DataFrame'),
    (lambda r: r, dict(blocks=7), BadParams, 'even number'),
    (lambda r: r, dict(blocks=22), BadParams, 'from 2 to 20'),
    (lambda r: r, dict(blocks=True), BadParams, 'even number'),
    (lambda r: r, dict(least=1), BadParams, 'at least 2 rows'),
])
def test_bad_input_is_named(bad, ask, error, words):
    with pytest.raises(error, match=words): cscv(bad(noise(0)), **ask)


def test_a_trial_that_did_not_trade_has_a_ratio_of_zero():
    r = noise(9, 400, 4) - .005
    o = cscv(r.assign(idle=0.), 8)
    assert o.pbo == 0 and (o.outside == 0).all() and np.isnan(o.slope) and o.loss_probability == 0
    half = r.assign(late=np.where(np.arange(400) < 200, 0., r[0] + .02))
    assert cscv(half, 8).pbo == 0


def test_the_sentence_says_what_the_figures_say():
    r = noise(5, 1000, 100)
    assert ('held up.' in overfit_sentence(cscv(r.assign(good=r[0] + .003)))
            and '12,870 splits' in overfit_sentence(cscv(r)))
    flat = cscv(r - r.mean())
    assert f'{flat.pbo:.0%}' in overfit_sentence(flat) and 'no better than luck' in overfit_sentence(flat)
