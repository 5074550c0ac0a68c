"Files that are old or new and never half: under full disks, kills at every system call, damage and many writers"
import errno
import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _faults import FaultyOS, full, read_only
from hypothesis import HealthCheck, given, settings, strategies as st

from gnn_quant.storage import files as store
from gnn_quant.core import BadData, StoreError, frame_hash, toy_bars

HERE = Path(__file__).parent


@pytest.fixture
def bars(): return toy_bars(n=3, t=20)


def temporaries(folder): return list(Path(folder).rglob('.gnnq-*.tmp'))


def calls_of(work):
    "How many watched system calls a piece of work makes"
    watch = FaultyOS(0, None)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(store, 'os', watch)
        work()
    return watch.seen


def frames():
    index = st.integers(0, 12).map(lambda n: pd.date_range('2019-12-28', periods=n, name='date'))

    @st.composite
    def frame(draw):
        idx = draw(index)
        names = draw(st.lists(st.text(min_size=1, max_size=6).filter(lambda s: s.isprintable()), min_size=1,
                              max_size=4, unique=True))
        kinds = [st.floats(allow_infinity=True), st.integers(-2**63, 2**63 - 1), st.booleans(),
                 st.text(max_size=5).filter(str.isprintable)]
        dtypes = ['float64', 'int64', 'bool', 'str']
        cols = {}
        for n in names:
            k = draw(st.integers(0, 3))
            cols[n] = pd.Series(draw(st.lists(kinds[k], min_size=len(idx), max_size=len(idx))), index=idx,
                                dtype=dtypes[k])
        x = pd.DataFrame(cols, index=idx)
        if draw(st.booleans()):
            x.columns = pd.MultiIndex.from_product([['Close'], x.columns], names=['field', 'symbol'])
        return x
    return frame()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=frames())
def test_any_frame_comes_back_the_same(tmp_path, x):
    h = store.write_frame(x, tmp_path / 'x.parquet')
    back = store.read_frame(tmp_path / 'x.parquet', h)
    assert (h == frame_hash(store.one_nan(x)) == frame_hash(back) and back.columns.equals(x.columns)
            and back.columns.names == x.columns.names and back.index.name == 'date')


def test_a_nan_made_by_dividing_is_a_nan(tmp_path, bars):
    x, y = bars.copy(), bars.copy()
    x.iloc[3, 2], y.iloc[3, 2] = -np.nan, np.nan
    assert store.save(tmp_path, 'toy', x, '2020-01-28', 's') == store.save(tmp_path, 'toy', y, '2020-01-28', 's')
    assert store.load(tmp_path, 'toy')[0].iloc[3].isna().sum() == 1


@pytest.mark.parametrize('unit', ['s', 'ms', 'us', 'ns'])
def test_index_units_and_multiindex_columns(tmp_path, bars, unit):
    x = bars.set_axis(bars.index.as_unit(unit))
    assert store.write_frame(x, tmp_path / 'x.parquet') == frame_hash(bars)
    back = store.read_frame(tmp_path / 'x.parquet')
    assert (isinstance(back.columns, pd.MultiIndex) and back.columns.names == ['field', 'symbol']
            and isinstance(back.index, pd.DatetimeIndex))
    assert unit == 's' or back.index.unit == unit, 'Parquet has no seconds'
    pd.testing.assert_frame_equal(back.set_axis(back.index.as_unit(unit)), x, check_freq=False)


def test_bytes_are_the_same_twice(tmp_path, bars):
    store.write_frame(bars, tmp_path / 'a.parquet')
    marked = bars.copy()
    marked.attrs['where'] = object()
    store.write_frame(marked, tmp_path / 'b.parquet')
    assert (tmp_path / 'a.parquet').read_bytes() == (tmp_path / 'b.parquet').read_bytes()
    assert 'where' in marked.attrs


@pytest.mark.parametrize('bad', [pd.DataFrame({'a': [1, 'x']}), pd.DataFrame([[1, 2]], columns=['a', 'a']),
                                 pd.Series([1.]), pd.DataFrame({'a': [object()]}), [1]])
def test_what_parquet_cannot_hold_is_refused_before_writing(tmp_path, bad):
    with pytest.raises(BadData): store.write_frame(bad, tmp_path / 'x.parquet')
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings('ignore:The DataFrame has column names of mixed type')
@pytest.mark.parametrize('bad', [pd.DataFrame({1: [1.], 'a': [2.]}), pd.DataFrame({'a': [(1, 2)]})])
def test_what_would_come_back_changed_is_refused_before_writing(tmp_path, bad):
    with pytest.raises(BadData, match='come back changed'): store.write_frame(bad, tmp_path / 'x.parquet')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('fault,word', [(full, 'no space left'), (read_only, 'read-only')])
def test_the_nth_call_fails(tmp_path, monkeypatch, fault, word):
    path = tmp_path / 'deep/er/note.txt'
    store.write_text('old', path)
    n = calls_of(lambda: store.write_text('new', path))
    assert n >= 6
    for at in range(1, n + 1):
        store.write_text('old', path)
        with monkeypatch.context() as m:
            m.setattr(store, 'os', FaultyOS(at, fault))
            with pytest.raises(StoreError, match=word) as e: store.write_text('new', path)
        assert str(path) in str(e.value) and path.read_text() in ('old', 'new') and not temporaries(tmp_path), at
        assert e.value.__cause__.errno in (errno.ENOSPC, errno.EROFS)


def test_the_nth_call_fails_while_a_version_is_saved(tmp_path, monkeypatch, bars):
    n = calls_of(lambda: store.save(tmp_path / 'count', 'toy', bars, '2020-01-28', 'simulated'))
    for at in range(1, n + 1):
        root = tmp_path / str(at)
        store.save(root, 'toy', bars.iloc[:9], '2020-01-13', 'simulated')
        with monkeypatch.context() as m:
            m.setattr(store, 'os', FaultyOS(at, full))
            try: store.save(root, 'toy', bars, '2020-01-28', 'simulated')
            except StoreError: pass
        x, e = store.load(root, 'toy')
        assert len(x) == e.rows in (9, 20)
        assert (store.save(root, 'toy', bars, '2020-01-28', 'simulated').rows == 20
                and [v.rows for v in store.catalog(root)] == [9, 20])


KILLS = textwrap.dedent('''
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from _faults import FaultyOS, die, in_child
    from gnn_quant.storage import files as store
    path, at = Path(sys.argv[1]) / 'x.json', 0
    old, new = dict(v=1, pad='o' * 5000), dict(v=2, pad='n' * 5000)
    while True:
        at += 1
        store.write_json(old, path)
        def work():
            store.os = FaultyOS(at, die)
            store.write_json(new, path)
        ended = in_child(work)
        assert store.read_json(path) in (old, new), at
        if ended: break
    print(at - 1, len(list(path.parent.glob('.gnnq-*.tmp'))))
''')


def test_killed_between_any_two_calls(tmp_path):
    done = subprocess.run([sys.executable, '-c', KILLS, str(tmp_path), str(HERE)], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    kills, left = map(int, done.stdout.split())
    assert kills >= 6 and left == 0, 'leftovers of killed writers are swept by the next write'


def test_many_writers_leave_one_whole_file(tmp_path):
    texts = [str(i) * 20_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool: list(pool.map(lambda t: store.write_text(t, tmp_path / 'x.txt'), texts * 5))
    assert (tmp_path / 'x.txt').read_text() in texts and not temporaries(tmp_path)


def test_many_savers_lose_no_version(tmp_path, bars):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: store.save(tmp_path, 'toy', bars.iloc[:i], bars.index[i - 1], 'simulated'),
                      range(2, 14)))
    assert sorted(e.rows for e in store.catalog(tmp_path)) == list(range(2, 14))
    for e in store.catalog(tmp_path): assert len(store.load(tmp_path, 'toy', e.version)[0]) == e.rows


@pytest.mark.parametrize('hurt', [lambda b: b'', lambda b: b[:100], lambda b: b[:-10], lambda b: b[len(b) // 2:],
                                  lambda b: b'PAR1' + b'\0' * 200 + b'PAR1', lambda b: b'a,b\n1,2\n'])
def test_damaged_parquet(tmp_path, bars, hurt):
    path = tmp_path / 'x.parquet'
    store.write_frame(bars, path)
    path.write_bytes(hurt(path.read_bytes()))
    with pytest.raises(StoreError, match='damaged.*make it again') as e: store.read_frame(path)
    assert str(path) in str(e.value)


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    path, x = tmp_path / 'x.parquet', toy_bars(n=2, t=5)
    h = store.write_frame(x, path)
    good = path.read_bytes()
    for i in range(0, len(good), 7):
        path.write_bytes(good[:i] + bytes([good[i] ^ 0x55]) + good[i + 1:])
        try: assert frame_hash(store.read_frame(path)) == h, i
        except StoreError: pass


def test_other_content_than_wanted(tmp_path, bars):
    store.write_frame(bars, tmp_path / 'x.parquet')
    with pytest.raises(StoreError, match='wanted 000000000000'): store.read_frame(tmp_path / 'x.parquet', '0' * 64)


def test_a_swapped_version_is_found(tmp_path, bars):
    a, b = (store.save(tmp_path, 'toy', bars.iloc[:5], '2020-01-07', 's'),
            store.save(tmp_path, 'toy', bars, '2020-01-28', 's'))
    (tmp_path / f'toy/{a.version}.parquet').replace(tmp_path / f'toy/{b.version}.parquet')
    with pytest.raises(StoreError, match=f'content {a.version}, wanted {b.version}'): store.load(tmp_path, 'toy')
    assert store.save(tmp_path, 'toy', bars, '2020-01-28', 's') == b
    assert len(store.load(tmp_path, 'toy')[0]) == 20


def test_missing_things(tmp_path, bars):
    with pytest.raises(StoreError, match='no such file'): store.read_frame(tmp_path / 'x.parquet')
    with pytest.raises(StoreError, match='no such file'): store.read_json(tmp_path / 'x.json')
    with pytest.raises(StoreError, match='no such file'): store.file_hash(tmp_path / 'x.json')
    with pytest.raises(StoreError, match='There is: nothing yet'): store.load(tmp_path, 'toy')
    store.save(tmp_path, 'toy', bars, '2020-01-28', 's')
    with pytest.raises(StoreError, match='There is: toy'): store.load(tmp_path, 'tyo')
    with pytest.raises(StoreError, match='unknown'): store.load(tmp_path, 'toy', 'ffff0000')
    with pytest.raises(StoreError, match='unknown'): store.load(tmp_path, 'toy', store.catalog(tmp_path)[0].hash[:3])


def test_a_path_through_a_file(tmp_path):
    (tmp_path / 'a').write_text('x')
    with pytest.raises(StoreError, match='a part of the path is a file'): store.write_text('y', tmp_path / 'a/b/c.txt')


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes everywhere')
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match='no permission.*GNNQ_DATA_DIR'): store.write_text('y', tmp_path / 'c.txt')
    finally: tmp_path.chmod(0o700)


@pytest.mark.parametrize('text', ['', '{', '{"versions": [{"hash": "x"}]}', '{"other": 1}', '[]'])
def test_a_damaged_manifest(tmp_path, bars, text):
    store.save(tmp_path, 'toy', bars, '2020-01-28', 's')
    (tmp_path / 'toy/manifest.json').write_text(text)
    with pytest.raises(StoreError, match='manifest.json.*Restore'): store.load(tmp_path, 'toy')
    with pytest.raises(StoreError, match='manifest.json'): store.save(tmp_path, 'toy', bars, '2020-01-29', 's')


def test_versions(tmp_path, bars):
    a, b = (store.save(tmp_path, 'toy', bars.iloc[:5], '2020-01-07', 's'),
            store.save(tmp_path, 'toy', bars, pd.Timestamp('2020-01-28 16:00'), 's', dict(n=np.int64(3))))
    assert (store.save(tmp_path, 'toy', bars, '2020-02-01', 's') == b and b.asof == '2020-01-28T16:00:00'
            and b.notes == dict(n=3))
    assert store.save(tmp_path, 'toy', bars.iloc[:5], '2020-01-07', 's').hash == a.hash
    assert [e.hash for e in store.catalog(tmp_path)] == [a.hash, b.hash, a.hash], 'newest is what was saved last'
    assert len(list((tmp_path / 'toy').glob('*.parquet'))) == 2 and len(store.load(tmp_path, 'toy')[0]) == 5
    assert [v['rows'] for v in json.loads((tmp_path / 'toy/manifest.json').read_text())['versions']] == [5, 20, 5]


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', '/a', '.hidden', 'a b', 'x' * 101])
def test_names_stay_in_their_folder(tmp_path, bars, name):
    with pytest.raises(BadData, match='not a name'): store.save(tmp_path, name, bars, '2020-01-28', 's')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'x', [dict(a=float('inf')), dict(a=object()), {1: 'a', '1': 'b'}, dict(a=[dict(b={1, 2})]), dict(a=lambda: 0)])
def test_what_json_cannot_say(tmp_path, x):
    with pytest.raises(BadData): store.write_json(x, tmp_path / 'x.json')
    assert not list(tmp_path.iterdir())


def test_json_of_the_usual_things(tmp_path):
    x = dict(a=np.arange(3), b=np.float32(.5), c=(1, 2), d=pd.NaT, e=np.nan, f=True, g=Path('a/b'),
             h=pd.Timestamp('2020-01-02'), i='é')
    store.write_json(x, tmp_path / 'x.json')
    assert (store.read_json(tmp_path / 'x.json')
            == dict(a=[0, 1, 2], b=.5, c=[1, 2], d=None, e=None, f=True, g='a/b', h='2020-01-02T00:00:00', i='é'))
