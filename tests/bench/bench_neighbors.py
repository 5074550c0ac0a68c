"""Neighbour look-ups per second: ours beside a bisect loop as in DyGLib, PyG's LastNeighborLoader,
and hops without de-duplication. Run: python tests/bench/bench_neighbors.py"""
import argparse
import bisect
import os
from pathlib import Path

import numba
import numpy as np
import pandas as pd

from _bench import ratio, seconds, table
from gnn_quant.data.events import make_events, take, to_temporal_data
from gnn_quant.graph.sampling.loader import batches
from gnn_quant.graph.sampling.neighbors import NeighborIndex, distinct, multi_hop

DAY = 86_400 * 10**9


def panel(n, k=30, batches_=40, seed=0):
    "Every node is informed by k others at each of the refreshes"
    rng = np.random.default_rng(seed)
    dst = np.tile(np.repeat(np.arange(n), k), batches_)
    src = (dst + rng.integers(1, n, len(dst))) % n
    return make_events(src, dst, np.repeat(np.arange(batches_), n * k) * DAY, np.zeros((len(dst), 1)),
                       [f'S{i}' for i in range(n)], ['x'])


def uci():
    "CollegeMsg, or None where the folder of data sets is absent"
    path = (Path(os.environ.get('GNNQ_BENCH_DATA') or Path(__file__).parents[3] / 'shared/data')
            / 'uci_messages/CollegeMsg.txt')
    if not path.is_file():
        print('uci_messages is not there (set GNNQ_BENCH_DATA): its rows are left out')
        return None
    df = pd.read_csv(path, sep=' ', header=None)
    df = df[df[0] != df[1]]
    who = np.unique(df[[0, 1]])
    src, dst = (np.searchsorted(who, df[i]) for i in (0, 1))
    return make_events(src, dst, df[2].to_numpy() * 10**9, np.zeros((len(df), 1)), [str(w) for w in who], ['x'])


class Loop:
    "A list a node, bisect, and a slice: one query at a time, as the public TGAT codes do it"
    def __init__(self, e, both=False):
        self.t, self.by, self.id = ([[] for _ in e.symbols] for _ in range(3))
        for i, (s, d, t) in enumerate(zip(e.src.tolist(), e.dst.tolist(), e.t.tolist())):
            for a, b in ((s, d), (d, s))[:1 + both]:
                self.t[b].append(t)
                self.by[b].append(a)
                self.id[b].append(i)
        self.t, self.by, self.id = ([np.array(x, dtype=np.int64) for x in part] for part in (self.t, self.by, self.id))
        self.rng = np.random.RandomState(0)

    def ask(self, nodes, times, k, uniform=False):
        nbr, ids, when = (np.zeros((len(nodes), k), np.int64) for _ in range(3))
        for q, (n, t) in enumerate(zip(nodes.tolist(), times.tolist())):
            c = bisect.bisect_left(self.t[n], t)
            if uniform and c:
                at = np.sort(self.rng.randint(0, c, k))
                nbr[q], ids[q], when[q] = self.by[n][at], self.id[n][at], self.t[n][at]
            elif c:
                m = min(c, k)
                nbr[q, k - m:], ids[q, k - m:], when[q, k - m:] = (self.by[n][c - m:c], self.id[n][c - m:c],
                                                                   self.t[n][c - m:c])
        return nbr, ids, when

    def hops(self, nodes, times, k, hops):
        for _ in range(hops):
            nbr, _, when = self.ask(nodes, times, k)
            nodes, times = np.r_[nodes, nbr.ravel()], np.r_[times, when.ravel()]
        return nodes, times


def questions(e, q, order, seed=1):
    "As a panel or an epoch asks them, in the order of time; or at random"
    rng = np.random.default_rng(seed)
    nodes, times = rng.integers(0, len(e.symbols), q), rng.integers(e.t[0] + (e.t[-1] - e.t[0]) // 4, e.t[-1] + 1, q)
    return (nodes, np.sort(times)) if order == 'by time' else (nodes, times)


def on_threads(n, f):
    "A call with so many threads allowed"
    import torch
    def g():
        numba.config.NUMBA_NUM_THREADS = n
        torch.set_num_threads(n)
        try: return f()
        finally:
            numba.config.NUMBA_NUM_THREADS = 1
            torch.set_num_threads(1)
    return g


def large(f, q, repeats):
    "Queries a second in one large call, on one thread and on two"
    one, two = f(), on_threads(2, f)()
    if not all((getattr(one, x) == getattr(two, x)).all() for x in ('nbr', 't', 'event', 'mask')):
        raise SystemExit('two threads find other neighbours than one')
    return dict(ours_many=q / seconds(on_threads(1, f), repeats),
                ours_many_2_threads=q / seconds(on_threads(2, f), repeats))


def look_ups(name, e, both, q, repeats, ks=(10, 30)):
    ix, loop, n = NeighborIndex(e, both), Loop(e, both), len(e.symbols)
    nodes, times = questions(e, 300, 'by time')
    a, b = ix.recent(nodes, times, 10), loop.ask(nodes, times, 10)
    if not (np.where(a.mask, a.event, 0) == b[1][:, ::-1]).all():
        raise SystemExit('the two sides do not find the same neighbours')
    rows = []
    for k in ks:
        for order in ('by time', 'at random'):
            few, many = questions(e, 20_000, order), questions(e, q, order)
            r = ratio(f'recent, k={k}, {order}', n, lambda: ix.recent(*few, k), lambda: loop.ask(*few, k),
                      'queries/s', 20_000, repeats)
            rows.append(dict(r, graph=name, peer_is='bisect loop', **large(lambda: ix.recent(*many, k), q, repeats)))
    few, many = questions(e, 20_000, 'by time'), questions(e, q, 'by time')
    r = ratio('uniform, k=10, by time', n, lambda: ix.uniform(*few, 10, 1), lambda: loop.ask(*few, 10, True),
              'queries/s', 20_000, repeats)
    rows.append(dict(r, graph=name, peer_is='bisect loop, with replacement',
                     **large(lambda: ix.uniform(*many, 10, 1), q, repeats)))
    return rows


def no_dedup(ix, nodes, times, k, hops):
    for _ in range(hops):
        f = ix.recent(nodes, times, k)
        nodes, times = np.r_[nodes, np.where(f.mask, f.nbr, nodes[:, None]).ravel()], np.r_[times, f.t.ravel()]
    return nodes, times


def several_hops(name, e, both, repeats, k=20, hops=2):
    ix, loop, n = NeighborIndex(e, both), Loop(e, both), len(e.symbols)
    at = np.arange(len(e) - 200, len(e))
    nodes, times = np.r_[e.src[at], e.dst[at], (e.dst[at] + 1) % n].astype(np.int64), np.tile(e.t[at], 3)
    states = len(multi_hop(ix, nodes, times, k, hops).nodes)
    note = dict(graph=name, states=states, states_peer=len(no_dedup(ix, nodes, times, k, hops)[0]))
    r = ratio(f'{hops} hops, k={k}, 600 queries', n, lambda: multi_hop(ix, nodes, times, k, hops),
              lambda: no_dedup(ix, nodes, times, k, hops), 'queries/s', 600, repeats)
    s = ratio(f'{hops} hops, k={k}, 600 queries', n, lambda: multi_hop(ix, nodes, times, k, hops),
              lambda: loop.hops(nodes, times, k, hops), 'queries/s', 600, 3)
    return [dict(r, peer_is='ours without de-duplication', **note), dict(s, peer_is='bisect loop', **note)]


def by_unique(nodes, times):
    clock, code = np.unique(times, return_inverse=True)
    width = int(nodes.max(initial=0)) + 1
    pair, place = np.unique(code * width + nodes, return_inverse=True)
    return pair % width, clock[pair // width], place


def pairs(repeats, m=250_000):
    rng, rows = np.random.default_rng(0), []
    for name, nodes, times in ((
        ('10 k different', rng.integers(0, 500, m), rng.integers(0, 20, m) * DAY),
        ('nearly all different', rng.integers(0, 1899, m), rng.integers(0, 10**9, m) * 1000))):
        if not all((a == b).all() for a, b in zip(distinct(nodes, times), by_unique(nodes, times))):
            raise SystemExit('the two sides do not find the same pairs')
        rows.append(dict(ratio(f'distinct, {name}', m, lambda: distinct(nodes, times),
                               lambda: by_unique(nodes, times), 'pairs/s', m, repeats), peer_is='np.unique twice'))
    return rows


def as_pyg(name, e, size, k, repeats):
    "One pass over the stream in batches: who were the last k, then take the batch in"
    import torch
    from torch_geometric.nn.models.tgn import LastNeighborLoader
    parts, d, n = [np.unique(np.r_[b.src, b.dst]) for b in batches(e, size)], to_temporal_data(e), len(e.symbols)
    first = [int(b.t[0]) for b in batches(e, size)]
    tensors = [torch.from_numpy(p) for p in parts]
    news = [take(e, slice(i, i + size)) for i in range(0, len(e), size)]
    pairs = [(d.src[i:i + size], d.dst[i:i + size]) for i in range(0, len(e), size)]
    def ours():
        ix = NeighborIndex(take(e, slice(0, 0)), both_ways=True)
        for p, t, new in zip(parts, first, news):
            ix.recent(p, np.full(len(p), t), k)
            ix.append(new)
    def theirs():
        last = LastNeighborLoader(n, k)
        for p, new in zip(tensors, pairs):
            last(p)
            last.insert(*new)
    r = ratio(f'stream in batches of {size}: look up and append, k={k}', n, ours, theirs, 'queries/s',
              sum(map(len, parts)), repeats)
    built = NeighborIndex(e, both_ways=True)
    whole = seconds(lambda: [built.recent(p, np.full(len(p), t), k) for p, t in zip(parts, first)], repeats)
    return [dict(r, graph=name, peer_is='LastNeighborLoader', ours_many=sum(map(len, parts)) / whole)]


def size_of(name, e, both):
    ix = NeighborIndex(e, both)
    held = sum(a.nbytes for a in (ix.slab, ix.start, ix.count, ix.room))
    return dict(case='build', n=len(e.symbols), ours=len(e) / seconds(lambda: NeighborIndex(e, both), 3),
                unit='events/s', graph=name, bytes_per_event=round(held / len(e), 1))


def main(sizes=(50, 500, 5_000), q=200_000, repeats=7):
    import torch
    torch.set_num_threads(1)
    numba.config.NUMBA_NUM_THREADS = 1
    rows, real = pairs(repeats), uci()
    for n in sizes:
        e = panel(n)
        rows += [size_of('panel', e, False), *look_ups('panel', e, False, q, repeats),
                 *several_hops('panel', e, False, repeats)]
    if real is not None:
        rows += [size_of('uci', real, True), *look_ups('uci', real, True, q, repeats, (10, 20)),
                 *several_hops('uci', real, True, repeats), *as_pyg('uci', real, 200, 10, 3)]
    table('bench_neighbors', rows, '1 thread on both sides, except ours_many_2_threads (the peers can use one); '
          'panel = 30 neighbours x 40 refreshes for each node; '
          f'ours_many = ours in one call of {q:,} queries, or on a built index; the same answers on 2 threads')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='smallest size only')
    a = p.parse_args()
    main((50,) if a.quick else (50, 500, 5_000), 50_000 if a.quick else 200_000, 3 if a.quick else 7)
