"One graph attention layer, forward and backward: ours (projections folded to the query) beside PyG's TransformerConv. Run: python tests/bench/bench_tgat.py"
import os, sys
TUNED = dict(MALLOC_MMAP_THRESHOLD_='4294967296', MALLOC_TRIM_THRESHOLD_='8589934592', MALLOC_TOP_PAD_='536870912')
if __name__ == '__main__' and '--tuned' in sys.argv and os.environ.get('MALLOC_TOP_PAD_') != TUNED['MALLOC_TOP_PAD_']:
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | TUNED | dict(OMP_NUM_THREADS='1'))

import argparse
import torch
from torch_geometric.nn import TransformerConv

from _bench import ratio, table
from gnn_quant.models.attention import TemporalAttention

WIDTH, D_EDGE, OUT, HEADS, K = 32, 4, 64, 4, 30


def case(n, k=K, seed=0):
    "The same graph for both: n nodes with k neighbours each, edge features, and weights that make the two layers one function"
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=g, requires_grad=True)
    nbr = torch.randint(0, n, (n, k), generator=g)
    edge = torch.randn(n, k, D_EDGE, generator=g)
    ours = TemporalAttention(WIDTH, WIDTH + D_EDGE, OUT, HEADS)
    peer = TransformerConv(WIDTH, OUT // HEADS, heads=HEADS, edge_dim=D_EDGE, root_weight=False, bias=True)
    with torch.no_grad():
        for lin in (peer.lin_query, peer.lin_key, peer.lin_value): lin.bias.zero_()
        ours.w_q.copy_(peer.lin_query.weight)
        ours.w_k.copy_(torch.cat([peer.lin_key.weight, peer.lin_edge.weight], 1))
        ours.w_v.copy_(torch.cat([peer.lin_value.weight, peer.lin_edge.weight], 1))
    return x, nbr, edge, ours, peer


def layers(n, k=K):
    "Both layers as functions of the node states"
    x, nbr, edge, ours, peer = case(n, k)
    mask, flat = torch.ones(n, k, dtype=torch.bool), nbr.reshape(-1)
    edge_index = torch.stack([flat, torch.arange(n).repeat_interleave(k)])
    edge_attr = edge.reshape(-1, D_EDGE)
    def fold(): return ours(x, torch.cat([x.index_select(0, flat).view(n, k, -1), edge], -1), mask)
    def pyg(): return peer(x, edge_index, edge_attr)
    return x, fold, pyg, ours, peer


def backward(x, f, goal, *modules):
    "Forward and backward, gradients cleared"
    def step():
        x.grad = None
        for m in modules: m.zero_grad(set_to_none=True)
        (f() * goal).sum().backward()
        return x.grad
    return step


def check(n=200, k=12):
    "Largest difference between the two layers in values and in the gradient of the states, relative to the largest entry"
    x, fold, pyg, ours, peer = layers(n, k)
    goal = torch.randn(n, OUT)
    a, b = fold().detach(), pyg().detach()
    ga, gb = (backward(x, f, goal, ours, peer)().clone() for f in (fold, pyg))
    return float((a - b).abs().max() / b.abs().max()), float((ga - gb).abs().max() / gb.abs().max())


def main(sizes=(500, 5_000), repeats=15):
    torch.set_num_threads(1)
    value, grad = check()
    if max(value, grad) > 1e-5: raise SystemExit(f'the layers are not the same function: values {value:.1e}, gradients {grad:.1e}')
    rows = []
    for n in sizes:
        x, fold, pyg, ours, peer = layers(n)
        goal = torch.randn(n, OUT)
        rows.append(ratio('attention layer', n, backward(x, fold, goal, ours), backward(x, pyg, goal, peer), 'edges/s', n * K, repeats))
    alloc = 'tuned' if os.environ.get('MALLOC_TOP_PAD_') else 'default'
    table(f'bench_tgat_{alloc}', rows, f'forward + backward, {K} neighbours, {WIDTH} -> {OUT} wide, {HEADS} heads, {D_EDGE} edge features, 1 thread, '
                                       f'{alloc} allocator for both; peer = PyG TransformerConv, equal to {max(value, grad):.0e}')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--tuned', action='store_true', help='give both sides an allocator that keeps large blocks')
    p.add_argument('--quick', action='store_true', help='smallest size only')
    a = p.parse_args()
    main((500,) if a.quick else (500, 5_000), 5 if a.quick else 15)
