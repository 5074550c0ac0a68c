"""Scores of one row, from the neighbour look-up to the number: a fitted TGAT at 50, 500 and 5,000 names, beside the
same network with PyG's TransformerConv as its attention over the same neighbourhoods. Simulated panel. Run:
python tests/bench/bench_inference.py [--quick]"""
import argparse, os
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np, pandas as pd, torch
from torch_geometric.nn import TransformerConv

from _bench import in_turns, table
from gnn_quant.core import instants
from gnn_quant.data.target import Target
from gnn_quant.data.events import make_events
from gnn_quant.models.panel_net import with_mask
from gnn_quant.models.tgat import TGAT

FEATURES, PARTNERS, ROWS = 8, 10, 60


def market(n, rows=ROWS, seed=0):
    "Simulated features and labels, and a random graph drawn anew every five rows: every name hears of ten others"
    rng, idx, names = (np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=rows, name='date'),
                       [f'S{i:04d}' for i in range(n)])
    x = pd.concat({f'f{i}': pd.DataFrame(rng.normal(size=(rows, n)), idx, names) for i in range(FEATURES)}, axis=1,
                  names=['feature', 'symbol'])
    stamps = np.repeat(np.arange(0, rows, 5), n * PARTNERS)
    dst = np.tile(np.repeat(np.arange(n), PARTNERS), len(range(0, rows, 5)))
    src = (dst + rng.integers(1, n, len(dst))) % n
    e = make_events(src, dst, instants(idx)[stamps], rng.normal(size=(len(dst), 3)), names,
                    ['corr', 'abs_corr', 'same_sector'])
    return x, e, Target(pd.DataFrame(rng.normal(size=(rows, n)), idx, names), 1), idx


class Peer(torch.nn.Module):
    """The network of a fitted TGAT with PyG's layer in place of ours:
    the time encoding of age zero is the constant end of each question"""
    def __init__(self, net, heads):
        super().__init__()
        self.net, self.convs = net, torch.nn.ModuleList()
        for layer in net.layers:
            m = layer.attention
            width, d_tie, d_query = len(m.w_q), m.w_k.shape[1] - len(m.w_q), m.w_q.shape[1]
            conv = TransformerConv((width + d_tie, d_query), m.d_head, heads=heads, root_weight=False)
            for lin, w in ((conv.lin_query, m.w_q), (conv.lin_key, m.w_k), (conv.lin_value, m.w_v)):
                lin.weight.data.copy_(w.data)
                lin.bias.data.zero_()
            self.convs.append(conv)

    def forward(self, x, hops):
        """PyG knows nodes, and here what is known of a tie belongs to it:
        each edge has a source node of its own, the state with the tie behind it"""
        net = self.net
        h, now = net.encode(with_mask(x)), net.time(x.new_zeros(()))
        for layer, conv, hop in zip(net.layers, self.convs, hops):
            at, slot = hop.mask.nonzero(as_tuple=True)
            source = torch.cat([h[hop.nbr[at, slot]], net.tie(hop)[at, slot]], -1)
            own = h[:len(hop.nbr)]
            said = conv((source, torch.cat([own, now.expand(len(own), -1)], -1)),
                        torch.stack([torch.arange(len(at)), at]))
            h = layer.merge(torch.cat([said, own], -1))
        return net.score(h)


def quantiles(repeats, *fns):
    "Median and 99th percentile in milliseconds of each, called in turns"
    return [np.percentile(1e3 * np.array(t), [50, 99]) for t in in_turns(repeats, *fns, warm=2)]


def main(sizes, repeats, threads):
    rows = []
    for n in sizes:
        x, e, y, idx = market(n)
        model = TGAT(neighbors=PARTNERS, schedule=dict(epochs=1)).fit(x, e, y, idx[:20], idx[22:28])
        panel, net = model._panel(x, e), model.net.eval()
        peer = Peer(net, model.how.heads).eval()
        last = np.array([len(x) - 1])
        for t in threads:
            torch.set_num_threads(t)
            with torch.no_grad():
                a, b = net(*panel.batch(last)), peer(*panel.batch(last))
                if (a - b).abs().max() > 1e-5 * b.abs().max():
                    raise SystemExit(f'the networks are not the same function: {float((a - b).abs().max()):.1e}')
                wired = panel.batch(last)
                both = quantiles(repeats, lambda: net(*panel.batch(last)), lambda: peer(*panel.batch(last)))
                alone = quantiles(repeats, lambda: net(*wired), lambda: peer(*wired), lambda: panel.batch(last))
            for case, (ours, theirs) in (('look-up + network', both), ('network alone', alone[:2]),
                                         ('look-up alone', (alone[2], None))):
                for q, name in enumerate(('p50', 'p99')):
                    rows.append(dict(case=f'{case}, {name}', n=n, ours=ours[q],
                                     peer=None if theirs is None else theirs[q], unit='ms',
                                     ratio=None if theirs is None else round(theirs[q] / ours[q], 3), threads=t,
                                     us_per_score=1e3 * ours[q] / n))
    table('bench_inference', rows, f'scores of one row by a TGAT of two layers, {PARTNERS} neighbours, width 32; '
          'peer = the same network with PyG TransformerConv layers; simulated panel')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='two sizes, few repeats')
    a = p.parse_args()
    main((50, 500) if a.quick else (50, 500, 5_000), 30 if a.quick else 200, (1,) if a.quick else (1, 2))
