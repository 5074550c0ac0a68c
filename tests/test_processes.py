"Forked processes: results, errors, and nothing left running"
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gnn_quant.core import BadParams, RunFailed
from gnn_quant.processes import fork_map, how_many


def test_results_come_from_other_processes_with_their_positions():
    found = dict(fork_map(lambda x: (x * 2, os.getpid()), [5, 6, 7], jobs=2))
    assert [found[i][0] for i in range(3)] == [10, 12, 14] and os.getpid() not in {v[1] for v in found.values()}
    assert list(fork_map(lambda x: os.getpid(), [1, 2], jobs=1)) == [(0, os.getpid()), (1, os.getpid())]
    assert list(fork_map(lambda x: x, [], jobs=2)) == []


def test_inputs_are_found_and_not_sent():
    big, unpicklable = np.arange(10**6), lambda x: x + 1
    assert dict(fork_map(lambda i: int(unpicklable(big[i])), [3, 4], jobs=2)) == {0: 4, 1: 5}


def test_maps_may_be_nested_and_repeated():
    def inner(x): return sum(dict(fork_map(lambda y: x * y, [1, 2], jobs=1)).values())
    for _ in range(2): assert dict(fork_map(inner, [1, 10], jobs=2)) == {0: 3, 1: 30}


def test_an_error_is_raised_as_it_is_and_a_killed_process_is_named():
    def fails(x): raise BadParams(f'{x} is no use')
    with pytest.raises(BadParams, match='is no use'): list(fork_map(fails, [1, 2], jobs=2))
    with pytest.raises(RunFailed, match='some work.*killed.*jobs=1'):
        list(fork_map(lambda x: os.kill(os.getpid(), signal.SIGKILL), [1, 2], jobs=2, what='some work'))
    assert dict(fork_map(lambda x: x, [1, 2], jobs=2)) == {0: 1, 1: 2}, 'the next one starts from nothing'


def test_jobs():
    assert 1 <= how_many(0) <= 2 and how_many(5) == 5
    with pytest.raises(BadParams): how_many(-1)


def running(pid):
    try: return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError: return False


def test_forks_end_with_a_parent_that_is_killed():
    code = """
import os, time
from gnn_quant.processes import fork_map
def work(x): return os.getpid() if x < 2 else time.sleep(600)
for _, pid in fork_map(work, [0, 1, 2, 3], jobs=2): print(pid, flush=True)
"""
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    forks = {int(parent.stdout.readline()) for _ in range(2)}
    assert all(running(p) for p in forks)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while any(running(p) for p in forks) and time.monotonic() < end: time.sleep(.05)
    assert not any(running(p) for p in forks)
