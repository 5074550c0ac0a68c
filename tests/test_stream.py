"A stream gives the batch builder's bits, forgets nothing over a kill, and takes no bad row"
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from _faults import FaultyOS, full
from gnn_quant.core import BadData, BadParams, CheckpointMismatch, LookAhead, StoreError, instants, peeks, toy_bars
from gnn_quant.data.events import correlation_events, make_events, merge, take
from gnn_quant.graph.similarity import lead_lag_events, similarity_events
from gnn_quant.graph.stream import BarStream, StreamingBuilder, StreamingCorrelation, replay
from gnn_quant.graph.ticks import TICK_REASONS, TickBars, TickGraph, check_ticks, quarantine, resample_ticks

FEW = settings(max_examples=20, deadline=None)
SEED = st.integers(0, 10_000)
ARRAYS = ('src', 'dst', 't', 'msg')


def same(a, b):
    return (a.symbols, a.fields) == (b.symbols, b.fields) and all(
        getattr(a, k).tobytes() == getattr(b, k).tobytes() for k in ARRAYS)


def gappy(seed, n=6, t=90):
    "A market with single gaps, a late listing, a delisting, a constant price and two symbols that move as one"
    rng, close = np.random.default_rng(seed), toy_bars(n=n, t=t, seed=seed)['Close'].copy()
    close = close.mask(rng.random((t, n)) < .004)
    close.iloc[:rng.integers(0, t), -1] = np.nan
    close.iloc[rng.integers(1, t):, 0] = np.nan
    if seed % 3 == 0: close.iloc[:, 1] = 50.
    if seed % 4 == 0: close.iloc[:, 3] = close.iloc[:, 2] * 2
    return pd.concat({'Close': close}, axis=1)


def names(bars): return list(bars['Close'].columns)


# ---- equal to the batch

@given(seed=SEED, window=st.integers(3, 30), top=st.integers(1, 8), every=st.integers(1, 9),
       kind=st.sampled_from(['rolling', 'ewma']), low=st.sampled_from([0., .3]),
       dtype=st.sampled_from(['float64', 'float32']))
@FEW
def test_stream_equals_batch_to_the_last_bit(seed, window, top, every, kind, low, dtype):
    bars = gappy(seed).astype(dtype)
    how = dict(window=window, top=top, every=every, kind=kind, min_abs=low)
    stream = StreamingCorrelation(names(bars), **how)
    assert same(replay(stream, bars), correlation_events(bars, **how)) and stream.rows == len(bars)


def test_every_push_gives_the_events_of_its_own_row_and_no_other():
    bars = gappy(1)
    stream, batch = (StreamingCorrelation(names(bars), window=20, top=2, every=4),
                     correlation_events(bars, window=20, top=2, every=4))
    for i, (t, row) in enumerate(bars['Close'].iterrows()):
        out, due = stream.push(t, row), i >= 20 and (i - 20) % 4 == 0
        assert (out is not None) == due
        if due: assert same(out, take(batch, batch.t == instants(bars.index)[i]))


def test_whole_numbers_and_lists_are_closes_too():
    bars = gappy(1)
    whole = (bars['Close'].bfill().ffill() * 100).round().astype('int64')
    frame = pd.concat({'Close': whole}, axis=1)
    a, b = (StreamingCorrelation(names(bars), window=20) for _ in range(2))
    out = [e for t, row in zip(whole.index, whole.to_numpy().tolist()) if (e := b.push(t, row)) is not None]
    assert (same(replay(a, frame), correlation_events(frame, window=20))
            and same(merge(*out), correlation_events(frame, window=20)))


@pytest.mark.parametrize('builder,extra,params',
                         [(similarity_events, 0, dict(kind='partial', keep='top', top=2, window=25)),
                          (similarity_events, 0, dict(kind='ewma', keep='mst', window=25)),
                          (similarity_events, 0, dict(keep='threshold', min_abs=.3, window=25)),
                          (similarity_events, 0, dict(keep='tmfg', window=25)),
                          (lead_lag_events, 3, dict(window=25, lags=3, top=2))],
                         ids=['partial', 'mst', 'threshold', 'tmfg', 'lead_lag'])
def test_any_window_builder_streams_to_the_last_bit(builder, extra, params):
    bars = gappy(5)
    batch = builder(bars, every=3, **params)
    stream = StreamingBuilder(names(bars), builder, depth=26 + extra, every=3, fields=batch.fields, **params)
    assert len(batch) and same(replay(stream, bars), batch)


@given(seed=SEED, window=st.integers(3, 30), every=st.integers(1, 9), keep=st.sampled_from(['mst', 'pmfg']),
       kind=st.sampled_from(['rolling', 'ewma', 'partial']), n=st.integers(2, 9))
@FEW
def test_trees_and_planar_graphs_stream_to_the_last_bit(seed, window, every, keep, kind, n):
    """On whatever is known: names that come and go, a constant price, two names that move as one,
    too few names for a triangle"""
    bars, how = gappy(seed, n=max(n, 4)), dict(kind=kind, keep=keep, window=window)
    bars = bars.iloc[:, :n]
    batch = similarity_events(bars, every=every, **how)
    stream = StreamingBuilder(names(bars), similarity_events, depth=window + 1, every=every, fields=batch.fields, **how)
    half = bars.iloc[:len(bars) // 2]
    first = replay(stream, half)
    stream.restore(stream.snapshot())
    assert same(merge(first, replay(stream, bars.iloc[len(half):])), batch) and (len(batch) or n < 4)
    pairs = (
        pd.Series(np.minimum(batch.src, batch.dst) * n + np.maximum(batch.src, batch.dst)).groupby(batch.t).nunique())
    assert not len(batch) or pairs.max() <= (3 * (n - 2) if keep == 'pmfg' and n > 2 else n - 1)


@given(seed=SEED, every=st.integers(1, 6))
@FEW
def test_merged_relations_come_out_in_the_order_of_merge(seed, every):
    "Pushed at any time before they are due, at the instants of bars, between them, and at each other's instants"
    bars, rng = gappy(seed, t=50), np.random.default_rng(seed)
    t = instants(bars.index)
    def relation(field, m=25):
        src = rng.integers(0, 6, m)
        when = t[rng.integers(1, 50, m)] - rng.choice([0, 0, 3_600 * 10**9], m)
        return make_events(src, (src + rng.integers(1, 6, m)) % 6, when, rng.normal(size=(m, 1)), names(bars), [field])
    first, second = relation('news'), relation('corr')
    stream = StreamingCorrelation(names(bars), window=10, top=2, every=every, fields=('news',))
    out, cut = [], int(t[20])
    stream.push_events(take(first, first.t <= cut))
    stream.push_events(take(second, second.t <= cut))
    for i in range(50):
        out.append(stream.push(bars.index[i], bars['Close'].iloc[i]))
        if i == 20:
            stream.push_events(take(first, first.t > cut))
            stream.push_events(take(second, second.t > cut))
    assert same(merge(*[e for e in out if e is not None]),
                merge(correlation_events(bars, window=10, top=2, every=every), first, second))
    assert not stream.waiting


def test_events_that_wait_come_out_when_time_passes_without_a_bar():
    bars = gappy(1)
    stream = StreamingCorrelation(names(bars), window=20, fields=('news',))
    news = make_events([0, 1], [1, 0], bars.index[[5, 9]], np.ones((2, 1)), names(bars), ['news'])
    stream.push_events(news)
    assert (stream.advance(bars.index[4]) is None and len(stream.advance(bars.index[7])) == 1
            and len(stream.waiting) == 1)
    with pytest.raises(BadData, match='earlier than'): stream.push(bars.index[6], bars['Close'].iloc[6])
    assert stream.push(bars.index[9], bars['Close'].iloc[9]).t.tolist() == news.t[1:].tolist() and not stream.waiting


def test_the_stream_does_not_peek():
    bars = toy_bars(n=5, t=60)
    f = lambda b: replay(StreamingCorrelation(names(bars), window=20, top=2, every=1), b)
    assert not peeks(f, bars, bars.index[40])
    assert peeks(lambda b: f(pd.concat({'Close': b['Close'].bfill().shift(-1)}, axis=1)), bars, bars.index[40])


# ---- refused, without a trace

def state_of(x): return {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in x.snapshot().items()}


def test_bad_rows_are_refused_by_name_and_change_nothing():
    bars = gappy(1)
    close = bars['Close'].bfill().ffill()
    stream, other = (StreamingCorrelation(names(bars), window=20, top=2, every=1) for _ in range(2))
    for i in range(30): stream.push(close.index[i], close.iloc[i])
    before, now, row = state_of(stream), close.index[30], close.iloc[30]
    with_ = lambda v: np.where(np.arange(6) == 2, v, row)
    bad = {'duplicate': (close.index[29], row), 'earlier than': (close.index[28], row), 'NaT': (pd.NaT, row),
           'no date': ('tomorrow', row), r'tz=|UTC': (now.tz_localize('UTC'), row), 'None': (None, row),
           'CCC: Close is 0': (now, with_(0.)), 'CCC: Close is -1': (now, with_(-1.)),
           'CCC: Close is inf': (now, with_(np.inf)), r'shape \(5,\)': (now, row.to_numpy()[:5]),
           'other symbols': (now, row.rename({'CCC': 'XXX'})), 'another order': (now, row.iloc[::-1]),
           'object': (now, row.astype(object).to_numpy()), '<U': (now, row.astype(str).to_numpy().astype('U9')),
           'bool': (now, np.ones(6, bool)), 'float32': (now, row.to_numpy(np.float32)), r'shape \(\)': (now, 5.),
           r'shape \(1, 6\)': (now, row.to_numpy()[None])}
    for message, args in bad.items():
        with pytest.raises(BadData, match=message): stream.push(*args)
        assert state_of(stream) == before, message
    e = correlation_events(bars, window=20)
    early = make_events([0], [1], close.index[[29]], [[1.]], names(bars), ['corr'])
    for message, x in (
            {'already at': early,
             'column news': make_events([0], [1], close.index[[31]], [[1.]], names(bars), ['news']),
             'other symbols': make_events([0], [1], close.index[[31]], [[1.]], ['A', 'B'], ['corr'])}.items()):
        with pytest.raises(BadData, match=message): stream.push_events(x)
        assert state_of(stream) == before, message
    assert len(e) and stream.push(now, row) is not None and stream.rows == 31


def test_a_stream_is_refused_with_parameters_that_make_no_sense():
    for kw in (dict(window=2), dict(top=0), dict(every=0), dict(every=1.), dict(kind='pearson'), dict(halflife=3.),
               dict(min_abs=1.)):
        with pytest.raises(BadParams): StreamingCorrelation('ABC', **kw)
    for symbols in (['A', 'A'], ['A', ''], ['A', 1], []):
        with pytest.raises(BadData): StreamingCorrelation(symbols)
    with pytest.raises(BadData, match='twice'): StreamingCorrelation('AB', fields=('corr',))
    with pytest.raises(BadData, match='different symbols'): replay(StreamingCorrelation('ABCDEF', window=20), gappy(0))


def test_a_builder_that_breaks_its_word_is_refused_and_the_row_can_come_again():
    day = 86_400 * 10**9
    shift = [day]
    def edges(times, closes): return make_events([0], [1], times[-1:] + shift[0], [[1.]], ['A', 'B'], ['x'])
    s = BarStream('AB', depth=1, every=1, fields=('x',), edges=edges, params={})
    with pytest.raises(LookAhead, match='after the bar'): s.push('2020-01-02', [1, 2])
    shift[0] = -day
    with pytest.raises(BadData, match='before the bar'): s.push('2020-01-02', [1, 2])
    shift[0] = 0
    assert s.rows == 0 and len(s.push('2020-01-02', [1, 2])) == 1


# ---- memory, snapshots, kills

def test_memory_does_not_grow_with_the_bars():
    rng = np.random.default_rng(0)
    stream = StreamingCorrelation([f'S{i}' for i in range(20)], window=30, top=3, every=2)
    def run(first, bars):
        for i in range(first, first + bars): stream.push(i * 10**9, 100 + rng.random(20))
    run(0, 200)
    size = len(b''.join(v.tobytes() for v in stream.snapshot().values() if isinstance(v, np.ndarray)))
    tracemalloc.start()
    held = tracemalloc.get_traced_memory()[0]
    run(200, 2_000)
    grown = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    assert grown < 100_000 and len(stream.closes) == 31, grown
    assert size == len(b''.join(v.tobytes() for v in stream.snapshot().values() if isinstance(v, np.ndarray)))


@given(seed=SEED, at=st.integers(0, 90), every=st.integers(1, 5))
@FEW
def test_a_snapshot_at_any_bar_goes_on_as_if_nothing_had_happened(tmp_path_factory, seed, at, every):
    bars, path = gappy(seed), tmp_path_factory.getbasetemp() / 'any.snapshot'
    make = lambda: StreamingCorrelation(names(bars), window=20, top=3, every=every, kind='ewma', fields=('news',))
    news = make_events([0, 2], [1, 3], bars.index[[30, 80]], np.ones((2, 1)), names(bars), ['news'])
    whole, again = make(), make()
    whole.push_events(news)
    if at: replay(whole, bars.iloc[:at])
    digest = whole.save(path)
    again.load(path)
    assert state_of(again) == state_of(whole) and again.save(path) == digest and again.rows == at
    if at < 90: assert same(replay(whole, bars.iloc[at:]), replay(again, bars.iloc[again.rows:]))


def test_a_snapshot_does_not_change_with_the_stream_it_was_taken_from():
    bars = gappy(1)
    a = StreamingCorrelation(names(bars), window=20)
    replay(a, bars.iloc[:40])
    snap = a.snapshot()
    b = StreamingCorrelation(names(bars), window=20).restore(snap)
    rest = replay(a, bars.iloc[40:])
    assert (same(rest, replay(b, bars.iloc[40:]))
            and same(rest, replay(StreamingCorrelation(names(bars), window=20).restore(snap), bars.iloc[40:])))


def test_a_snapshot_of_another_stream_is_refused_and_changes_nothing(tmp_path):
    bars = gappy(1)
    base = dict(window=20, top=2, every=3)
    s, path = StreamingCorrelation(names(bars), **base), tmp_path / 'a.snapshot'
    replay(s, bars.iloc[:30])
    s.save(path)
    for message, kw in {'window=20': dict(window=21), 'top=2': dict(top=3), 'every=3': dict(every=4),
                        "kind='rolling'": dict(kind='ewma'), 'min_abs=0.0': dict(min_abs=.1),
                        'fields=': dict(fields=('news',))}.items():
        other = StreamingCorrelation(names(bars), **{**base, **kw})
        before = state_of(other)
        with pytest.raises(CheckpointMismatch, match=message): other.load(path)
        assert state_of(other) == before
    for symbols in (names(bars)[::-1], [*names(bars)[:5], 'XXX']):
        with pytest.raises(CheckpointMismatch, match='symbols'): StreamingCorrelation(symbols, **base).load(path)
    with pytest.raises(CheckpointMismatch):
        StreamingBuilder(names(bars), correlation_events, depth=21, every=3, window=20).load(path)
    with pytest.raises(CheckpointMismatch, match='no rows'): s.restore({})


def test_a_damaged_snapshot_is_recognised(tmp_path):
    s, path = StreamingCorrelation('ABC', window=5), tmp_path / 'a.snapshot'
    for i in range(8): s.push(i, [1., 2 + i % 2, 3])
    s.save(path)
    good = path.read_bytes()
    for spoilt in (good[:-1], good[:100], b'', good[:200] + bytes([good[200] ^ 1]) + good[201:], b'x' + good,
                   b'{"rows": 3}'):
        path.write_bytes(spoilt)
        with pytest.raises(StoreError, match='snapshot'): s.load(path)
    with pytest.raises(StoreError, match='No such file|no such file'): s.load(tmp_path / 'gone')
    path.write_bytes(good)
    assert s.load(path).rows == 8


def test_a_disk_that_fails_leaves_the_old_snapshot(tmp_path, monkeypatch):
    from gnn_quant.storage import files as store
    s, path = StreamingCorrelation('ABC', window=5), tmp_path / 'a.snapshot'
    for i in range(8): s.push(i, [1., 2 + i % 2, 3])
    s.save(path)
    good = path.read_bytes()
    s.push(8, [1., 2, 3])
    for n in range(1, 5):
        monkeypatch.setattr(store, 'os', FaultyOS(n, full))
        with pytest.raises(StoreError): s.save(path)
        assert path.read_bytes() == good or n == 4 and len(path.read_bytes()) > 0
    monkeypatch.undo()
    assert StreamingCorrelation('ABC', window=5).load(path).rows in (8, 9)


FEED = '''
import os, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_stream import gappy, names
from gnn_quant.graph.stream import StreamingCorrelation
bars, folder = gappy(3, t=400), Path({folder!r})
stream = StreamingCorrelation(names(bars), window=20, top=2, every=3)
if (folder / 'stream').is_file(): stream.load(folder / 'stream')
with open(folder / 'out', 'ab') as out:
    for t, row in zip(bars.index[stream.rows:], bars['Close'].to_numpy()[stream.rows:]):
        e = stream.push(t, row)
        if e is not None:
            for k in range(len(e)): out.write(f'{{e.t[k]}} {{e.src[k]}} {{e.dst[k]}} {{e.msg[k].tobytes().hex()}\
}\\n'.encode())
            out.flush()
        if stream.rows % 5 == 0: stream.save(folder / 'stream')
        print(stream.rows, flush=True)
'''


def test_killed_and_resumed_gives_the_bits_of_the_undisturbed_stream(tmp_path):
    code = FEED.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    for kill_after in (23, 60, 41, None):
        p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
        for seen, line in enumerate(p.stdout, 1):
            if seen == kill_after: os.kill(p.pid, signal.SIGKILL)
        assert p.wait() == (0 if kill_after is None else -signal.SIGKILL)
    whole = correlation_events(gappy(3, t=400), window=20, top=2, every=3)
    want = [f'{t} {s} {d} {m.tobytes().hex()}' for s, d, t, m in zip(whole.src, whole.dst, whole.t, whole.msg)]
    got = [line for line in (tmp_path / 'out').read_text().split('\n')
           if line.count(' ') == 3 and len(line) == len(line.rstrip())]
    assert list(dict.fromkeys(got)) == want and len(got) > len(want), (
        'the tail after the last snapshot is repeated, bit for bit, and nothing else is there')


# ---- ticks

def ticks(seed, m=3_000, n=5, minutes=40, shuffle=3):
    "Ticks nearly in order, some far too late, some of nonsense"
    rng = np.random.default_rng(seed)
    t = (np.sort(rng.integers(0, minutes * 60, m)) * 10**9 + rng.integers(-shuffle, shuffle + 1, m) * 10**9
         + instants(pd.DatetimeIndex(['2020-01-02 09:30']))[0])
    who, price = rng.integers(0, n, m), 100 + rng.normal(size=m).cumsum() / 30
    t[rng.integers(0, m, 20)] -= 900 * 10**9
    t[rng.integers(0, m, 3)] = np.iinfo(np.int64).min
    price[rng.integers(0, m, 20)] = rng.choice([0., -1., np.nan, np.inf], 20)
    who[rng.integers(0, m, 5)] = rng.choice([-1, n, 99], 5)
    return t, who, price


def reference(t, who, price, n, interval):
    "One tick after the other in plain Python: which are good, and the closed bars"
    start = end = None
    good, why, bars, now = np.zeros(len(t), bool), [], [], {}
    for i, (x, w, p) in enumerate(zip(t.tolist(), who.tolist(), price.tolist())):
        r = (2 if not 0 < p < np.inf else 3 if not 0 <= w < n else 4 if x == np.iinfo(np.int64).min else 1
             if start is not None and x < start else 0)
        why.append(r)
        if r: continue
        good[i] = True
        if end is None or x >= end:
            if now: bars.append((end, [now.get(k, (0, np.nan))[1] for k in range(n)]))
            start, now = x // interval * interval, {}
            end = start + interval
        if w not in now or x >= now[w][0]: now[w] = (x, p)
    bars.append((end, [now.get(k, (0, np.nan))[1] for k in range(n)]))
    return good, np.bincount(why, minlength=len(TICK_REASONS)), bars


@given(seed=SEED, size=st.sampled_from([1, 7, 1000, 5000]), interval=st.sampled_from(['10s', '1min', '7min']),
       carry=st.integers(0, 3), shuffle=st.sampled_from([0, 3, 90]))
@FEW
def test_tick_bars_equal_pandas_and_a_plain_loop(seed, size, interval, carry, shuffle):
    t, who, price = ticks(seed, shuffle=shuffle)
    b = TickBars('ABCDE', interval, carry=carry)
    rows = ([r for i in range(0, len(t), size) for r in b.push(t[i:i + size], who[i:i + size], price[i:i + size])]
            + b.clock('2020-01-03'))
    good, counts, plain = reference(t, who, price, 5, pd.Timedelta(interval).value)
    batch = resample_ticks(t[good], who[good], price[good], 'ABCDE', interval, carry)
    assert [x for x, _ in rows] == instants(batch.index).tolist() == [x for x, _ in plain]
    assert np.array_equal(np.stack([r for _, r in rows]), batch['Close'].to_numpy(), equal_nan=True)
    if not carry: assert np.array_equal(np.stack([r for _, r in rows]), np.array([r for _, r in plain]), equal_nan=True)
    counts[0] = 0
    assert b.counts.tolist() == counts.tolist() and len(quarantine(b)) == counts.sum()


@given(seed=SEED, at=st.integers(0, 3_000), carry=st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_ticks_to_edges_equal_the_batch_and_survive_a_snapshot_anywhere(tmp_path_factory, seed, at, carry):
    t, who, price = ticks(seed)
    good, _, _ = reference(t, who, price, 5, 30 * 10**9)
    make = lambda: TickGraph(TickBars('ABCDE', '30s', carry=carry),
                             StreamingCorrelation('ABCDE', window=8, top=2, every=2, fields=('news',)))
    news = make_events([0], [1], pd.DatetimeIndex(['2020-01-02 09:50']), [[1.]], 'ABCDE', ['news'])
    a, b, path = make(), make(), tmp_path_factory.getbasetemp() / 'ticks.snapshot'
    a.graph.push_events(news)
    head = [a.push(t[:at], who[:at], price[:at])]
    a.save(path)
    b.load(path)
    assert state_of(a) == state_of(b) and quarantine(a.bars).equals(quarantine(b.bars))
    tails = [[x.push(t[at:], who[at:], price[at:]), x.clock('2020-01-02 12:00')] for x in (a, b)]
    joined = [merge(a.graph.nothing, *[e for e in head + tail if e is not None]) for tail in tails]
    want = merge(correlation_events(resample_ticks(t[good], who[good], price[good], 'ABCDE', '30s', carry),
                                    window=8, top=2, every=2), news)
    assert same(*joined) and same(joined[0], want)


def test_the_clock_closes_a_bar_and_makes_what_follows_late():
    at = lambda s: pd.DatetimeIndex(['2020-01-02']) + pd.to_timedelta([s], unit='s')
    b = TickBars('AB', '10s')
    assert (b.clock('2020-01-02 00:00:05') == [] and b.push(at(3), [0], [5.]) == []
            and b.clock('2020-01-02 00:00:09.999999999') == [])
    (edge, row), = b.clock('2020-01-02 00:00:10')
    assert pd.Timestamp(edge) == at(10)[0] and row[0] == 5 and np.isnan(row[1])
    assert (b.clock('2020-01-02 00:00:40') == [] and b.push(at(9), [1], [6.]) == []
            and b.push(at(39), [1], [6.]) == [] and b.clock('2020-01-02 00:00:50') == [])
    assert b.push(at(50), [1], [7.]) == [] and quarantine(b)['reason'].tolist() == [TICK_REASONS[1]] * 2
    assert b.clock('2020-01-01') == [] and [e for e, _ in b.clock('2020-01-03')] == [at(60)[0].value]
    with pytest.raises(BadParams, match='naive'): b.clock(pd.NaT)


def test_a_clock_from_the_far_future_does_not_take_the_stream_along():
    at = lambda *s: pd.DatetimeIndex(['2020-01-02'] * len(s)) + pd.to_timedelta(s, unit='s')
    b = TickBars('A', '10s', jump='1h')
    assert b.push(at(1, 10**8, 2), [0, 0, 0], [5., 6, 7]) == []
    assert quarantine(b)['reason'].tolist() == [TICK_REASONS[5]] and b.close.tolist() == [7]
    assert len(b.clock('2020-01-05')) == 1 and b.push(at(10**8), [0], [6.]) == [] and b.counts.sum() == 1
    free = TickBars('A', '10s')
    assert (len(free.push(at(1, 10**8, 2), [0, 0, 0], [5., 6, 7])) == 1
            and quarantine(free)['reason'].tolist() == [TICK_REASONS[1]])


def test_a_refused_tick_does_not_move_the_clock():
    at = lambda *s: pd.DatetimeIndex(['2020-01-02'] * len(s)) + pd.to_timedelta(s, unit='s')
    b = TickBars('AB', '10s')
    assert b.push(at(1, 500, 600, 2), [0, 0, 7, 1], [5., -1, 6, 7]) == [] and b.close.tolist() == [5, 7]


def test_the_quarantine_is_bounded_and_counts_all():
    b = TickBars('A', '10s', keep=5)
    b.push(np.zeros(50, np.int64), np.zeros(50, int), np.full(50, -1.))
    assert len(quarantine(b)) == 5 and b.counts.tolist() == [0, 0, 50, 0, 0, 0]


def test_ticks_of_other_kinds_are_refused_and_change_nothing():
    b, now = TickBars('AB', '10s'), pd.DatetimeIndex(['2020-01-02'])
    b.push(now, [0], [5])
    before = state_of(b)
    for bad in ((now, ['A'], [5.]), (now, [0], ['5']), (now, [0.], [5.]), ([1.5], [0], [5.]), (now, [0, 1], [5.]),
                (now.to_numpy()[:, None], [[0]], [[5.]]), (now, [True], [5.]), (['x'], [0], [5.])):
        with pytest.raises(BadData, match='ticks'): b.push(*bad)
        assert state_of(b) == before
    assert b.push([], [], []) == [] and check_ticks(now.as_unit('s'), [0], [1])[0][0] == now.as_unit('ns').asi8[0]
    for kw in (dict(interval='0s'), dict(interval='-1s'), dict(interval='soon'), dict(interval=None),
               dict(interval='1s', carry=-1), dict(interval='1s', jump='x'), dict(interval='1s', keep=.5)):
        with pytest.raises(BadParams): TickBars('AB', **kw)
    with pytest.raises(BadData, match='different symbols'): TickGraph(TickBars('AB', '1s'), StreamingCorrelation('ABC'))


def test_a_tick_snapshot_of_another_clock_is_refused_whole():
    make = lambda **kw: TickGraph(TickBars('AB', **{**dict(interval='10s'), **kw}),
                                  StreamingCorrelation('AB', window=5))
    a, now = make(), pd.DatetimeIndex(['2020-01-02'])
    a.push(now, [0], [5.])
    with pytest.raises(CheckpointMismatch, match='interval'): make(interval='20s').restore(a.snapshot())
    other = TickGraph(TickBars('AB', '10s'), StreamingCorrelation('AB', window=6))
    before = state_of(other)
    with pytest.raises(CheckpointMismatch, match='window=5'): other.restore(a.snapshot())
    assert state_of(other) == before
