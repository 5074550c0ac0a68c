"The last event of each partner: against a plain reading, and never from the future"
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams
from gnn_quant.data.events import make_events, merge, take
from gnn_quant.graph.sampling.neighbors import NeighborIndex, multi_hop
from gnn_quant.graph.sampling.distinct import PartnerIndex, once_each
from gnn_quant.graph.relations import typed
from gnn_quant.graph.sampling.per_relation import SlotIndex

NAMES, DAY = tuple('ABCDEFG'), 86_400 * 10**9


def some_events(seed, n=7, e=120, days=12):
    rng = np.random.default_rng(seed)
    dst = rng.integers(0, n, e)
    return make_events((dst + rng.integers(1, n, e)) % n, dst, rng.integers(0, days, e) * DAY,
                       rng.normal(size=(e, 1)), NAMES[:n], ['w'])


def plain(e, node, now, k, reach):
    "The last `reach` events of a node before an instant, the first of each partner"
    at = [i for i in range(len(e)) if e.dst[i] == node and e.t[i] < now][-reach:][::-1]
    first = {}
    for i in at: first.setdefault(e.src[i], i)
    return list(first.values())[:k]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 9), reach=st.integers(1, 30))
def test_it_is_the_first_of_each_partner_looking_back(seed, k, reach):
    e = some_events(seed)
    q = np.random.default_rng(seed).integers(0, 7, 20), np.random.default_rng(seed + 1).integers(0, 14, 20) * DAY
    found = PartnerIndex(NeighborIndex(e), reach).recent(*q, k)
    for i, (node, now) in enumerate(zip(*q)):
        want = plain(e, node, now, k, k * reach)
        m = found.mask[i]
        assert found.event[i][m].tolist() == want and m.sum() == len(want) and not m[len(want):].any()
        assert ((found.nbr[i][m] == e.src[want]).all() and (found.t[i][m] == e.t[want]).all()
                and (found.t[i] <= now).all() and (found.t[i][m] < now).all())
        assert (found.nbr[i][~m] == -1).all() and (found.event[i][~m] == -1).all() and (found.age[i][~m] == 0).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_relations_have_partners_of_their_own(seed):
    a, b = typed(some_events(seed), 'corr'), typed(some_events(seed + 1), 'wiki')
    q = np.arange(7), np.full(7, 9 * DAY)
    both = PartnerIndex(SlotIndex(merge(a, b)), 4).recent(*q, 3)
    for i, one in enumerate((a, b)):
        alone = PartnerIndex(NeighborIndex(one), 4).recent(*q, 3)
        for f in ('nbr', 't', 'mask'): assert np.array_equal(getattr(alone, f), getattr(both, f)[:, 3 * i:3 * i + 3])


def test_it_stands_in_for_an_index_under_several_hops_and_grows():
    e = some_events(3)
    whole, grown = PartnerIndex(NeighborIndex(e)), PartnerIndex(NeighborIndex(e.until(np.datetime64(5 * DAY, 'ns'))))
    grown.append(take(e, e.t > 5 * DAY))
    q = np.arange(7), np.full(7, 11 * DAY)
    a, b = (multi_hop(ix, *q, 3, 2) for ix in (whole, grown))
    assert len(whole) == len(grown) == len(e)
    for r, s in zip(a.rings, b.rings):
        assert np.array_equal(r.found.nbr, s.found.nbr) and np.array_equal(r.nbr, s.nbr)
        for n, m in zip(r.found.nbr, r.found.mask): assert len(set(n[m])) == m.sum()


def test_lonely_nodes_and_empty_graphs_have_empty_slots():
    none = make_events([], [], np.empty(0, np.int64), np.empty((0, 1)), NAMES, ['w'])
    f = PartnerIndex(NeighborIndex(none)).recent(np.arange(7), np.full(7, DAY), 3)
    assert f.nbr.shape == (7, 3) and not f.mask.any()


def test_it_refuses_what_makes_no_sense():
    ix = NeighborIndex(some_events(0))
    for reach in (0, -1, 1.5, True):
        with pytest.raises(BadParams, match='reach'): PartnerIndex(ix, reach)
    with pytest.raises(BadParams, match='k='): PartnerIndex(ix).recent(np.array([0]), np.array([DAY]), 0)
    with pytest.raises(BadData, match='node 9'): PartnerIndex(ix).recent(np.array([9]), np.array([DAY]), 2)
    with pytest.raises(BadParams, match='shares'): once_each(ix.recent(np.array([0]), np.array([DAY]), 5), 2, 2)
