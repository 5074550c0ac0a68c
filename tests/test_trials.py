"Somebody who would rather not have tried: what the ledger of trials still counts, and what it says"
import json
import math
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _runs import place, write
from hypothesis import given, settings as effort, strategies as st

from gnn_quant.storage import journal
from gnn_quant.storage.files import read_json
from gnn_quant.core import BadData, BadParams, JournalBroken, toy_bars
from gnn_quant.evidence import trial_ledger as trials
from gnn_quant.stats.sharpe import moments
from gnn_quant.evidence.trial_ledger import (begin_trial, count, count_trials, end, entries_of, import_trials, recorded,
                                       returns_folder, trial_returns, trials_of)
from gnn_quant.evidence.trial_ledger_check import verify_trials
from gnn_quant.runs import engine
from gnn_quant.runs.engine import run
from gnn_quant.runs.folders import Run, list_runs
from gnn_quant.runs.trials import counted, covered, left_returns, note_start, trial_keys, trials_so_far, verify_ledger

HERE = Path(__file__).parent
DAYS = pd.bdate_range('2020-01-01', periods=120, name='date')


def noise(seed, days=DAYS): return pd.Series(np.random.default_rng(seed).normal(0, .01, len(days)), days)


def tried(path, name, seed=None, **params):
    with recorded(path, name, params, 'bars') as t: t.returns = None if seed is None else noise(seed)
    return t.id


def texts(path): return path.read_text().splitlines(keepends=True)


def heads(path): return path.with_name(path.name + '.head')


@pytest.fixture
def path(tmp_path):
    "Three trials with returns, one that failed, one that was left"
    p = tmp_path / 'reports/trials.jsonl'
    for i in range(3): tried(p, 'a', i, k=i)
    with pytest.raises(ZeroDivisionError), recorded(p, 'b', {}, 'bars'): 1 / 0
    begin_trial(p, 'c', {}, 'bars')
    return p


# ---- counting

def test_counted_before_the_work_and_whatever_becomes_of_it(path):
    c = count(path)
    assert (c.n, c.returns, c.failed, c.abandoned, c.seq, c.head) == (
        5, 3, 1, 1, 9, journal.head(path).hash) and c.effective <= 5
    sharpes = [moments(noise(i)).sharpe for i in range(3)]
    assert c.sharpe_sd == pytest.approx(np.std(sharpes, ddof=1), rel=1e-12)
    before = len(trials_of(entries_of(path)))
    with recorded(path, 'd', {}, 'bars'): assert count(path).n == before + 1, 'not counted while it runs'
    with pytest.raises(KeyboardInterrupt), recorded(path, 'e', {}, 'bars'): raise KeyboardInterrupt
    assert journal.read(path)[-1].body['status'] == 'interrupted' and count(path).failed == 2
    with pytest.raises(BadParams, match='nothing was ever recorded'): count(path.with_name('other.jsonl'))


def test_the_same_trial_again_is_counted_once_unless_it_gives_another_answer(path):
    tried(path, 'a', 0, k=0)
    assert count(path).n == 5 and len(next(t for t in trials_of(entries_of(path)) if t.name == 'a').ids) == 2
    with recorded(path, 'a', dict(k=0), 'bars') as t: t.returns = noise(0) * (1 + 1e-12)
    assert count(path).n == 5, 'the last digits of another machine are no other answer'
    tried(path, 'a', 77, k=0)
    c, x = count(path), trial_returns(path)
    assert c.n == 6 and c.returns == 4 and sum(col.endswith(' (2)') for col in x) == 1
    for same, other in ((dict(), dict(key='other code')), (dict(data='bars'), dict(data='more bars')),
                        (dict(params={}), dict(params=dict(x=1)))):
        n = count(path).n
        begin_trial(path, **dict(name='c', params={}, data='bars') | same)
        assert count(path).n == n
        begin_trial(path, **dict(name='c', params={}, data='bars') | other)
        assert count(path).n == n + 1


def test_no_two_different_trials_can_be_given_one_key(tmp_path):
    p = tmp_path / 'trials.jsonl'
    for k in range(4): begin_trial(p, 'a', dict(k=k), 'bars', key='the same')
    assert count(p).n == 4


def test_every_cell_of_a_grid_counts_also_those_that_were_not_announced(tmp_path):
    p = tmp_path / 'trials.jsonl'
    with recorded(p, 'grid', dict(cost=1), 'bars', cells={k: dict(k=k) for k in range(5)}) as t:
        assert count(p).n == 5
        t.returns = pd.DataFrame({k: noise(k) for k in range(7)})
    assert count(p).n == count(p).returns == 7 and len(list(returns_folder(p).iterdir())) == 1
    with recorded(p, 'one', {}, 'bars') as t:
        t.returns = pd.DataFrame({k: noise(i) for i, k in enumerate(('one', 'two', 'three'))})
    assert count(p).n == 10 and count(p).returns == 10
    with recorded(p, 'one', {}, 'bars') as t:
        t.returns = pd.DataFrame({k: noise(i) for i, k in enumerate(('one', 'two', 'three'))})
    assert count(p).n == 10, 'the same loop again'
    with pytest.raises(BadData, match='one series for 2 trials'), recorded(
        p, 'pair', {}, 'bars', cells=dict(a=1, b=2)) as t:
        t.returns = noise(0)
    assert (count(p).n, count(p).failed) == (12, 2)


def test_stands_for_only_what_began_before_it(tmp_path):
    p = tmp_path / 'trials.jsonl'
    def start(key, *covers):
        journal.append(p, 'start', dict(run='x', id=f'{key}{len(texts(p)) if p.is_file() else 0}',
                                        trials=dict(m=key), covers=list(covers)))
    start('train'); start('back', 'train')
    assert count(p).n == 1
    start('train'); start('back', 'train'); start('back2', 'train')
    assert count(p).n == 2
    start('x', 'y'); start('y', 'x')
    assert count(p).n == 3, 'two that stand for each other are one'
    start('self', 'self'); start('early', 'late'); start('late')
    assert count(p).n == 6, 'nobody stands for himself, or for what comes later'
    journal.append(p, 'start', dict(run='x', id='none', trials={}, covers=['late', 'self', 'y']))
    assert count(p).n == 6, 'a run that is no trial stands for none'


def test_effective_trials_of_copies_strangers_and_other_rows(tmp_path):
    def many(name, frame):
        p = tmp_path / name / 'trials.jsonl'
        with recorded(p, 'grid', {}, 'bars', cells={c: {} for c in frame}) as t: t.returns = frame
        return p
    alone = many('alone', pd.DataFrame({k: noise(k) for k in range(8)}))
    copies = many('copies', pd.DataFrame({k: noise(0) for k in range(8)}))
    assert count(alone).effective > 7 and count(copies).effective < 1.2 and count(copies).n == 8
    late = pd.bdate_range('2021-01-01', periods=120, name='date')
    apart = many('apart', pd.concat([noise(0).rename('a'), noise(1, late).rename('b')], axis=1))
    assert count(apart).effective == pytest.approx(2, abs=.1), 'other rows share nothing'
    for k in range(3): begin_trial(copies, 'unknown', dict(k=k), 'bars')
    assert (count(copies).effective
            == pytest.approx(count(many('c2', pd.DataFrame({k: noise(0) for k in range(8)}))).effective + 3)), (
        'returns that are not known count whole')


@pytest.mark.parametrize('returns', [pd.Series(np.nan, DAYS), noise(0).iloc[:5], pd.Series(.001, DAYS),
                                     noise(0).where(np.arange(120) < 4)])
def test_series_that_say_nothing_count_whole(path, returns):
    with recorded(path, 'dull', {}, 'bars') as t: t.returns = returns
    c = count(path)
    assert (c.n, c.returns, c.abandoned) == (6, 3, 1) and verify_trials(path) == []
    assert c.effective == pytest.approx(trials.effective_trials(trial_returns(path)) + 3)


@pytest.mark.parametrize(
    'returns', [noise(0).replace(noise(0).iloc[3], np.inf), noise(0).iloc[::-1], pd.concat([noise(0)] * 2),
                noise(0).reset_index(drop=True), noise(0).astype(str), noise(0) - 1.5, 'x'])
def test_returns_that_are_none_are_refused_and_the_trial_counts(path, returns):
    with pytest.raises(BadData), recorded(path, 'odd', {}, 'bars') as t: t.returns = returns
    assert (count(path).n, count(path).failed) == (6, 2) and verify_trials(path) == []


def test_holes_in_returns_are_kept(tmp_path):
    p, r = tmp_path / 'trials.jsonl', noise(0).where(np.arange(120) % 3 > 0)
    with recorded(p, 'a', {}, 'bars') as t: t.returns = r
    with recorded(p, 'b', {}, 'bars') as t: t.returns = noise(1).iloc[30:]
    x = trial_returns(p)
    pd.testing.assert_series_equal(x.iloc[:, 0], r, check_names=False, check_freq=False)
    pd.testing.assert_series_equal(x.iloc[30:, 1], noise(1).iloc[30:], check_names=False, check_freq=False)
    assert x.iloc[:30, 1].isna().all() and x.index.equals(DAYS)


def test_a_count_of_another_day_can_be_made_again(path, tmp_path):
    days, frames, other = [count(path)], [trial_returns(path)], tmp_path / 'other/trials.jsonl'
    tried(other, 'there', 20)
    for work in (lambda: tried(path, 'd', 7), lambda: import_trials(path, other),
                 lambda: begin_trial(path, 'e', {}, 'bars'), lambda: tried(path, 'a', 70, k=0)):
        work()
        days.append(count(path))
        frames.append(trial_returns(path))
    assert [c.n for c in days] == [5, 6, 7, 8, 9] and [count(path, c.seq) for c in days] == days
    for c, x in zip(days, frames): pd.testing.assert_frame_equal(trial_returns(path, c.seq), x)
    for seq in (0, -1, days[-1].seq + 1):
        with pytest.raises(JournalBroken, match=f'entry {seq} was asked for'): count(path, seq)


def test_wrong_use_is_named(path):
    for bad in (dict(name=''), dict(data=''), dict(name=3), dict(data=None)):
        with pytest.raises(BadParams): begin_trial(path, **dict(name='a', params={}, data='d') | bad)
    id = begin_trial(path, 'x', {}, 'bars')
    with pytest.raises(BadParams, match='never began'): end(path, id + '0')
    with pytest.raises(BadParams, match='Use one of'): end(path, id, 'great')
    end(path, id, 'failed')
    with pytest.raises(BadParams, match='has ended already .failed'): end(path, id, returns=noise(3))
    assert count(path).failed == 2 and count(path).returns == 3, 'a failure cannot be made good'
    good, id = path.read_bytes(), begin_trial(path, 'y', {}, 'bars')
    with open(path, 'ab') as f: f.write(f'{{"body":{{"id":"{id}","sta'.encode())
    assert end(path, id).seq == 13 and verify_trials(path) == [], 'half a line of a writer that was killed'
    path.write_bytes(good + f'{{"id":"{id}"\n'.encode())
    with pytest.raises(JournalBroken, match='was edited'): end(path, id)
    with pytest.raises(BadParams, match='never began'): end(path.with_name('none.jsonl'), id)


def test_a_journal_of_before_is_read(tmp_path):
    p = tmp_path / 'trials.jsonl'
    journal.append(p, 'start', dict(run='train', id='r1', code='c', config='x', params={},
                                    trials=dict(ridge='k1', tgat='k2'), covers=[]))
    journal.append(p, 'end', dict(run='train', id='r1', status='finished', manifest='m', error=''))
    journal.append(p, 'start', dict(run='ingest', id='r2', trials={}, covers=[]))
    journal.append(p, 'start', dict(run='backtest', id='r3', trials=dict(ridge='k3'), covers=['k1']))
    journal.append(p, 'start', dict(run='search', id='r4', trials=dict(ridge='k4'), covers=[], number=0))
    journal.append(p, 'end', dict(run='search', id='r4', status='pruned', manifest='', error='', value=.1))
    c = count(p)
    assert ((c.n, c.effective, c.returns, c.failed, c.abandoned) == (3, 3., 0, 0, 1) and math.isnan(c.sharpe_sd)
            and verify_trials(p) == [] and trial_returns(p).empty)


# ---- tampering

def test_every_entry_that_is_edited_dropped_or_moved_is_named(path):
    good = texts(path)
    for i in range(len(good)):
        for name, lines in (
                dict(edited=good[:i] + [good[i].replace('"bars"', '"cars"').replace('"status":"', '"status":"un')]
                     + good[i + 1:], dropped=good[:i] + good[i + 1:],
                     moved=good[:i] + good[i + 1:i + 2] + good[i:i + 1] + good[i + 2:], cut=good[:i]).items()):
            if lines == good: continue
            path.write_text(''.join(lines))
            with pytest.raises(JournalBroken): count(path)
            found = verify_trials(path)
            assert len(found) == 1 and ('entry' in found[0] or 'entries' in found[0]), (name, i)
    path.write_text(''.join(good))
    assert verify_trials(path) == []


def swap(a, b):
    x, y = a.read_bytes(), b.read_bytes()
    a.write_bytes(y)
    b.write_bytes(x)


def better(a, b):
    x = pd.read_parquet(a)
    trials.write_frame(x + .01, a)


FILES = dict(lost=(lambda a, b: a.unlink(), 'missing', 1), swapped=(swap, 'changed', 2),
             better=(better, 'changed', 1), other=(lambda a, b: a.write_bytes(b.read_bytes()), 'changed', 1),
             torn=(lambda a, b: a.write_bytes(a.read_bytes()[:-9]), 'changed', 1),
             extra=(lambda a, b: shutil.copy(a, a.with_name('20200101T000000-000000000000-0123456789ab.parquet')),
                    'no entry knows', 1), all=(lambda a, b: shutil.rmtree(a.parent), 'missing', 3))


@pytest.mark.parametrize('how', FILES)
def test_returns_that_are_lost_or_changed_are_named_and_gain_nothing(path, how):
    was, (change, word, n) = count(path), FILES[how]
    change(*sorted(returns_folder(path).iterdir())[:2])
    found, now = verify_trials(path), count(path)
    assert len(found) == n and all(word in f for f in found), found
    assert (now.n == was.n and now.sharpe_sd == was.sharpe_sd and now.effective > was.effective - .15
            and now.returns == was.returns - (n if how != 'extra' else 0))


def test_an_entry_whose_figures_are_not_those_of_its_file(path, monkeypatch):
    monkeypatch.setattr(trials, 'return_facts', lambda r: dict(rows=len(r), sd=.01, sharpe=.001))
    tried(path, 'modest', 50)
    monkeypatch.undo()
    assert any('another Sharpe ratio of modest' in f for f in verify_trials(path))


def test_an_older_copy_is_found_by_what_lies_outside_of_it(path):
    noted, old = journal.head(path), (path.read_bytes(), heads(path).read_bytes())
    id = tried(path, 'unlucky', 9)
    later = journal.head(path)
    assert verify_trials(path, noted.hash) == verify_trials(path, later.hash[:12]) == []
    path.write_bytes(old[0]); heads(path).write_bytes(old[1])
    assert count(path).n == 5, 'the two files hold by themselves'
    assert verify_trials(path) == [f'{next(returns_folder(path).glob(id + "*")).name}: returns that no entry '
                                   'knows. The journal was put back to an older day: restore it.']
    next(returns_folder(path).glob(id + '*')).unlink()
    assert verify_trials(path) == [] and 'rewritten or put back' in verify_trials(path, later.hash)[0], (
        'only a head that was noted elsewhere knows')
    for bad in ('xyz', 'abc', later.hash + '0'):
        with pytest.raises(BadParams, match='hex digits'): verify_trials(path, bad)


def test_ends_without_a_beginning_and_two_ends(path):
    id = journal.read(path)[0].body['id']
    journal.append(path, 'end', dict(run='a', id=id, status='finished'))
    journal.append(path, 'end', dict(run='a', id='nobody', status='finished'))
    assert ([f.split(': ')[1] for f in verify_trials(path)]
            == ['nobody ended and never began', f'{id} had ended before'] and count(path).n == 5)


# ---- several machines

def test_merging_counts_each_trial_once_in_any_direction_and_order(tmp_path):
    a, b, c = (tmp_path / m / 'trials.jsonl' for m in 'abc')
    tried(a, 'x', 1); tried(a, 'both', 2); tried(b, 'both', 2); tried(b, 'y', 3); tried(c, 'z', 4)
    begin_trial(b, 'left', {}, 'bars')
    assert (import_trials(a, b) == 2 and import_trials(a, b) == 0 and import_trials(a, b.parent) == 0
            and len([e for e in journal.read(a) if e.kind == 'merge']) == 1)
    assert import_trials(b, a) == 1 and import_trials(a, b) == 0 and import_trials(b, a) == 0
    assert import_trials(c, a) == 4 and import_trials(a, c) == 1 and import_trials(b, c) == 1
    counts = [count(p) for p in (a, b, c)]
    assert [(k.n, k.returns, k.abandoned, k.failed) for k in counts] == [(5, 4, 1, 0)] * 3 and len(
        {round(k.effective, 9) for k in counts}) == 1 and len({round(k.sharpe_sd, 12) for k in counts}) == 1
    assert all(verify_trials(p) == [] for p in (a, b, c))
    tried(b, 'later', 5)
    assert import_trials(a, b) == 1 and import_trials(c, a) == 1 and count(c).n == 6


def test_a_merged_journal_cannot_be_taken_back(tmp_path):
    a, b = (tmp_path / m / 'trials.jsonl' for m in 'ab')
    tried(a, 'x', 1)
    old = tried(b, 'y', 2) and b.read_bytes(), heads(b).read_bytes()
    tried(b, 'z', 3)
    import_trials(a, b)
    b.write_bytes(old[0]); heads(b).write_bytes(old[1])
    tried(b, 'another story', 4)
    assert count(b).n == 2 and import_trials(a, b) == 1 and count(a).n == 4, 'what was merged stays counted'
    copy = next((tmp_path / 'a/trials.merged').glob('*.jsonl'))
    good = copy.read_bytes()
    for bad in (good.replace(b'"bars"', b'"cars"'), b''.join(good.splitlines(keepends=True)[:1])):
        copy.write_bytes(bad)
        with pytest.raises(JournalBroken): count(a)
        assert verify_trials(a)
    for lost in ([copy], [copy, heads(copy)]):
        for f in lost: f.unlink(missing_ok=True)
        with pytest.raises(JournalBroken): count(a)
        assert verify_trials(a)


def test_bad_journals_are_not_merged(tmp_path):
    a, b = (tmp_path / m / 'trials.jsonl' for m in 'ab')
    tried(a, 'x', 1); tried(b, 'y', 2); tried(b, 'z', 3)
    before = a.read_bytes()
    with pytest.raises(BadParams, match='this very journal'): import_trials(a, a)
    with pytest.raises(BadParams, match='no such journal'): import_trials(a, tmp_path / 'none')
    b.write_text(''.join(texts(b)[1:]))
    with pytest.raises(JournalBroken): import_trials(a, b)
    assert a.read_bytes() == before and count(a).n == 1


def test_a_copied_folder_that_goes_its_own_way(tmp_path):
    a, b = (tmp_path / m / 'trials.jsonl' for m in 'ab')
    tried(a, 'x', 1); tried(a, 'y', 2)
    shutil.copytree(a.parent, b.parent)
    tried(a, 'here', 3); tried(b, 'there', 4)
    assert import_trials(a, b) == 1 and import_trials(b, a) == 1 and count(a).n == count(b).n == 4


def test_a_merge_that_was_cut_short_is_told_and_repeated(tmp_path, monkeypatch):
    a, b = (tmp_path / m / 'trials.jsonl' for m in 'ab')
    tried(a, 'x', 1); tried(b, 'y', 2)
    def lightning(*args, **more): raise SystemError('lightning')
    monkeypatch.setattr(trials, 'append', lightning)
    with pytest.raises(SystemError): import_trials(a, b)
    monkeypatch.undo()
    assert count(a).n == 1 and any('merge again' in f for f in verify_trials(a))
    assert import_trials(a, b) == 1 and verify_trials(a) == []


@effort(max_examples=25, deadline=None)
@given(st.data())
def test_any_history_of_machines_counts_each_key_once(tmp_path_factory, data):
    home = tmp_path_factory.mktemp('machines')
    paths, own = [home / m / 'trials.jsonl' for m in 'abc'], [set(), set(), set()]
    for _ in range(data.draw(st.integers(1, 12))):
        i = data.draw(st.integers(0, 2))
        if data.draw(st.booleans()):
            k = data.draw(st.integers(0, 5))
            begin_trial(paths[i], 'x', dict(k=k), 'bars')
            own[i].add(k)
        elif (j := data.draw(st.integers(0, 2))) != i and paths[j].is_file():
            new = len(own[j] - own[i])
            assert import_trials(paths[i], paths[j]) == new
            own[i] |= own[j]
    for p, keys in zip(paths, own):
        if p.is_file(): assert count_trials(entries_of(p)) == len(keys) and verify_trials(p) == []


# ---- crashes

KILLS = textwrap.dedent('''
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import numpy as np, pandas as pd
    from _faults import FaultyOS, die, in_child
    from gnn_quant.storage import journal
    from gnn_quant.storage import files as store
    from gnn_quant.evidence import trial_ledger as trials
    from gnn_quant.evidence.trial_ledger_check import verify_trials
    path, kills = Path(sys.argv[1]) / 'trials.jsonl', 0
    r = pd.Series(np.random.default_rng(0).normal(0, .01, 60), pd.bdate_range('2020-01-01', periods=60))
    trials.begin_trial(path, 'first', {}, 'bars')
    for at in range(1, 100):
        n, told = trials.count(path).n, Path(sys.argv[1]) / f'told{at}'
        def work():
            journal.os = store.os = FaultyOS(at, die)
            id = trials.begin_trial(path, 'x', dict(at=at), 'bars')
            journal.os = store.os = __import__('os')
            told.write_text('begun')
            journal.os = store.os = FaultyOS(at - 5, die)
            trials.end(path, id, returns=r + at / 1e5)
        ended = in_child(work)
        c = trials.count(path)
        assert verify_trials(path) == [], (at, verify_trials(path))
        assert c.n == n + 1 if told.exists() else c.n in (n, n + 1), at
        if ended:
            assert c.returns >= 1
            break
        kills += 1
    c = trials.count(path)
    print(kills, c.n, c.returns, c.abandoned, len(list(trials.returns_folder(path).glob('*.parquet'))))
''')


def test_killed_at_every_point(tmp_path):
    done = subprocess.run([sys.executable, '-c', KILLS, str(tmp_path), str(HERE)], capture_output=True, text=True,
                          timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    kills, n, returns, abandoned, files = map(int, done.stdout.split())
    assert kills >= 14 and n >= kills - 5 and abandoned == n - returns and files >= returns, done.stdout


MANY = textwrap.dedent('''
    import os, sys
    from pathlib import Path
    import numpy as np, pandas as pd
    from gnn_quant.evidence.trial_ledger import recorded
    path, days = Path(sys.argv[1]) / 'trials.jsonl', pd.bdate_range('2020-01-01', periods=60)
    def work(who):
        for i in range(12):
            with recorded(path, f'w{who}', dict(i=i), 'bars') as t: t.returns = pd.Series(np.random.default_rng([who, \
i]).normal(0, .01, 60), days)
    pids = []
    for who in range(4):
        if (pid := os.fork()) == 0:
            work(who)
            os._exit(0)
        pids.append(pid)
    print([os.waitpid(p, 0)[1] for p in pids])
''')


def test_many_processes_at_a_time(tmp_path):
    done = subprocess.run([sys.executable, '-c', MANY, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert json.loads(done.stdout) == [0] * 4, done.stderr[-2000:]
    c = count(tmp_path / 'trials.jsonl')
    assert (c.n, c.returns, c.abandoned, c.seq) == (48, 48, 0, 96) and verify_trials(tmp_path / 'trials.jsonl') == []


def test_thousands_of_trials_are_counted_in_seconds(tmp_path):
    p, x = tmp_path / 'trials.jsonl', np.random.default_rng(0).normal(0, .01, (120, 2000))
    for k in range(0, 2000, 500):
        with recorded(p, f'sweep{k}', {}, 'bars', cells={f'{k + i}': {} for i in range(500)}) as t:
            t.returns = pd.DataFrame(x[:, k:k + 500], DAYS, [f'{k + i}' for i in range(500)])
    began = time.monotonic()
    c = count(p)
    assert (c.n, c.returns) == (2000, 2000) and time.monotonic() - began < 20


# ---- runs

def put_book(folder, name, equity, start):
    trials.write_frame(equity.to_frame('equity'), folder / f'book.{name}.parquet')
    path = folder / 'ledgers.json'
    starts = read_json(path)['facts']['start'] if path.is_file() else {}
    trials.write_json(dict(facts=dict(start=starts | {name: '' if start is None else start.isoformat()})), path)


def test_returns_of_a_book_are_those_of_its_ledger(tmp_path):
    from gnn_quant.backtest.engine import backtest, ledger_returns
    from gnn_quant.costs import Costs
    from gnn_quant.portfolio.sizing import equal_weight
    from gnn_quant.pipeline.artifacts import Ledgers
    bars = toy_bars(t=80)
    led = backtest(equal_weight(bars).iloc[5:].reindex(bars.index), bars, Costs())
    Ledgers(dict(ridge=led)).save(tmp_path)
    x = left_returns(tmp_path, dict(ridge='k'), 'backtest')
    pd.testing.assert_series_equal(x['ridge'], ledger_returns(led), check_names=False, check_freq=False)
    eq = led.equity.copy()
    eq.iloc[50:] = -1.
    put_book(tmp_path, 'ruined', eq, eq.index[5])
    put_book(tmp_path, 'idle', led.equity, None)
    (tmp_path / 'book.torn.parquet').write_bytes(b'PAR1')
    x = left_returns(tmp_path, dict(ridge='k'), 'backtest')
    assert (list(x) == ['idle', 'ridge', 'ruined'] and x[['idle', 'ruined']].isna().all(axis=None)
            and left_returns(tmp_path / 'none', {}, 'x') is None)


def test_seeds_are_trials_and_a_backtest_of_their_mean_stands_for_one(tmp_path):
    s = place(tmp_path)
    five = trial_keys('c', '1', dict(seed=3, n_seeds=5, models=['tgat', 'ridge']), {}, 'train')
    assert list(five)[:2] == ['tgat, seed 3', 'tgat, seed 4'] and len(set(five.values())) == 10
    assert five['tgat, seed 3'] == trial_keys('c', '1', dict(seed=3, n_seeds=1, models=['tgat']), {}, 'train')['tgat']
    note_start(s, 'train', 't', five, {}, {})
    train = Run(tmp_path, dict(trials=five), 'finished')
    assert covered(dict(train=train), 'tgat') == [five['tgat, seed 3']]
    note_start(s, 'backtest', 'b', dict(tgat='k', ridge='l'), dict(train=train), {})
    assert trials_so_far(s) == 10


def pretend(job, folder, books=(), **frames):
    nb = json.loads(job.notebook.read_text())
    for c in nb['cells']: c['execution_count'] = 1
    (folder / f'{job.name}.ipynb').write_text(json.dumps(nb))
    for i, b in enumerate(books): put_book(folder, b, toy_bars(t=60)['Close'].iloc[:, i % 4], toy_bars().index[2])
    for k, f in frames.items(): trials.write_frame(f, folder / f'{k}.parquet')
    trials.write_json({}, folder / 'metrics.json')
    trials.write_json(dict(asof='2020-01-31', metrics={}, inputs=dict(bars='h'), artefacts={}), folder / 'result.json')


def project(tmp_path, monkeypatch, books=(), fail=False, **frames):
    s = place(tmp_path)
    for name, params in dict(train="models: list[str] = ['a', 'b']",
                             backtest="train_run: str = ''\ncost: float = 0.", study='k: int = 0', ingest='',
                             audit='').items():
        write(s.notebooks_dir, name, "run_dir: str = ''\n" + params, 'x = 1')
    def execute(job, folder, *a):
        pretend(job, folder, books if job.name != 'train' else (), **frames)
        return engine.Failure('broken', 'Error') if fail else None
    monkeypatch.setattr(engine, 'execute', execute)
    return s


def test_a_backtest_leaves_the_returns_of_each_model_and_not_of_the_benchmark(tmp_path, monkeypatch):
    s = project(tmp_path, monkeypatch, ('a', 'b', 'equal_weight'))
    run('train', {}, s, quiet=True)
    run('backtest', {}, s, quiet=True)
    c, last = counted(s), journal.read(s.reports_dir / 'trials.jsonl')[-1].body
    assert (c.n, c.returns) == (2, 2) and set(last['returns']['of']) == {'a', 'b'} and last['inputs'] == dict(
        bars='h') and verify_ledger(s) == []
    run('backtest', {}, s, quiet=True)
    assert counted(s).n == 2
    run('backtest', dict(cost=.1), s, quiet=True)
    assert counted(s).n == 4 and counted(s).effective < 4, 'the same books at another cost: not as many ideas as trials'
    shutil.rmtree(s.reports_dir / 'backtest')
    assert counted(s).n == 4 and counted(s).returns == 4, 'a run folder that is deleted takes nothing with it'


def test_ledgers_nobody_announced_count_whatever_the_notebook_is_called(tmp_path, monkeypatch):
    s = project(tmp_path, monkeypatch, ('fast', 'slow', 'odd'))
    run('study', {}, s, quiet=True)
    assert counted(s).n == counted(s).returns == 3
    run('study', {}, s, quiet=True)
    assert counted(s).n == 3
    run('audit', {}, s, quiet=True)
    assert counted(s).n == 6, 'hidden in a notebook that is not counted'
    with monkeypatch.context() as m:
        again = project(tmp_path, m, ('mine',), fail=True)
        with pytest.raises(Exception): run('study', dict(k=9), again, quiet=True)
    assert (counted(s).n, counted(s).failed, counted(s).returns) == (7, 1, 7), 'a failed run has shown its ledger too'


def test_a_frame_of_returns_is_taken_and_a_bad_one_told(tmp_path, monkeypatch):
    s = project(tmp_path, monkeypatch, returns=pd.DataFrame({'a': noise(0), 'b': noise(1)}))
    run('study', {}, s, quiet=True)
    assert counted(s).n == counted(s).returns == 2
    s = project(tmp_path, monkeypatch, returns=pd.DataFrame({'a': noise(0) - 2}))
    done = run('study', dict(k=1), s, quiet=True)
    assert done.status == 'finished' and counted(s).n == 3 and any('were not kept' in f for f in verify_ledger(s))


def test_a_run_that_the_journal_does_not_know_any_more_is_told(tmp_path, monkeypatch):
    s = project(tmp_path, monkeypatch)
    for name in ('ingest', 'audit'): run(name, {}, s, quiet=True)
    assert trials_so_far(s) == 0, 'these decide nothing'
    run('study', {}, s, quiet=True)
    path = s.reports_dir / 'trials.jsonl'
    kept = path.read_bytes(), heads(path).read_bytes()
    lost = run('study', dict(k=1), s, quiet=True)
    assert verify_ledger(s) == []
    path.write_bytes(kept[0]); heads(path).write_bytes(kept[1])
    assert (verify_trials(path) == [] and [f.split(':')[0] for f in verify_ledger(s)] == [f'study {lost.id}']
            and 'put back to an older day' in verify_ledger(s)[0])


def test_an_interruption_after_the_end_was_written_stays_an_interruption(tmp_path, monkeypatch):
    s = project(tmp_path, monkeypatch)
    def rename(*a): raise KeyboardInterrupt
    monkeypatch.setattr(engine.os, 'rename', rename)
    with pytest.raises(KeyboardInterrupt): run('study', {}, s, quiet=True)
    assert counted(s).n == 1 and [r.status for r in list_runs(s)] == ['interrupted']
