"Bundles, as-of tables, calendars, requests: what is known when, what a year is, and how they are loaded"
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _outside import FOLDER, Installed
from hypothesis import given, settings
from hypothesis import strategies as st

from gnn_quant import plugins
from gnn_quant.core import BadData, BadParams, StaleData, bend, known, peeks, toy_bars, toy_sectors
from gnn_quant.data.asof import AsOfTable, as_of_table
from gnn_quant.data.bundle import Bundle, Request, as_bundle, window
from gnn_quant.data.calendar import Calendar, age_in, rows_of
from gnn_quant.data.load import as_request, load_bundle, load_tables, replay_source
from gnn_quant.pipeline.stages import of_age

DAYS = toy_bars().index
CUT = DAYS[30]


def news_of(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(DAYS) - 3, rows)
    known_since = DAYS[at + rng.integers(0, 3, rows)]
    frame = dict(entity=rng.choice(['AAA', 'BBB', 'CCC'], rows), time=DAYS[at], known_since=known_since,
                 tone=rng.normal(size=rows), words=rng.choice(['up', 'down'], rows))
    return as_of_table(pd.DataFrame(frame), 'news')


def bundle(**kw):
    b = as_bundle(toy_bars(), 'mine', 'test', sectors=toy_sectors(), tables={'news': news_of()})
    return replace(b, **kw)


# calendars

@pytest.mark.parametrize('index, rows, word', [
    (pd.bdate_range('2020-01-01', periods=500), 252, 'session'), (pd.date_range('2020-01-01', periods=500), 365, 'day'),
    (pd.date_range('2020-01-03', periods=80, freq='W-FRI'), 52, 'week'),
    (pd.date_range('2020-01-31', periods=40, freq='ME'), 12, 'month'),
    (pd.date_range('2020-01-31', periods=40, freq='BME'), 12, 'month'),
    (pd.date_range('2020-03-31', periods=20, freq='QE'), 4, 'quarter'),
    (pd.bdate_range('2020-01-01', periods=1), 252, 'session')])
def test_calendars(index, rows, word):
    c = Calendar.of(index)
    assert (c.rows_a_year, c.word) == (rows, word)
    assert Calendar.of(index, 7, 'dip') == Calendar(7, 'dip', c.rows_a_session)


def test_gaps_and_half_days_do_not_move_the_year():
    days = pd.bdate_range('2020-01-01', periods=500)
    holes = days[np.random.default_rng(0).random(500) > .1].drop(days[100:130], errors='ignore')
    assert Calendar.of(holes).rows_a_year == 252
    opens = days[:40] + pd.Timedelta('14:30:00')
    minutes = [pd.date_range(d, periods=39 if i % 7 == 0 else 78, freq='5min') for i, d in enumerate(opens)]
    c = Calendar.of(minutes[0].append(minutes[1:]))
    assert (c.rows_a_year, c.rows_a_session, c.word) == (78 * 252, 78, 'bar')
    assert rows_of('1 session', c) == 78 and rows_of('30 minutes', c) >= 6


@given(st.integers(1, 400))
def test_a_span_of_days_holds_every_row_in_it(n):
    days = pd.bdate_range('2020-01-01', periods=600)
    most = max(int(((days > t - pd.Timedelta(f'{n}D')) & (days <= t)).sum()) for t in days[300:320])
    assert rows_of(f'{n} days') >= min(most, rows_of(f'{n} days')) and rows_of(f'{n} days') >= n * 252 / 365.25


@pytest.mark.parametrize('bad', [-1, True, 1.5, 'soon', '20 moons', '', None])
def test_no_span(bad):
    with pytest.raises(BadParams): rows_of(bad)


@pytest.mark.parametrize('bad', [0, -252, np.inf, np.nan, True, '252'])
def test_no_year(bad):
    with pytest.raises(BadParams): Calendar(bad)


# as-of tables

@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(['noise', 'blank', 'cut']))
def test_tables_do_not_peek_and_another_future_leaves_the_past(seed, how):
    t, names = news_of(60, seed), ['AAA', 'BBB', 'CCC']
    assert not peeks(lambda x: x.latest('tone', DAYS, names), t, CUT)
    assert not peeks(lambda x: x.count_by('words', '10D', DAYS, ['up', 'down']), t, CUT)
    for a, b in zip(t.known_by(CUT), t.bend(CUT, how, seed).known_by(CUT), strict=True): assert np.array_equal(a, b)
    assert len(t.bend(CUT, 'cut')) == len(t.until(CUT)) < len(t)


def test_latest_and_counts_against_plain_loops():
    t, f = news_of(80, 3), news_of(80, 3).frame
    latest, count = t.latest('tone', DAYS), t.count_by('symbol', '7D', DAYS, ['AAA', 'ZZZ'])
    for d in DAYS[::7]:
        seen = f[f['known_since'] <= d]
        for e in ('AAA', 'BBB', 'CCC'):
            own = seen[seen['entity'] == e].sort_values(['time', 'known_since'], kind='stable')
            want = own['tone'].iloc[-1] if len(own) else np.nan
            newest = own[own['time'] == own['time'].max()]
            tied = newest[newest['known_since'] == newest['known_since'].max()]
            assert np.isnan(want) and np.isnan(latest.loc[d, e]) or latest.loc[d, e] in tied['tone'].tolist()
        late = seen[(seen['known_since'] > d - pd.Timedelta('7D')) & (seen['entity'] == 'AAA')]
        assert count.loc[d, 'AAA'] == len(late) and count.loc[d, 'ZZZ'] == 0


def test_a_revision_is_used_from_its_day_and_an_older_statement_never_again():
    time = pd.to_datetime(['2020-01-31', '2020-02-28', '2020-01-31', '2020-02-28'])
    seen = pd.to_datetime(['2020-02-03', '2020-03-03', '2020-03-05', '2020-03-10'])
    rows = pd.DataFrame({'entity': 'GDP', 'time': time, 'known_since': seen, 'value': [1., 2., 1.5, 2.5]})
    on = pd.to_datetime(['2020-02-02', '2020-02-03', '2020-03-03', '2020-03-06', '2020-03-10'])
    assert as_of_table(rows, 'm').latest('value', pd.DatetimeIndex(on))['GDP'].tolist()[1:] == [1, 2, 2, 2.5]


def test_published_times_are_careful():
    rows = pd.DataFrame({'symbol': ['A', 'B'], 'published': ['2020-03-04', '2020-03-04T20:00:00Z']})
    assert (as_of_table(rows, 'n').frame['known_since'] == pd.Timestamp('2020-03-05')).all()
    close = as_of_table(rows, 'n', close='16:00 America/New_York').frame.set_index('entity')['known_since']
    assert close['B'] == pd.Timestamp('2020-03-04') and close['A'] == pd.Timestamp('2020-03-05')


@pytest.mark.parametrize('change, part', [
    (lambda f: f.drop(columns='time'), 'no column time'), (lambda f: f.assign(time='2020'), 'time'),
    (lambda f: f.assign(known_since=pd.NaT), 'known_since'),
    (lambda f: f.assign(time=f['time'].dt.tz_localize('UTC')), 'naive')])
def test_tables_that_cannot_be(change, part):
    with pytest.raises(BadData, match=part): AsOfTable('news', change(news_of().frame))


def test_columns_that_are_not_there():
    with pytest.raises(BadParams, match='tone'): news_of().latest('mood', DAYS)
    with pytest.raises(BadParams, match='entity'): news_of().count_by('mood', '3D', DAYS)


# bundles

def test_what_a_bundle_has():
    b = bundle()
    assert b.lacks(('bars', 'bars.Open', 'news', 'tables.news', 'sectors', 'benchmark')) == []
    assert b.lacks(('bars.Adj Close', 'filings', 'edges')) == ['bars.Adj Close', 'filings', 'edges']
    assert bundle(sectors=None).lacks(('sectors',)) == ['sectors'] and b.year == 252 and b.calendar.word == 'session'


@pytest.mark.parametrize('how', ['noise', 'blank', 'cut'])
def test_another_future_moves_bars_benchmark_and_tables_and_no_past(how):
    b, c = bundle(), bend(bundle(), CUT, how, 1)
    for x, y in zip(known(b, CUT), known(c, CUT), strict=True):
        assert np.array_equal(x, y, equal_nan=x.dtype.kind == 'f')
    assert not c.bars.equals(b.bars) and not c.benchmark.equals(b.benchmark)
    assert not c.tables['news'].frame.equals(b.tables['news'].frame) and c.calendar == b.calendar


def test_peeks_takes_functions_of_a_bundle():
    count = lambda b: b.tables['news'].count_by('symbol', '9D', b.index, b.symbols)
    honest, leaky = lambda b: b.bars['Close'].pct_change() + count(b), lambda b: count(b).shift(-4)
    assert not peeks(honest, bundle(), CUT)
    for how in ('cut', 'noise'): assert peeks(leaky, bundle(), CUT, how=(how,))
    assert peeks(lambda b: b.benchmark.shift(-1), bundle(), CUT)
    assert not peeks(lambda b: b.until(CUT), bundle(), CUT)


def test_saved_and_loaded(tmp_path):
    b = bundle(left_out={'macro': 'no such table'})
    h = b.save(tmp_path)
    c = Bundle.load(tmp_path)
    assert c.hash == b.hash == h and c.calendar == b.calendar and c.left_out == b.left_out and c.caveats == b.caveats
    pd.testing.assert_frame_equal(c.bars, b.bars, check_freq=False)
    assert c.sectors.equals(b.sectors) and list(c.tables) == ['news'] and c.tables['news'].latest('tone', DAYS).equals(
        b.tables['news'].latest('tone', DAYS))
    assert bundle(sectors=None).hash != b.hash != replace(b, tables={}).hash


def test_a_table_under_another_name_is_refused():
    with pytest.raises(BadData, match='table n'): bundle(tables={'n': news_of()})


def test_a_window_knows_no_later_news():
    w = window(bundle(), end=str(CUT.date()))
    assert w.tables['news'].frame['known_since'].max() <= CUT and w.calendar == bundle().calendar


# requests, sources and tables by name

def test_requests():
    r = as_request({'name': 'toy', 'seed': 3, 'symbols': ['AAA'], 'start': pd.Timestamp('2020-02-03').date()}, rows=10)
    assert r == Request('toy', ('AAA',), '2020-02-03', '', 10, 'raise', {'seed': 3})
    with pytest.raises(BadParams, match='no name'): as_request({'symbols': []})
    with pytest.raises(BadParams, match='Did you mean seed'): load_bundle({'name': 'toy', 'sed': 3})


def test_symbols_wanted():
    assert load_bundle('toy', symbols=['CCC', 'AAA']).symbols == ['AAA', 'CCC']
    with pytest.raises(BadParams, match='no symbol ZAZ'): load_bundle('toy', symbols=['ZAZ'])


@pytest.fixture
def here():
    with Installed(FOLDER.parent): yield


def test_a_source_that_rewrites_its_past_shows_when_it_is_asked_again(here):
    @plugins.source
    def rewriting(request):
        bars = toy_bars().loc[:request.end or None]
        close = bars['Close']
        bars = bars.copy()
        for s in close: bars[('Close', s)] = close[s] / close[s].iloc[-1] * 50
        return as_bundle(bars[['Close']], 'rewriting', 'test')

    @plugins.source
    def steady(request): return as_bundle(toy_bars().loc[:request.end or None], 'steady', 'test')
    same = {}
    for name in ('rewriting', 'steady'):
        r = as_request(f'{__name__}:{name}')
        past, early = load_bundle(r).known_by(CUT), replay_source(r, CUT).known_by(CUT)
        same[name] = all(np.array_equal(a, b) for a, b in zip(past, early, strict=True))
    assert same == dict(rewriting=False, steady=True)


def test_a_source_that_gives_no_bundle(here):
    @plugins.source
    def wrong(request): return toy_bars()
    with pytest.raises(BadData, match='wanted a Bundle'): load_bundle(f'{__name__}:wrong')


def test_tables_are_brought_left_out_or_refused(here):
    @plugins.table
    def ratings(request, bundle, grade=1.):
        rows = dict(entity=bundle.symbols, time=DAYS[3], known_since=DAYS[4], grade=grade)
        return as_of_table(pd.DataFrame(rows), 'x')

    @plugins.table(needs=('bars.Adj Close',))
    def needy(request, bundle): raise AssertionError
    b = load_tables(bundle(), ['news', {'name': 'ratings', 'grade': 2.}, 'needy', 'ratngs'])
    assert set(b.tables) == {'news', 'ratings'} and (b.tables['ratings'].frame['grade'] == 2).all()
    assert 'bars.Adj Close' in b.left_out['needy'] and 'ratings' in b.left_out['ratngs']
    for name in ('needy', 'ratngs'):
        with pytest.raises((BadData, BadParams)): load_tables(bundle(), [name], required=True)


def test_tables_of_a_folder(tmp_path):
    bars = toy_bars()
    for s in bars['Close']: bars.xs(s, axis=1, level='symbol').rename_axis(index='Date').to_csv(tmp_path / f'{s}.csv')
    (tmp_path / 'tables').mkdir()
    news_of().frame.to_csv(tmp_path / 'tables/news.csv', index=False)
    news_of().frame.assign(entity='CPI').to_parquet(tmp_path / 'tables/macro.parquet')
    b = load_bundle(tmp_path)
    assert sorted(b.tables) == ['macro', 'news']
    assert np.allclose(b.tables['news'].latest('tone', DAYS), news_of().latest('tone', DAYS), equal_nan=True)
    assert load_bundle({'name': 'folder', 'path': str(tmp_path)}).bars.equals(b.bars)
    (tmp_path / 'tables/bad.csv').write_text('entity,time\nA,2020-01-01\n')
    with pytest.raises(BadData, match='table bad: no column known_since'): load_bundle(tmp_path)


def test_a_vendor_of_another_package_that_rewrites_its_past():
    with Installed():
        same = {}
        for name in ('outside_market', 'outside_rewriter'):
            r = as_request(f'outside_pkg:{name}')
            cut = load_bundle(r).index[300]
            past, early = load_bundle(r).known_by(cut), replay_source(r, cut).known_by(cut)
            same[name] = all(np.array_equal(a, b) for a, b in zip(past, early, strict=True))
        assert same == dict(outside_market=True, outside_rewriter=False)


def test_a_table_that_calls_tomorrow_known_differs_when_it_is_made_on_an_earlier_day():
    with Installed():
        whole = load_bundle('outside_pkg:outside_market')
        cut, name = whole.index[300], 'outside_hindsight'
        a, b = (load_tables(x, [name]).tables[name].until(cut) for x in (whole, whole.until(cut)))
        tone = [x.frame.set_index(['time', 'entity'])['tone'].sort_index() for x in (a, b)]
        moved = tone[0][~((tone[0] == tone[1]) | (tone[0].isna() & tone[1].isna()))]
        assert set(moved.index.get_level_values('time')) == {cut}


@pytest.mark.parametrize('last, today, sessions, days, weeks', [
    ('2024-01-05', '2024-01-05', 0, 0, 0), ('2024-01-05', '2024-01-08', 0, 3, 0),
    ('2024-01-05', '2024-01-09', 1, 4, 0), ('2024-01-03', '2024-01-04', 0, 1, 0),
    ('2024-01-03', '2024-01-13', 7, 10, 1), ('2024-01-05', '2024-01-03', 0, 0, 0),
    ('2024-01-05 15:30', '2024-01-08 23:00', 0, 3, 0)])
def test_age_of_data(last, today, sessions, days, weeks):
    last, today = pd.Timestamp(last), pd.Timestamp(today)
    assert [age_in(last, today, u) for u in ('session', 'day', 'week')] == [sessions, days, weeks]
    assert age_in(last, today, 'session', Calendar(365.)) == max(0, days - 1), 'a market that never closes'


@pytest.mark.parametrize('max_age, day, fits', [
    ('', 400, True), ('mark', 400, True), ('3 sessions', 4, True), ('3 sessions', 9, False), ('2 days', 2, True),
    ('2 days', 3, False), ('1 week', 13, True), ('1 week', 14, False), ('0 sessions', 0, True)])
def test_data_that_are_too_old_are_refused(max_age, day, fits):
    b = as_bundle(toy_bars(), 'toy', 'simulated')
    at = b.index[-1] + pd.Timedelta(days=day)
    if fits:
        found = of_age(b, max_age, at)
        extra = [c for c in found.caveats if c not in b.caveats]
        assert (len(extra) == 1 and f'{b.index[-1]:%Y-%m-%d}' in extra[0]) if max_age == 'mark' else found is b
    else:
        with pytest.raises(StaleData, match=f'toy: last bar {b.index[-1]:%Y-%m-%d}.*{max_age}'): of_age(b, max_age, at)
