"""Training speed of TGAT for links on UCI messages, in contacts a second: ours beside the textbook formulation
(PyG's TransformerConv over the same sampled neighbourhoods, every neighbour asked anew as the public codes do).
Run: python tests/bench/bench_uci.py [--quick]"""
import os, sys
TUNED = dict(MALLOC_MMAP_THRESHOLD_='4294967296', MALLOC_TRIM_THRESHOLD_='8589934592', MALLOC_TOP_PAD_='536870912')

import argparse, subprocess
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parents[1]))

ROWS = [('tuned', 1), ('default', 1), ('tuned', 2)] # allocator of both sides, threads of both sides


def data(path):
    "The task at the benchmark's own file, and again with messages of 172 zeros"
    import numpy as np
    from dataclasses import replace
    from gnn_quant.data.events import Events
    from gnn_quant.linkpred.data import make_link_task, read_contacts
    task = make_link_task(read_contacts(path).events)
    e = task.events
    return task, replace(task, events=Events(e.src, e.dst, e.t, np.zeros((len(e), 172), np.float32), e.symbols,
                                             tuple(f'm{i}' for i in range(172))))


def sides(task, dropout, padded):
    "Our network and the textbook's with the same weights, both in training mode"
    import numpy as np, torch
    from _textbook_tgat import textbook_of
    from gnn_quant.linkpred.train import LinkNet
    from gnn_quant.linkpred.tgat import TGATEncoder
    torch.manual_seed(0)
    n = len(task.events.symbols)
    net = LinkNet(TGATEncoder(np.zeros((n, 172)), 172, dropout=dropout) if padded else TGATEncoder(dropout=dropout))
    net.encoder.listen(task.past)
    return net.train(), textbook_of(net, n, len(task.past), net.encoder.past.index).train()


def batch(task, number):
    "Contacts, strangers and instants of one training batch"
    import numpy as np
    from gnn_quant.linkpred.train import batch_slices
    from gnn_quant.linkpred.data import fresh_strangers
    (src, dst, t), rows = task.edges('train'), batch_slices(task, 'train')[number]
    return [x[rows].astype(np.int64) for x in (src, dst, fresh_strangers(task, 0, 0), t)]


def stepper(net, given):
    "One training step a call, over the given batches in turn"
    import torch
    from itertools import cycle
    from gnn_quant.linkpred.train import link_loss
    opt, turn = torch.optim.Adam(net.parameters(), 1e-4, fused=True), cycle(given)
    def step():
        opt.zero_grad(set_to_none=True)
        link_loss(*net(*next(turn))).backward()
        opt.step()
    return step


def equality(task, padded):
    """Largest gaps between the two, without dropout: loss, logits, gradients.
    The middle of three batches, because a unit at its kink has two gradients"""
    from statistics import median
    from _textbook_tgat import gaps
    seen = [gaps(*sides(task, 0., padded), batch(task, i)) for i in (20, 90, 150)]
    out = dict(loss=max(g.pop('loss') for g in seen), logits=max(g.pop('logits') for g in seen),
               gradients=median(max(g.values()) for g in seen))
    if max(out['loss'], out['logits']) > 1e-5 or out['gradients'] > 1e-4:
        raise SystemExit(f'ours and the textbook are not the same function: {out}')
    return out


def measure(path, alloc, threads, quick):
    "Rows of this process's allocator and threads"
    import torch
    from _bench import ratio
    torch.set_num_threads(threads)
    plain, wide = data(path)
    picked = [150] if quick else [20, 90, 150]
    rows, cases = [], [('zero columns left out', plain, False)] + (
        [] if quick or threads > 1 or alloc != 'tuned' else [('zero columns kept', wide, True)])
    for case, task, padded in cases:
        same = equality(task, padded)
        net, book = sides(task, .1, padded)
        given = [batch(task, b) for b in picked]
        steps = [stepper(m, given) for m in (net, book)]
        def rounds(s): return lambda: [s() for _ in picked]
        r = ratio(f'{case}, {alloc} allocator', threads, *map(rounds, steps), 'contacts/s', 200 * len(picked),
                  1 if quick else 2)
        rows.append(r | {f'gap {k}': v for k, v in same.items()})
    return rows


def child(path, alloc, threads, quick):
    "The rows measured by a process of its own, so that both sides have the same allocator and threads"
    import json
    env = ({k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')} | dict(OMP_NUM_THREADS=str(threads))
           | (TUNED if alloc == 'tuned' else {}))
    done = subprocess.run([sys.executable, __file__, '--child', alloc, str(threads), '--data', str(path)]
                          + ['--quick'] * quick, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode: raise SystemExit(f'the run with {alloc} allocator and {threads} threads failed')
    return json.loads(done.stdout.splitlines()[-1])


def main(path, quick=False):
    from _bench import table
    rows = [r for alloc, threads in (ROWS[:1] if quick else ROWS) for r in child(path, alloc, threads, quick)]
    table('bench_uci', rows, 'training of TGAT on UCI messages, forward, backward and step; '
          '200 contacts + 200 strangers, 2 layers x 20 neighbours, 172 wide, '
          'ages 100 wide, dropout .1; n = threads of each side; '
          'peer = PyG TransformerConv over the same neighbourhoods')
    return rows


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='one batch, one setting')
    p.add_argument('--data',
                   default=os.environ.get('GNNQ_BENCH_DATA') or str(Path(__file__).parents[3] / 'shared/data'),
                   help='folder that holds uci_messages/CollegeMsg.txt')
    p.add_argument('--child', nargs=2, metavar=('ALLOC', 'THREADS'), help=argparse.SUPPRESS)
    a = p.parse_args()
    file = Path(a.data) if Path(a.data).is_file() else Path(a.data) / 'uci_messages/CollegeMsg.txt'
    if not file.is_file():
        raise SystemExit(f'no UCI messages: {file} is not a file. Pass --data FOLDER, or set GNNQ_BENCH_DATA.')
    if a.child:
        import json
        print(json.dumps(measure(file, a.child[0], int(a.child[1]), a.quick)))
    else: main(file, a.quick)
