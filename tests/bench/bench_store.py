"Store and journal beside the plain, unsafe way of doing the same"
import json, os, tempfile
from pathlib import Path

import pandas as pd
from _bench import ratio, table
from gnn_quant.storage import journal
from gnn_quant.core import toy_bars
from gnn_quant.storage.files import read_frame, write_frame

with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2] / 'reports') as d:
    rows, ours, peer = [], Path(d) / 'ours.parquet', Path(d) / 'peer.parquet'
    for n, t in ((20, 1000), (100, 2500)):
        x = toy_bars(n=n, t=t)
        rows.append(ratio(f'write frame {t} x {5 * n}', x.size, lambda: write_frame(x, ours),
                          lambda: x.to_parquet(peer, compression='zstd'), 's', repeats=5))
        rows.append(ratio(f'read frame {t} x {5 * n}', x.size, lambda: read_frame(ours),
                          lambda: pd.read_parquet(peer), 's', repeats=5))
    log, bare = Path(d) / 'log.jsonl', open(Path(d) / 'bare.jsonl', 'a')

    def plain_append():
        for i in range(20):
            bare.write(json.dumps(dict(kind='trial', body=dict(i=i))) + '\n')
            bare.flush()
            os.fsync(bare.fileno())

    def chained():
        for i in range(20): journal.append(log, 'trial', dict(i=i))

    rows.append(ratio('append, forced to disk', 20, chained, plain_append, 'entries/s', work=20, repeats=5))
    rows.append(ratio('verify', journal.verify_chain(log), lambda: journal.verify_chain(log), None, 'entries/s',
                      work=journal.verify_chain(log), repeats=5))
    bare.close()
table('store', rows, 'ours hashes, checks and forces to disk; the peer is pandas and a bare log with fsync')
