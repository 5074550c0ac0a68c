"""One statement of each figure: ratios over a spread have one rule for no spread, compiled and not,
and rows a year have one place"""
import ast
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from _notebooks import PACKAGE

from gnn_quant.data.calendar import row_word, rows_a_year
from gnn_quant.kernels.performance import history_figures, per_spread
from gnn_quant.stats.bootstrap import FIGURES
from gnn_quant.stats.performance import benchmark_metrics, drawdown, drawdown_rows, return_metrics
from gnn_quant.stats.sharpe import is_flat, mean_over_spread, ratio, sharpe

FILES = sorted(p for p in PACKAGE.rglob('*.py') if p.name != '_modidx.py')


def room(p): return p.relative_to(PACKAGE).with_suffix('').as_posix()


@settings(max_examples=200)
@given(st.floats(-1, 1), st.sampled_from([0., 1e-17, 1e-12, 1.0001e-12, 1e-8, 1e-3, 1., float('nan')]))
def test_the_compiled_rule_is_the_rule(mean, spread):
    a, b = per_spread(mean, spread), mean_over_spread(mean, spread)
    assert np.array_equal(a, b, equal_nan=True) and np.isnan(a) == bool(is_flat(mean, spread))


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(3, 80), st.sampled_from([252., 365., 52., 12.]))
def test_the_compiled_figures_are_the_figures(seed, n, year):
    rng = np.random.default_rng(seed)
    r = rng.choice([0., .01, -.02, .003], n) if seed % 2 else rng.normal(0, .02, n)
    out = dict(zip(FIGURES, history_figures(r, np.zeros(n), np.zeros(n), np.arange(n)[None], year)[0]))
    eq = pd.Series(np.r_[1., (1 + r).cumprod()])
    want = return_metrics(pd.Series(r), year) | dict(max_drawdown=drawdown(eq).min(), drawdown_rows=drawdown_rows(eq))
    for k in set(out) & set(want): assert np.isclose(out[k], want[k], rtol=1e-9, atol=1e-12, equal_nan=True), k


@pytest.mark.parametrize('r', [[0.] * 20, [.001] * 20, [1e-16, -1e-16] * 10, [.01 / 3] * 20], ids=str)
def test_what_does_not_move_has_no_ratio_anywhere(r):
    from gnn_quant.stats.paired import sharpe_draws
    from gnn_quant.stats.regimes import by_regime
    from gnn_quant.stats.sharpe import moments
    s = pd.Series(r, pd.bdate_range('2020-01-01', periods=20, name='date'))
    assert (np.isnan([sharpe(s), return_metrics(s)['sharpe'], moments(s).sharpe]).all()
            and np.isnan(sharpe(s.to_frame()))[0])
    assert sharpe_draws(s.to_frame(), 3, 2.).isna().all(axis=None)
    one = by_regime(s, pd.DataFrame(dict(kind='all'), s.index), draws=3, block=2.)
    assert one['sharpe'].isna().all() and one['lo'].isna().all()
    assert np.isnan(history_figures(s.to_numpy(), np.zeros(20), np.zeros(20), np.arange(20)[None], 252.)[0, 3])
    level = (1 + s).cumprod()
    assert np.isnan(benchmark_metrics(s.iloc[1:] + np.arange(19), level, s.index[0])['beta'])


def test_a_year_is_what_the_index_says():
    for freq, year, word in (('B', 252, 'session'), ('D', 365, 'day'), ('W-FRI', 52, 'week'), ('ME', 12, 'month'),
                             ('QE', 4, 'quarter')):
        i = pd.date_range('2001-03-30', periods=90, freq=freq)
        assert rows_a_year(i) == year and row_word(i) == word
        r = pd.Series(np.random.default_rng(0).normal(.001, .01, 90), i)
        assert (np.isclose(sharpe(r), r.mean() / r.std() * year**.5)
                and np.isclose(sharpe(r, 12), r.mean() / r.std() * 12**.5))
    days = pd.bdate_range('2020-01-01', periods=30)
    bars = pd.DatetimeIndex([d + pd.Timedelta(hours=10, minutes=5 * k) for d in days
                             for k in range(78 if d.day != 3 else 40)])
    assert (rows_a_year(bars) == 78 * 252 and row_word(bars) == 'bar' and rows_a_year(pd.RangeIndex(4)) == 252
            and rows_a_year(days[:0]) == 252)


def test_ratio_needs_something_positive():
    assert ratio(1, 2) == .5 and np.isnan(ratio(1, 0)) and np.isnan(ratio(1, -1)) and np.isnan(ratio(1, np.nan))


HOMES = {'stats/sharpe', 'kernels/performance'}
SHARPE = re.compile(
    r"\.mean\([^)]*\)\s*/\s*[\w.]*\.?std\(|mean\s*/\s*(?:sd|std|deviation)\b|\['mean'\]\s*/|s\s*/\s*n\s*/\s*(?:sd|np)")
YEAR = re.compile(r"(?<![\w.#])252(?:\.|\b)(?!_)|ROWS_A_YEAR|\bYEAR\b")


def code_of(p):
    "Source without strings and comments"
    tree = ast.parse(p.read_text(encoding='utf-8'))
    for n in ast.walk(tree):
        if isinstance(n, ast.Constant) and isinstance(n.value, str): n.value = ''
    return ast.unparse(tree)


def test_there_is_one_sharpe_ratio():
    found = {room(p) for p in FILES if SHARPE.search(code_of(p))}
    assert not found - HOMES, f'{found - HOMES}: take stats.sharpe.sharpe or mean_over_spread'
    defined = [room(p) for p in FILES for n in ast.walk(ast.parse(p.read_text(encoding='utf-8')))
               if isinstance(n, ast.FunctionDef) and n.name in ('sharpe', '_sharpe', 'sharpe_ratio')]
    assert defined == ['stats/sharpe']
    assert SHARPE.search('x = r.mean() / r.std()') and SHARPE.search('mean / sd')


def years_of(tree):
    "Rows a year that are stated as a number: a default of 252 for a year, or arithmetic with 252"
    for n in ast.walk(tree):
        if isinstance(n, ast.FunctionDef):
            args = [*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs]
            given = dict(zip([a.arg for a in args][::-1], [*n.args.defaults, *n.args.kw_defaults][::-1]))
            for k, d in given.items():
                if k in ('year', 'periods') and isinstance(d, ast.Constant) and d.value:
                    yield f'{n.name}({k}={d.value})'
        if (isinstance(n, ast.BinOp)
            and any(isinstance(x, ast.Constant) and x.value in (252, 365) for x in (n.left, n.right))):
            yield ast.unparse(n)
        if (isinstance(n, ast.AnnAssign) and isinstance(n.value, ast.Constant) and n.value.value is not None
            and getattr(n.target, 'id', '') in ('year', 'periods')):
            yield ast.unparse(n)


@pytest.mark.parametrize('path', FILES, ids=room)
def test_rows_a_year_stand_in_the_calendar_alone(path):
    if room(path) == 'data/calendar': return
    found = list(years_of(ast.parse(path.read_text(encoding='utf-8'))))
    assert not found, (
        f'{room(path)}: {found}. Take the rows a year of data.calendar, or a parameter that is None by default.')


def test_the_search_for_a_year_sees_it():
    for text in ('def f(x, year=252): pass', 'def f(x, *, periods=252): pass', 'y = s * 252 ** .5',
                 'class A:\n    year: int = 252'):
        assert list(years_of(ast.parse(text))), text
    assert not list(years_of(ast.parse('def f(x, year=None, window=252): pass')))
