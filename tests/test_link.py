"Link prediction: the public protocol, TGAT equal to the textbook, no look-ahead, and a training that can be killed"
import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from gnn_quant.core import BadData, BadParams, CheckpointMismatch, StoreError
from gnn_quant.data.events import Events, make_events, take
from gnn_quant.graph.sampling.neighbors import distinct
from gnn_quant.models.layers.encoder import Encoder
from gnn_quant.linkpred.train import (LinkNet, LinkSchedule, batch_slices, fit_links, link_loss, score_links,
                                      task_name, train_batch)
from gnn_quant.linkpred.attention import Ties, _age_grad, age_attention, age_attention_plain, check_ties, encode_age
from gnn_quant.linkpred.data import (both_directions, edge_bank, fresh_strangers, link_metrics,
                                     make_link_task, read_contacts, strangers, toy_contacts)
from gnn_quant.linkpred.tgat import Past, TGATEncoder, wire

S = 1_000_000_000
SMALL = dict(width=8, time_dim=6, neighbors=4)


def stream(rows, n=0):
    "Contacts (src, dst, second)"
    src, dst, t = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    n = n or int(max(src.max(), dst.max())) + 1
    return make_events(src, dst, t * S, np.zeros((len(t), 0)), [f'p{i}' for i in range(n)], ())


@pytest.fixture(scope='module')
def task(): return make_link_task(toy_contacts())


def small(**how):
    torch.manual_seed(0)
    return TGATEncoder(**SMALL | how).eval()


def asked(graph, nodes, times, **how):
    enc = small(d_msg=graph.msg.shape[1], **how)
    enc.listen(graph)
    with torch.no_grad(): return enc.embed(np.asarray(nodes, np.int64), np.asarray(times, np.int64))


# reading

def written(tmp_path, text):
    (tmp_path / 'c.txt').write_text(text)
    return tmp_path / 'c.txt'


@pytest.mark.parametrize('line,reason',
                         [('1 1 5', 'self-loop'), ('1 2', '2 columns, not 3'), ('1 2 3 4', '4 columns, not 3'),
                          ('1 2 nan', 'time is not known'), ('1 2 inf', 'time is not known'),
                          ('1 2 soon', 'time is no number'), ('1 2 -5', 'time is not in seconds since 1970'),
                          ('1 2 1082040961000', 'time is not in seconds since 1970')])
def test_a_bad_line_is_set_aside_with_its_reason(tmp_path, line, reason):
    c = read_contacts(written(tmp_path, f'# comment\n1 2 10\n{line}\n\n2 3 11\n'), most_bad=.5)
    assert len(c.events) == 2 and c.quarantine.to_dict('records') == [dict(line=3, text=line, reason=reason)]


def test_lines_out_of_order_are_sorted_and_counted_and_ties_keep_their_order(tmp_path):
    c = read_contacts(written(tmp_path, '1 2 30\n3 4 10\n4 3 10\n1 3 40\n'))
    assert c.moved == 2 and c.events.src.tolist() == [2, 3, 0, 0] and (c.events.t // S).tolist() == [10, 10, 30, 40]
    assert not len(c.quarantine) and c.events.msg.shape == (4, 0)


def test_times_are_exact_and_ids_are_ordered_as_numbers_or_as_text(tmp_path):
    c = read_contacts(written(tmp_path, '10 9 1082040961\n9 10 1082040961.25\n'))
    assert c.events.t.tolist() == [1082040961 * S, 1082040961 * S + S // 4] and c.events.symbols == ('9', '10')
    assert read_contacts(written(tmp_path, '10 b 5\n9 10 6\n')).events.symbols == ('10', '9', 'b')


@pytest.mark.parametrize('text,says', [('', '0 contacts'), ('# only\n', '0 contacts'),
                                       ('a,b,c\n' * 9, '0 contacts, 9 bad lines, first line 1: 1 columns'),
                                       ('1 2 3\n' + 'x\n' * 9, '1 contacts, 9 bad lines')])
def test_another_format_is_refused(tmp_path, text, says):
    with pytest.raises(BadData, match=says): read_contacts(written(tmp_path, text))
    with pytest.raises(BadData, match='no such file'): read_contacts(tmp_path / 'none.txt')


# the protocol

def reference_split(src, dst, t):
    "DyGLib's get_link_prediction_data on arrays of ids, told again"
    val_time, test_time = np.quantile(t, [1 - .15 - .15, 1 - .15])
    rng, nodes = random.Random(2020), set(src) | set(dst)
    ahead = set(src[t > val_time]) | set(dst[t > val_time])
    masked = set(rng.sample(tuple(sorted(ahead)), int(.1 * len(nodes))))
    clean = np.array([a not in masked and b not in masked for a, b in zip(src, dst)])
    train = (t <= val_time) & clean
    new = nodes - (set(src[train]) | set(dst[train]))
    fresh = np.array([a in new or b in new for a, b in zip(src, dst)])
    valid, test = (t > val_time) & (t <= test_time), t > test_time
    return dict(train=train, valid=valid, new_valid=valid & fresh, test=test, new_test=test & fresh)


def test_the_split_is_the_public_one(task):
    e = task.events
    want = reference_split(e.src, e.dst, e.t.astype(float))
    assert {k: v.tolist() for k, v in task.parts.items()} == {k: np.flatnonzero(v).tolist() for k, v in want.items()}
    assert (task.parts['train'].max() < task.parts['valid'].min()
            and task.parts['valid'].max() < task.parts['test'].min())
    assert len(task.masked) == 4 and not np.isin(np.r_[task.edges('train')[:2]], task.masked).any()
    assert (set(task.parts['new_test']) < set(task.parts['test'])
            and not np.isin(np.r_[task.past.src, task.past.dst], task.masked).any())


def test_contacts_of_one_instant_stay_in_one_part():
    e = stream([(i % 7, 7 + i % 5, 10 * (i // 8)) for i in range(120)])
    parts = make_link_task(e, new=0).parts
    late = [set(e.t[parts[k]] // S) for k in ('train', 'valid', 'test')]
    assert not (late[0] & late[1] or late[1] & late[2]) and sum(map(len, late)) == 15
    assert max(late[0]) == 100 and max(late[1]) == 120, (
        'the quantile lies in an instant, and that instant stays before the cut')


@pytest.mark.parametrize('part,seed', [('valid', 0), ('new_valid', 1), ('test', 2), ('new_test', 3)])
def test_strangers_are_the_public_ones(task, part, seed):
    at, e, rng, out = task.parts[part], task.events, np.random.RandomState(seed), []
    pool = at if 'new' in part else np.arange(len(e))
    src, dst = np.unique(e.src[pool]), np.unique(e.dst[pool])
    for i in range(0, len(at), 200):
        size = len(at[i:i + 200])
        rng.randint(0, len(src), size)
        out += dst[rng.randint(0, len(dst), size)].tolist()
    assert strangers(task, part).tolist() == out and len(out) == len(at)


def test_training_strangers_know_only_the_training(task):
    first = fresh_strangers(task, 0, 3)
    assert np.isin(first, task.edges('train')[1]).all() and len(first) == len(task.parts['train'])
    assert (not np.array_equal(first, fresh_strangers(task, 1, 3))
            and not np.array_equal(first, fresh_strangers(task, 0, 4)))


@pytest.mark.parametrize('how,error', [(dict(valid=0.), BadParams), (dict(valid=.6, test=.5), BadParams),
                                       (dict(new=1.), BadParams), (dict(new=-.1), BadParams)])
def test_shares_that_make_no_sense(task, how, error):
    with pytest.raises(error): make_link_task(task.events, **how)


def test_too_few_contacts_and_unknown_parts(task):
    with pytest.raises(BadData, match='leave none for'): make_link_task(stream([(0, 1, 5)] * 9))
    with pytest.raises(BadData, match='no contacts'): make_link_task(take(task.events, slice(0, 0)))
    with pytest.raises(BadParams, match="part 'train'"): strangers(task, 'train')
    with pytest.raises(BadParams, match="part 'train'"): score_links(LinkNet(small()), task, 'train')
    none = make_link_task(task.events, new=0.)
    none.parts['new_test'] = none.parts['new_test'][:0]
    with pytest.raises(BadData, match='new_test has no contacts'): score_links(LinkNet(small()), none, 'new_test')
    with pytest.raises(BadParams, match='multiple of five'): toy_contacts(17)


# scores

@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 15), st.integers(0, 10**6))
def test_both_conventions_are_those_of_scikit_learn(n, batch, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, n) / 4, rng.integers(0, 4, n) / 4
    m = link_metrics(a, b, batch)
    y, cut = lambda k: np.r_[np.ones(k), np.zeros(k)], range(0, n, batch)
    for name, f in (('ap', average_precision_score), ('auc', roc_auc_score)):
        assert np.isclose(m[name],
                          np.mean([f(y(len(a[i:i + batch])), np.r_[a[i:i + batch], b[i:i + batch]]) for i in cut]))
        assert np.isclose(m[f'{name}_pooled'], f(y(n), np.r_[a, b]))


def test_scores_that_are_none():
    for a, b in (([1.], [1., 2.]), ([], []), ([[1.]], [[0.]])):
        with pytest.raises(BadData, match='one stranger a contact'): link_metrics(a, b)
    with pytest.raises(BadData, match='not finite'): link_metrics([np.nan], [0.])


def test_edge_bank_by_hand():
    rows = ([(0, 1, 1), (1, 2, 2), (2, 0, 3), (0, 1, 4), (1, 2, 5), (2, 1, 6), (0, 1, 7)]
            + [(0, 1, 8), (2, 1, 9), (1, 0, 10)] + [(0, 2, 11), (0, 2, 12), (1, 0, 13), (0, 2, 14)])
    t = make_link_task(stream(rows), valid=3 / 14, test=4 / 14, new=0, batch=2)
    assert [len(t.parts[k]) for k in ('train', 'valid', 'test')] == [7, 3, 4]
    true, false = edge_bank(t, 'valid')
    assert true.tolist() == [1, 1, 0] # 1 -> 0 was never seen, 0 -> 1 is another pair
    true, false = edge_bank(t)
    assert true.tolist() == [0, 0, 1, 1], (
        'a repetition inside a batch is not known, one in a later batch is; validation counts')
    seen = {(0, 1), (1, 2), (2, 0), (2, 1), (1, 0)}
    assert false.tolist() == [float((s, d) in (seen if i < 2 else seen | {(0, 2)}))
                              for i, (s, d) in enumerate(zip((0, 0, 1, 0), strangers(t, 'test').tolist()))]


def test_edge_bank_on_the_public_messages(shared_data):
    file = shared_data / 'uci_messages/CollegeMsg.txt'
    if not file.is_file(): pytest.skip(f'no UCI messages: {file} is not a file')
    c = read_contacts(file)
    assert (len(c.events), len(c.events.symbols), c.moved, len(c.quarantine)) == (59_835, 1_899, 0, 0)
    t = make_link_task(c.events)
    assert ({k: len(v) for k, v in t.parts.items()}
            == dict(train=34_352, valid=8_975, new_valid=5_002, test=8_976, new_test=5_932))
    assert round(100 * link_metrics(*edge_bank(t))['ap'], 2) == 76.20


# the fused attention

def drawn(seed, q, k, p, w, m, heads, t, shared):
    rng = np.random.default_rng(seed)
    ties = Ties(rng.integers(0, p, (q, k)), rng.integers(0, 5, (q, k)),
                rng.uniform(0, 50, (q, k)).astype(np.float32), rng.integers(0, k + 1, q),
                rng.normal(size=(5, m)).astype(np.float32))
    leaf = lambda *shape: torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    return ties, leaf(1 if shared else q, heads, w + m + t), leaf(p, w), leaf(t), leaf(t), torch.from_numpy(
        rng.uniform(0, 2, (q, heads, k))), torch.from_numpy(rng.normal(size=(q, heads, w + m + t)))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2),
       st.integers(1, 3), st.integers(1, 9), st.booleans(), st.sampled_from([1, 2, 3]))
def test_the_fused_attention_is_the_plain_one(seed, q, k, w, m, heads, t, shared, threads):
    ties, f, h, omega, phi, keep, goal = drawn(seed, q, k, 4, w, m, heads, t, shared)
    want = age_attention_plain(f, h, ties, omega, phi, keep)
    grads = torch.autograd.grad((want * goal).sum(), (f, h, omega, phi), allow_unused=True)
    low = [x.detach().float().requires_grad_() for x in (f, h, omega, phi)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = age_attention(low[0], low[1], ties, low[2], low[3], keep.float())
        mine = torch.autograd.grad((got * goal.float()).sum(), low, allow_unused=True)
    finally: torch.set_num_threads(before)
    size = max(1., *(float(g.abs().max()) for g in grads if g.numel()))
    assert (torch.allclose(got, want.float(), atol=2e-4)
            and all(torch.allclose(a, b.float(), atol=2e-4 * size) for a, b in zip(mine, grads)))


def test_an_age_is_encoded_to_the_last_bits_after_many_turns():
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    ages, off = np.linspace(-3_000, 3_000, 20_001).astype(np.float32), np.zeros(2)
    for age in ages:
        said, dw, dp = np.empty(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32)
        encode_age(age, one, zero, said)
        _age_grad(one, age, one, zero, dw, dp)
        off = np.maximum(off, [abs(said[0] - np.cos(float(age))), abs(dp[0] + np.sin(float(age)))])
        assert dw[0] == dp[0] * age
    assert (off < 3e-7).all(), off


def test_large_scores_do_not_overflow():
    ties, f, h, omega, phi, keep, goal = drawn(3, 6, 5, 4, 2, 1, 2, 3, False)
    f = (f.detach() * 1e3).requires_grad_()
    want = age_attention_plain(f, h, ties, omega, phi, keep)
    low = [x.detach().float().requires_grad_() for x in (f, h, omega, phi)]
    got = age_attention(low[0], low[1], ties, low[2], low[3], keep.float())
    assert (torch.allclose(got, want.float(), atol=1e-2)
            and all(g.isfinite().all() for g in torch.autograd.grad((got * goal.float()).sum(), low)))


@pytest.mark.parametrize('learns', [[2], [3], [2, 3], [0], []])
def test_clocks_learn_together_or_alone(learns):
    ties, f, h, omega, phi, keep, goal = drawn(1, 6, 4, 4, 2, 1, 2, 3, False)
    given = [x.detach() for x in (f, h, omega, phi)]
    want, got = ([x.to(kind, copy=True).requires_grad_(i in learns) for i, x in enumerate(given)]
                 for kind in (torch.float64, torch.float32))
    a, b = age_attention_plain(*want[:2], ties, *want[2:], keep), age_attention(*got[:2], ties, *got[2:], keep.float())
    assert b.requires_grad == bool(learns)
    if not learns: return
    (a * goal).sum().backward()
    (b * goal.float()).sum().backward()
    for i, (x, y) in enumerate(zip(want, got)):
        assert (y.grad is not None) == (i in learns) and (i not in learns or torch.allclose(
            y.grad.double(), x.grad, atol=2e-4 * max(1., float(x.grad.abs().max()))))


def test_a_question_of_all_is_learned_without_rounding_away():
    "One question asked by a hundred thousand rows: its gradient is added up in 64 bits"
    ties, f, h, omega, phi, *_ = drawn(0, 100_000, 2, 4, 2, 1, 1, 1, True)
    low = [x.detach().float().requires_grad_() for x in (f, h, omega, phi)]
    big = low[0].detach().double().requires_grad_()
    exact, = torch.autograd.grad(age_attention_plain(big, low[1].detach().double(), ties,
                                                     *(x.detach().double() for x in low[2:])).sum(), big)
    mine, = torch.autograd.grad(age_attention(low[0], low[1], ties, low[2], low[3]).sum(), low[0])
    assert (mine.double() - exact).abs().max() < 3e-7 * exact.abs().max()


def test_double_precision_takes_the_plain_way_and_its_gradient_is_right():
    ties, f, h, omega, phi, keep, _ = drawn(1, 3, 4, 4, 2, 1, 2, 3, False)
    assert age_attention(f, h, ties, omega, phi).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda *x: age_attention(x[0], x[1], ties, x[2] / 50, x[3], keep),
                                    (f, h, omega, phi))


def test_ties_that_point_nowhere():
    ties = drawn(0, 3, 4, 4, 2, 1, 2, 3, False)[0]
    check_ties(ties, 4)
    for change in (dict(nbr=ties.nbr + 4), dict(nbr=ties.nbr - 4), dict(event=ties.event + 5),
                   dict(event=ties.event - 5), dict(count=ties.count + 9), dict(count=ties.count - 9),
                   dict(age=ties.age[:1])):
        with pytest.raises(BadData): check_ties(Ties(**dict(vars(ties)) | change), 4)
    for n in (2, 4):
        with pytest.raises(BadParams, match='Fold them'):
            age_attention(torch.zeros(n, 2, 6), torch.zeros(4, 2), ties, torch.zeros(3), torch.zeros(3))
    with pytest.raises(BadParams, match='Fold them'):
        age_attention(torch.zeros(3, 2, 5), torch.zeros(4, 2), ties, torch.zeros(3), torch.zeros(3))


# TGAT is the textbook's

def wide(events, d, seed=0):
    msg = np.random.default_rng(seed).normal(size=(len(events), d)).astype(np.float32)
    return Events(events.src, events.dst, events.t, msg, events.symbols, tuple(f'm{i}' for i in range(d)))


@pytest.mark.parametrize('how', [dict(), dict(layers=1), dict(layers=3), dict(heads=1), dict(features=True),
                                 dict(d_msg=8), dict(features=True, d_msg=8, layers=3)], ids=str)
@pytest.mark.parametrize('precise', [True, False], ids=['double', 'single'])
def test_tgat_is_the_textbook(task, how, precise):
    pytest.importorskip('torch_geometric')
    from _textbook_tgat import gaps, textbook_of
    how = dict(how)
    if how.pop('features', False): how['features'] = np.random.default_rng(0).normal(size=(40, 8))
    part = take(task.events, task.parts['train'])
    graph = both_directions(wide(part, 8) if how.get('d_msg') else part)
    net = LinkNet(small(dropout=0., **how)).train()
    net.encoder.listen(graph)
    book = textbook_of(net, 40, len(graph), net.encoder.past.index)
    if how.get('d_msg'): book.msg = torch.from_numpy(graph.msg.copy())
    rows = slice(300, 360)
    batch = [x[rows].astype(np.int64) for x in (part.src, part.dst, fresh_strangers(task, 0, 0), part.t)]
    if precise:
        for m in (net, book): m.double()
        book.x, book.msg = book.x.double(), book.msg.double()
    found = gaps(net, book, batch)
    assert len(found) > 15 and max(found.values()) < (1e-9 if precise else 1e-4), found
    assert max(found['loss'], found['logits']) < 1e-5


def test_each_node_and_instant_is_computed_once(task):
    past = Past(task.past, 4)
    src, dst, t = (x[-60:].astype(np.int64) for x in task.edges('train'))
    nodes, times, place = distinct(np.r_[src, dst, dst], np.r_[t, t, t])
    assert (np.array_equal(nodes[place], np.r_[src, dst, dst]) and np.array_equal(times[place], np.r_[t, t, t])
            and len(set(zip(nodes, times))) == len(nodes))
    low, top = wire(past, nodes, times, 2)
    near = past.index.recent(nodes, times, 4)
    want = set(zip(nodes, times)) | set(zip(near.nbr[near.mask], near.t[near.mask]))
    assert (len(low.who) == len(want) and np.array_equal(top.who, nodes)
            and np.array_equal(top.ties.count, near.mask.sum(1)))
    assert (np.array_equal(low.who[top.own], nodes)
            and np.array_equal(low.who[top.ties.nbr][near.mask], near.nbr[near.mask]))


# what it may know

def bent(e, cut, seed=0):
    "The same contacts before the cut; afterwards other people at other times"
    rng, late = np.random.default_rng(seed), np.flatnonzero(e.t >= cut)
    src, dst, t = e.src.astype(np.int64), e.dst.astype(np.int64), e.t.copy()
    keep = late[rng.random(len(late)) < .7]
    src[keep], dst[keep] = dst[keep], src[keep]
    t[late] += 5 * S
    return make_events(src, dst, t, e.msg, e.symbols, e.fields)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.integers(5, 115))
def test_nothing_from_the_instant_on_is_known(seed, at):
    rng = np.random.default_rng(seed)
    e = make_events(rng.integers(0, 6, 120), rng.integers(6, 12, 120), np.sort(rng.integers(0, 60, 120)) * S,
                    np.zeros((120, 0)), [f'p{i}' for i in range(12)], ())
    now = np.repeat(e.t[at:at + 1], 12)
    a, b = (asked(both_directions(x), np.arange(12), now) for x in (e, bent(e, now[0], seed)))
    assert torch.allclose(a, b, atol=1e-6)
    assert (asked(both_directions(e), np.arange(12), now + 1) - b).abs().max() > 1e-4, (
        'a nanosecond later the contacts of this instant count')


def test_a_contact_never_sees_itself_nor_its_simultaneous_neighbours():
    e = stream([(0, 1, 10), (2, 3, 20), (0, 2, 30), (0, 3, 30), (1, 0, 30)])
    first = asked(both_directions(take(e, slice(0, 2))), [0, 1, 2, 3], np.repeat(30 * S, 4))
    assert torch.allclose(asked(both_directions(e), [0, 1, 2, 3], np.repeat(30 * S, 4)), first, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_company_names_and_the_calendar_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    src = rng.integers(0, 12, 80)
    e = both_directions(make_events(src, (src + rng.integers(1, 12, 80)) % 12,
                                    np.sort(rng.integers(0, 200, 80)) * S, np.zeros((80, 0)),
                                    [f'p{i}' for i in range(12)], ()))
    nodes, times = rng.integers(0, 12, 9), rng.integers(50, 260, 9) * S
    nodes, times, _ = distinct(nodes, times)
    whole = asked(e, nodes, times)
    assert torch.allclose(whole, torch.cat([asked(e, nodes[i:i + 1], times[i:i + 1]) for i in range(len(nodes))]),
                          atol=1e-5)
    name = rng.permutation(12)
    assert torch.allclose(asked(Events(name[e.src].astype(np.int32), name[e.dst].astype(np.int32), e.t, e.msg,
                                       e.symbols, ()), name[nodes], times), whole, atol=1e-5)
    assert torch.equal(asked(Events(e.src, e.dst, e.t + 10**17, e.msg, e.symbols, ()), nodes, times + 10**17), whole)


def test_padding_is_nobody():
    quiet = stream([(1, 2, 10), (2, 3, 20)], n=5)
    loud = stream([(1, 2, 10), (2, 3, 20)] + [(0, 4, s) for s in range(1, 15)], n=5)
    ask = [1, 2, 3], np.repeat(25 * S, 3)
    assert torch.allclose(asked(both_directions(quiet), *ask), asked(both_directions(loud), *ask), atol=1e-6), (
        'node 0 is no stand-in for a missing neighbour')
    assert torch.allclose(asked(both_directions(quiet), [1, 3, 0], ask[1], neighbors=1),
                          asked(both_directions(quiet), [1, 3, 0], ask[1], neighbors=4), atol=1e-6), (
        'empty places weigh nothing')
    alone = asked(both_directions(quiet), [0, 4], [25 * S, 99 * S])
    assert torch.allclose(alone[0], alone[1], atol=1e-6) and alone.isfinite().all()


def test_no_contacts_at_all_and_a_single_node():
    for n in (1, 3):
        nobody = make_events([], [], np.empty(0, np.int64), np.empty((0, 0)), [f'p{i}' for i in range(n)], ())
        assert asked(nobody, np.arange(n), np.full(n, S)).isfinite().all()
    assert asked(nobody, [], []).shape == (0, 8)


@pytest.mark.parametrize('how,error,says',
                         [(dict(features=np.full((40, 2), np.nan)), BadData, 'finite'),
                          (dict(features=np.zeros((40, 9))), BadData, 'up to 8'),
                          (dict(heads=3), BadParams, 'does not divide'), (dict(layers=0), BadParams, 'layers=0'),
                          (dict(neighbors=0), BadParams, 'neighbors=0'), (dict(dropout=1.), BadParams, 'dropout=1'),
                          (dict(clock='slow'), BadParams, 'clock')])
def test_an_encoder_that_cannot_be(how, error, says):
    with pytest.raises(error, match=says): TGATEncoder(**SMALL | how)


def test_a_graph_of_others_is_refused(task):
    with pytest.raises(BadData, match='d_msg=3'): small().listen(both_directions(wide(task.events, 3)))
    with pytest.raises(BadData, match='features of 7 people'): small(features=np.zeros((7, 2))).listen(task.past)
    with pytest.raises(NotImplementedError, match='Encoder.embed'): Encoder().embed(None, None)


# training

class Memory(Encoder):
    "Remembers how often each node was met; says what it was told and asked, in order"
    width, params = 4, dict(encoder='memory')
    def __init__(self, n=40):
        super().__init__()
        self.n, self.lift, self.log = n, torch.nn.Linear(1, 4), []
    def reset(self): self.met = np.zeros(self.n); self.log.append('reset')
    def observe(self, src, dst, t):
        np.add.at(self.met, np.r_[src, dst], 1); self.log.append(('observe', len(t), int(t.min()), int(t.max())))
    def detach(self): self.log.append('detach')
    def embed(self, nodes, times):
        self.log.append(('embed', int(times.min()), int(times.max())))
        return self.lift(torch.from_numpy(self.met[nodes][:, None].astype(np.float32)))


def test_a_memory_is_told_only_after_it_was_asked(task):
    net = LinkNet(Memory())
    assert net.encoder.remembers
    score_links(net, task, 'test')
    log, first = net.encoder.log, task.edges('test')[2][0]
    warm = [x for x in log[1:] if x[0] == 'observe' and x[3] < first]
    assert log[0] == 'reset' and sum(x[1] for x in warm) == len(task.parts['train']) + len(task.parts['valid'])
    rest = log[1 + len(warm):]
    assert ([x[0] for x in rest] == ['embed', 'observe'] * len(batch_slices(task, 'test'))
            and all(a[1:] == b[2:] for a, b in zip(rest[::2], rest[1::2])))
    again = score_links(net, task, 'test')
    assert all(np.array_equal(a, b) for a, b in zip(again, score_links(net, task, 'test'))), (
        'scoring leaves nothing behind')


def test_a_training_epoch_of_a_memory(task):
    made = []
    fit_links(lambda: made.append(Memory()) or made[0], task, LinkSchedule(epochs=2))
    log, n = made[0].log, len(batch_slices(task, 'train'))
    assert (log[0] == 'reset'
            and [x if isinstance(x, str) else x[0] for x in log[1:1 + 3 * n]] == ['embed', 'observe', 'detach'] * n)
    assert log.count('reset') == 4, 'forgets before each epoch and before each validation'


def test_one_step_lowers_the_loss_it_names(task):
    net = LinkNet(small(dropout=0., clock='fixed')).train()
    net.encoder.listen(task.past)
    (src, dst, t), false = task.edges('train'), fresh_strangers(task, 0, 0)
    batch = [x[300:500].astype(np.int64) for x in (src, dst, false, t)]
    opt = torch.optim.SGD(net.parameters(), 1e-2)
    before = train_batch(net, opt, *batch)
    assert train_batch(net, opt, *batch) < before
    a, b = torch.randn(7), torch.randn(7)
    want = torch.nn.functional.binary_cross_entropy(torch.cat([a, b]).sigmoid(), torch.tensor([1.] * 7 + [0.] * 7))
    assert torch.isclose(link_loss(a, b), want)


def test_stops_when_validation_no_longer_improves_and_takes_the_best_back(task, monkeypatch):
    import gnn_quant.linkpred.train as link
    verdicts, seen = iter([(.5, .5), (.7, .6), (.8, .5), (.6, .9), (.7, .6), (.1, .1), (.1, .1), (.9, .9)]), []
    monkeypatch.setattr(link, 'link_metrics', lambda *a: dict(zip(('ap', 'auc'), next(verdicts))))
    monkeypatch.setattr(link, 'score_links', lambda net, *a: seen.append(
        {k: v.clone() for k, v in net.state_dict().items()}) or ((), ()))
    fit = fit_links(lambda: TGATEncoder(**SMALL), task, LinkSchedule(epochs=9, patience=2))
    assert fit.history['ap'].tolist() == [.5, .7, .8, .6], 'better is both, or equal'
    assert all(torch.equal(a, b) for a, b in zip(fit.net.state_dict().values(), seen[1].values()))


def test_a_loss_that_explodes_is_said(task):
    class Broken(Memory):
        def embed(self, nodes, times): return super().embed(nodes, times) * np.nan
    with pytest.raises(BadData, match='not finite in epoch 1'): fit_links(Broken, task, LinkSchedule(epochs=1))
    for bad in (dict(epochs=0), dict(lr=-1.), dict(patience=0)):
        with pytest.raises(BadParams): LinkSchedule(**bad)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_link import HOW, SMALL, TGATEncoder, fit_links, make_link_task, toy_contacts
import gnn_quant.linkpred.train as link
kept, calls = link.train_batch, []
def killing(*a):
    calls.append(0)
    if len(calls) == 12: os.kill(os.getpid(), signal.SIGKILL)
    return kept(*a)
link.train_batch = killing
fit_links(lambda: TGATEncoder(**SMALL), make_link_task(toy_contacts()), HOW, 'killed.pt', seed=3)
"""
HOW = LinkSchedule(epochs=4, lr=1e-3)


def kept(path): return torch.load(io.BytesIO(path.read_bytes().partition(b'\n')[2]), weights_only=True)


def same(a, b):
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_killed_training_ends_where_the_undisturbed_one_does(tmp_path, task):
    child = subprocess.run([sys.executable, '-c', CHILD.format(tests=str(Path(__file__).parent))], cwd=tmp_path,
                           capture_output=True, text=True,
                           env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1])))
    assert child.returncode == -signal.SIGKILL, child.stderr[-800:]
    assert len(kept(tmp_path / 'killed.pt')['state']['history']) == 2
    make = lambda: TGATEncoder(**SMALL)
    a, b = (fit_links(make, task, HOW, tmp_path / f, seed=3) for f in ('killed.pt', 'whole.pt'))
    assert (same(kept(tmp_path / 'killed.pt'), kept(tmp_path / 'whole.pt')) and a.history.equals(b.history)
            and len(a.history) == 4)
    assert all(np.array_equal(x, y) for x, y in zip(score_links(a.net, task), score_links(b.net, task)))


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path, task):
    path, how = tmp_path / 'a.pt', LinkSchedule(epochs=1)
    fit_links(lambda: TGATEncoder(**SMALL), task, how, path)
    other = make_link_task(toy_contacts(seed=1))
    assert task_name(other) != task_name(task) and task_name(make_link_task(toy_contacts())) == task_name(task)
    for says, make, t, seed in (('width was 8, is 16', dict(width=16), task, 0), ('seed was 0, is 1', {}, task, 1),
                                ('task was', {}, other, 0),
                                ('clock was learned, is fixed', dict(clock='fixed'), task, 0)):
        with pytest.raises(CheckpointMismatch, match=says):
            fit_links(lambda: TGATEncoder(**SMALL | make), t, how, path, seed)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match='damaged'): fit_links(lambda: TGATEncoder(**SMALL), task, how, path)


def test_the_same_seed_is_the_same_training_and_another_is_not(task):
    fits = [fit_links(lambda: TGATEncoder(**SMALL), task, LinkSchedule(epochs=1), seed=s) for s in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in f.net.parameters()]) for f in fits]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_it_finds_who_is_awake():
    "Planted: contacts are among people of a circle that is awake; with clocks that keep their time TGAT finds it"
    t = make_link_task(toy_contacts(60, 2500), batch=50)
    fit = fit_links(lambda: TGATEncoder(width=16, time_dim=16, neighbors=5, clock='fixed'), t,
                    LinkSchedule(epochs=6, lr=3e-3))
    assert link_metrics(*score_links(fit.net, t), 50)['ap'] > .8
