"A small training that can be made to die, and processes that die in it"
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from gnn_quant.training import loop as train
from gnn_quant.training.losses import ic_loss
from gnn_quant.training.loop import Schedule, fit_network, steady

# a minute lasts so many seconds; where the process dies: (epoch, step), step -1 in the verdict; what the file then
# holds: epochs, steps
KILLS = [(60., (1, -1), 1, 0), (60., (2, 3), 2, 0), (0., (0, 3), 0, 3), (0., (2, 0), 2, 0), (0., (2, 4), 2, 4)]


def problem(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 6, 3, generator=g)
    return x, x[..., 0] + torch.randn(60, 6, generator=g), torch.ones(60, 6, dtype=torch.bool)


def small_fit(checkpoint=None, kill_at=None, x=None, label=None, dropout=.3, tell=False, out=None, **how):
    "A small training; `kill_at`: (epoch, step) at which the process dies, step -1 for the verdict"
    data, truth, mask = problem()
    data, truth = data if x is None else x, truth if label is None else label
    with steady(3):
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(dropout),
                                  torch.nn.Linear(8, 1))
        at = dict(epoch=0, step=0)
        def die(step):
            if kill_at == (at['epoch'], step): os.kill(os.getpid(), signal.SIGKILL)
        def verdict():
            die(-1)
            at.update(epoch=at['epoch'] + 1, step=0)
            net.eval()
            with torch.no_grad(): return float(-ic_loss(net(data[44:]).squeeze(-1), truth[44:], mask[44:]).mean())
        def loss_of(rows):
            die(at['step'])
            at['step'] += 1
            return ic_loss(net(data[rows]).squeeze(-1), truth[rows], mask[rows])
        history = fit_network(net, loss_of, verdict, np.arange(40),
                              Schedule(**dict(epochs=4, patience=4, batch_rows=8) | how), checkpoint=checkpoint,
                              progress=tell)
    return net, history


def die_everywhere():
    "One process for each of `KILLS`, in the current folder; they share the imports of this one"
    from gnn_quant.training.tensorboard import Board
    for i, (every, at, *_) in enumerate(KILLS):
        if not (pid := os.fork()):
            train.SAVE_SECONDS = every
            small_fit(f'killed{i}.pt', kill_at=at, tell=Board(f'board{i}'))
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def run_and_die(folder):
    "`die_everywhere` in a fresh interpreter"
    code = ('import sys\nsys.path.insert(0, '
            f'{str(Path(__file__).parent)!r})\nfrom _training import die_everywhere\ndie_everywhere()')
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True,
                          env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1])))
    assert done.returncode == 0, done.stderr[-1500:]
