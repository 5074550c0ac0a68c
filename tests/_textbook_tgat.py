"""TGAT for links as a textbook has it:
PyG's TransformerConv over the sampled neighbourhoods, every neighbour asked anew, nothing left out"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import TransformerConv


class TextbookLayer(nn.Module):
    "Attention of PyG, residual and layer norm, merge"
    def __init__(self, width, time_dim, heads, dropout):
        super().__init__()
        d = width + time_dim
        self.conv = TransformerConv((d + width, d), d // heads, heads=heads, dropout=dropout, root_weight=False,
                                    bias=True)
        self.mix, self.norm, self.dropout = nn.Linear(d, d), nn.LayerNorm(d), dropout
        self.first, self.second = nn.Linear(d + width, width), nn.Linear(width, width)

    def forward(self, own, now, there, msg, age, to, x):
        "own (R, width) states, there (E, width) neighbours' states, to (E,) the row each neighbour belongs to"
        q = torch.cat([own, now.expand(len(own), -1)], -1)
        z = torch.cat([there, msg, age], -1)
        said = self.conv((z, q), torch.stack([torch.arange(len(z)), to]))
        o = self.norm(F.dropout(self.mix(said), self.dropout, self.training) + q)
        return self.second(torch.relu(self.first(torch.cat([o, x], -1))))


class Textbook(nn.Module):
    "Same function as TGATEncoder and LinkNet; features and messages are as wide as the states, zeros included"
    def __init__(self, nodes, edges, index, width=172, time_dim=100, layers=2, heads=2, neighbors=20, dropout=.1):
        super().__init__()
        self.index, self.k = index, neighbors
        self.omega, self.phi = nn.Parameter(torch.zeros(time_dim)), nn.Parameter(torch.zeros(time_dim))
        self.layers = nn.ModuleList(TextbookLayer(width, time_dim, heads, dropout) for _ in range(layers))
        self.decide = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.x, self.msg = torch.zeros(nodes, width), torch.zeros(edges, width)

    def embed(self, nodes, times, layer):
        x = self.x[torch.from_numpy(nodes)]
        if not layer: return x
        own = self.embed(nodes, times, layer - 1)
        near = self.index.recent(nodes, times, self.k)
        to, _ = np.nonzero(near.mask)
        there = self.embed(near.nbr[near.mask], near.t[near.mask], layer - 1)
        age = torch.from_numpy((near.age[near.mask] / 1e9).astype(np.float32))
        age = torch.cos(age.unsqueeze(-1) * self.omega + self.phi)
        return self.layers[layer - 1](own, torch.cos(self.phi), there,
                                      self.msg[torch.from_numpy(near.event[near.mask])], age, torch.from_numpy(to),
                                      x)

    def forward(self, src, dst, false, t):
        """Logits of contacts and strangers;
        sources are asked with the contacts and again with the strangers, as the public codes do"""
        out = []
        for other in (dst, false):
            a, b = self.embed(np.r_[src, other], np.r_[t, t], len(self.layers)).chunk(2)
            out.append(self.decide(torch.cat([a, b], -1)).squeeze(-1))
        return tuple(out)


def pairs(net, book):
    "(name, ours, textbook's, columns of the textbook's that ours has) for every weight"
    enc, out = net.encoder, [('omega', net.encoder.omega, book.omega, None), ('phi', net.encoder.phi, book.phi, None)]
    for i, (a, b) in enumerate(zip(enc.layers, book.layers)):
        width, d = a.width, len(a.w_q)
        d_node, d_msg = enc.x.shape[1], enc.d_msg
        state = torch.arange(width if i else d_node)
        tail = torch.arange(width, d)
        key = torch.cat([state, width + torch.arange(d_msg), tail + width])
        out += [(f'{i} w_q', a.w_q, b.conv.lin_query.weight, torch.cat([state, tail])),
                (f'{i} w_k', a.w_k, b.conv.lin_key.weight, key), (f'{i} w_v', a.w_v, b.conv.lin_value.weight, key),
                (f'{i} w_1', a.w_1, b.first.weight, torch.cat([torch.arange(d), d + torch.arange(d_node)]))]
        out += [(f'{i} {k}', x, y, None)
                for k, x, y in (('mix', a.mix.weight, b.mix.weight), ('mix bias', a.mix.bias, b.mix.bias),
                                ('norm', a.norm.weight, b.norm.weight), ('norm bias', a.norm.bias, b.norm.bias),
                                ('b_1', a.b_1, b.first.bias), ('w_2', a.merge.weight, b.second.weight),
                                ('b_2', a.merge.bias, b.second.bias))]
    return out + [(f'decide {k}', x, y, None)
                  for (k, x), y in zip(net.decide.named_parameters(), book.decide.parameters())]


def textbook_of(net, nodes, edges, index):
    "The textbook network with the weights of ours; what ours leaves out is drawn at random, for it meets only zeros"
    enc = net.encoder
    keys = ('width', 'time_dim', 'layers', 'heads', 'neighbors', 'dropout')
    book = Textbook(nodes, edges, index, **{k: enc.params[k] for k in keys})
    if enc.x.shape[1]: book.x = F.pad(enc.x, (0, enc.width - enc.x.shape[1]))
    with torch.no_grad():
        for layer in book.layers:
            for lin in (layer.conv.lin_query, layer.conv.lin_key, layer.conv.lin_value): lin.bias.zero_()
            for lin in (layer.conv.lin_query, layer.conv.lin_key, layer.conv.lin_value): lin.bias.requires_grad_(False)
        for _, ours, theirs, columns in pairs(net, book):
            if columns is None: theirs.copy_(ours.view_as(theirs))
            else: theirs[:, columns] = ours
    return book


def gaps(net, book, batch):
    "Largest differences, relative to the largest entry: loss, logits, and the gradient of every weight"
    from gnn_quant.linkpred.train import link_loss
    both = []
    for m in (net, book):
        m.zero_grad(set_to_none=True)
        logits = m(*batch)
        loss = link_loss(*logits)
        loss.backward()
        both.append((loss.detach(), torch.cat(logits).detach()))
    gap = lambda a, b: float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
    out = dict(loss=gap(both[0][0], both[1][0]), logits=gap(both[0][1], both[1][1]))
    for name, a, b, columns in pairs(net, book):
        out[name] = gap(a.grad, (b.grad if columns is None else b.grad[:, columns]).view_as(a))
    return out
