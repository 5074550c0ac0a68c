"""UCI messages: average precision of link prediction, seed by seed. Run: python tests/bench/bench_links.py
[--models tgat,tgat_fixed,tgn,graphmixer] [--seeds 5] [--epochs 100] [--read] [--out reports/bench]"""
import argparse, os
from pathlib import Path

for k in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'): os.environ.setdefault(k, '1')
import pandas as pd

from gnn_quant.models.graphmixer import MixerLinks
from gnn_quant.linkpred.train import LinkNet, LinkSchedule, fit_links, link_row, score_links, task_name
from gnn_quant.linkpred.data import LINK_PARTS, edge_bank, make_link_task, read_contacts
from gnn_quant.linkpred.tgat import TGATEncoder
from gnn_quant.models.tgn import MemoryLinks
from gnn_quant.training.loop import load_checkpoint, steady
from gnn_quant.storage.files import write_text

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('GNNQ_BENCH_DATA') or ROOT.parent / 'shared/data') / 'uci_messages/CollegeMsg.txt'
NAMES = dict(tgat='TGAT as published', tgat_fixed='TGAT, fixed frequencies',
             tgn='TGN-style memory, fixed frequencies', graphmixer='GraphMixer')
FIGURES = ['test_ap', 'test_auc', 'test_ap_pooled', 'new_test_ap', 'new_test_auc', 'valid_ap']


def encoders(task):
    return dict(tgat=TGATEncoder, tgat_fixed=lambda: TGATEncoder(clock='fixed'),
                tgn=lambda: MemoryLinks(len(task.events.symbols)), graphmixer=MixerLinks)


def trained(make, task, how, path, seed, read):
    "The network of the best epoch, its history, and epochs since; None where nothing was trained and nothing is to be"
    if not read: fit_links(make, task, how, path, seed, progress=True)
    with steady(seed):
        net = LinkNet(make())
        kept = load_checkpoint(path, how.__dict__ | dict(net.encoder.params) | dict(task=task_name(task), seed=seed))
    if not kept: return None
    net.load_state_dict(kept['best']['net'])
    return net, pd.DataFrame(kept['history'], columns=['epoch', 'loss', 'ap', 'auc']), kept['wait']


def rows(names, seeds, how, home, read):
    task = make_link_task(read_contacts(DATA).events)
    yield dict(model='EdgeBank', seed=0, ended=True) | link_row({p: edge_bank(task, p) for p in LINK_PARTS[1:]})
    for m in names:
        for seed in range(seeds):
            found = trained(encoders(task)[m], task, how, home / f'{m}_seed{seed}.ckpt', seed, read)
            if found is None: continue
            net, history, wait = found
            ended = wait >= how.patience or len(history) >= LinkSchedule().epochs
            yield dict(model=NAMES[m], seed=seed, epochs=len(history), best_epoch=int(history['ap'].idxmax()) + 1,
                       ended=ended) | link_row({p: score_links(net, task, p) for p in LINK_PARTS[1:]})


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--models', default='',
                   help='comma-separated, among ' + ', '.join(NAMES) + '; none = EdgeBank alone. TGAT takes a '
                   'quarter of an hour or more a seed on one core, GraphMixer hours')
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=LinkSchedule().epochs,
                   help='at most so many; with fewer a row may say ended=False')
    p.add_argument('--read', action='store_true', help='report stopped trainings as they stand, and train nothing')
    p.add_argument('--out', default=str(ROOT / 'reports/bench'))
    a = p.parse_args()
    if not DATA.is_file():
        print(f'skipped: no file {DATA.name} in the shared data; set GNNQ_BENCH_DATA')
        return
    names = [m.strip() for m in a.models.split(',') if m.strip()]
    odd = [m for m in names if m not in NAMES]
    if odd: p.error(f"unknown model {odd[0]!r}: use {', '.join(NAMES)}")
    home = Path(a.out) / 'truth' / 'uci'
    home.mkdir(parents=True, exist_ok=True)
    got = []
    for r in rows(names, a.seeds, LinkSchedule(epochs=a.epochs), home, a.read):
        got.append(r)
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in r.items()
               if k in ('model', 'seed', 'epochs', 'best_epoch', 'ended', 'test_ap', 'test_auc')}, flush=True)
    t = pd.DataFrame(got)[['model', 'seed', *(['epochs', 'best_epoch'] if names else []), 'ended', *FIGURES]]
    write_text(t.to_csv(index=False, float_format='%.4f'), Path(a.out) / 'truth_uci.csv')
    print(t[t['ended']].groupby('model')['test_ap'].agg(['count', 'mean', 'std']).round(2))


if __name__ == '__main__': main()
