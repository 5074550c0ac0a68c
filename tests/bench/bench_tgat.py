"""One graph attention layer, forward and backward: ours (`TemporalAttention.gather`) beside PyG's TransformerConv
and GATv2Conv and beside padded rows with torch's scaled_dot_product_attention, at three sizes, one and two
threads, torch's default allocator and a tuned one. Run: python tests/bench/bench_tgat.py [--quick] [--gpu]"""
import os, sys
TUNED = dict(MALLOC_MMAP_THRESHOLD_='4294967296', MALLOC_TRIM_THRESHOLD_='8589934592', MALLOC_TOP_PAD_='536870912')

import argparse, json, subprocess

WIDTH, D_EDGE, OUT, HEADS, K = 32, 4, 64, 4, 30
SIZES, THREADS, ALLOCATORS = (50, 500, 5_000), (1, 2), ('default', 'tuned')
PEERS = dict(transformer='PyG TransformerConv', padded='padded + scaled_dot_product_attention', gatv2='PyG GATv2Conv')


def sides(n, k=K, seed=0, device='cpu'):
    """Four layers over one graph of n nodes with k neighbours each.
    The first three are one function (equal weights); GATv2 is another function of the same widths"""
    import torch
    from torch_geometric.nn import GATv2Conv, TransformerConv
    from gnn_quant.models.layers.attention import TemporalAttention
    torch.manual_seed(seed)
    x, edge, nbr = (torch.randn(n, WIDTH, device=device, requires_grad=True),
                    torch.randn(n, k, D_EDGE, device=device), torch.randint(0, n, (n, k), device=device))
    mask, flat = torch.ones(n, k, dtype=torch.bool, device=device), nbr.reshape(-1)
    index, attr = torch.stack([flat, torch.arange(n, device=device).repeat_interleave(k)]), edge.reshape(-1, D_EDGE)
    ours = TemporalAttention(WIDTH, WIDTH + D_EDGE, OUT, HEADS).to(device)
    conv = TransformerConv(WIDTH, OUT // HEADS, heads=HEADS, edge_dim=D_EDGE, root_weight=False).to(device)
    gat = GATv2Conv(WIDTH, OUT // HEADS, heads=HEADS, edge_dim=D_EDGE, add_self_loops=False).to(device)
    with torch.no_grad():
        for lin in (conv.lin_query, conv.lin_key, conv.lin_value): lin.bias.zero_()
        ours.w_q.copy_(conv.lin_query.weight)
        ours.w_k.copy_(torch.cat([conv.lin_key.weight, conv.lin_edge.weight], 1))
        ours.w_v.copy_(torch.cat([conv.lin_value.weight, conv.lin_edge.weight], 1))
    def joined(): return torch.cat([x.index_select(0, flat).view(n, k, -1), edge], -1)
    def sdpa():
        split = lambda t: t.unflatten(-1, (HEADS, OUT // HEADS)).transpose(-3, -2)
        z = joined()
        return torch.nn.functional.scaled_dot_product_attention(
            split((x @ ours.w_q.T).unsqueeze(1)), split(z @ ours.w_k.T), split(z @ ours.w_v.T)).reshape(n, -1)
    return x, dict(ours=(lambda: ours.gather(x, x, nbr, edge, mask), ours),
                   transformer=(lambda: conv(x, index, attr), conv), padded=(sdpa, ours),
                   gatv2=(lambda: gat(x, index, attr), gat), torch=(lambda: ours(x, joined(), mask), ours))


def step(x, f, module, goal, cast=None):
    "Forward and backward, gradients cleared"
    import contextlib
    def run():
        x.grad = None
        module.zero_grad(set_to_none=True)
        with cast() if cast else contextlib.nullcontext(): out = f()
        out.backward(goal.to(out.dtype))
        return out
    return run


def check(n=200, k=12):
    "Largest difference between the three equal layers, in values and in every gradient, relative to the largest entry"
    import torch
    x, made = sides(n, k)
    goal, found = torch.randn(n, OUT), {}
    for name in ('ours', 'transformer', 'padded'):
        out = step(x, *made[name], goal)().detach()
        grads = ([p.grad.clone() for p in made[name][1].parameters() if p.grad is not None] if name != 'transformer'
                 else [])
        found[name] = [out, x.grad.clone(), *grads]
    off = lambda a, b: float((a - b).abs().max() / b.abs().max())
    return max(off(a, b) for name in ('transformer', 'padded') for a, b in zip(found['ours'], found[name]))


def speed_rows(allocator, sizes, threads, repeats):
    import torch
    from _bench import ratio
    for t in threads:
        torch.set_num_threads(t)
        for n in sizes:
            x, made = sides(n)
            goal = torch.randn(n, OUT)
            for peer, name in PEERS.items():
                yield ratio(name, n, step(x, *made['ours'], goal), step(x, *made[peer], goal), 'edges/s', n * K,
                            repeats) | dict(threads=t, allocator=allocator)


def option_rows(n, repeats, device='cpu'):
    "Our layer by the torch formula, plain, in bfloat16 and compiled; the peer is our own layer as it is called"
    import torch
    from _bench import ratio
    torch.set_num_threads(1)
    x, made = sides(n, device=device)
    goal, base = torch.randn(n, OUT, device=device), None
    f, module = made['torch' if device == 'cpu' else 'ours']
    base = step(x, *made['ours'], goal)
    half = lambda: torch.autocast(device, torch.bfloat16)
    options = {'torch formula': step(x, f, module, goal), 'torch formula, bf16': step(x, f, module, goal, half)}
    try:
        fast = torch.compile(f)
        fast()
        options |= {'torch formula, compiled': step(x, fast, module, goal),
                    'torch formula, compiled, bf16': step(x, fast, module, goal, half)}
    except Exception as e: print(f'torch.compile does not work here ({type(e).__name__}): no row for it')
    sync = (lambda g: g) if device == 'cpu' else (lambda g: lambda: (g(), torch.cuda.synchronize()))
    for name, run in options.items():
        yield ratio(name + ' (peer: as called)', n, sync(run), sync(base), 'edges/s', n * K, repeats) | dict(
            threads=1, allocator=os.environ.get('MALLOC_TOP_PAD_') and 'tuned' or 'default')


def peak_of(side, n):
    """Resident memory in MB that one forward and backward adds at its highest, in this process.
    Asks Linux for the high-water mark; None elsewhere"""
    import gc
    import torch
    torch.set_num_threads(1)
    def status(key):
        return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith(key)) / 1024
    small, made = sides(64)
    step(small, *made[side], torch.randn(64, OUT))()
    x, made = sides(n)
    run = step(x, *made[side], torch.randn(n, OUT))
    gc.collect()
    try:
        with open('/proc/self/clear_refs', 'w') as f: f.write('5')
    except OSError: return None
    before = status('VmRSS')
    run()
    return status('VmHWM') - before


def memory_rows(n):
    got = {s: child('--peak', s, '--nodes', str(n), env={})[0] for s in ('ours', *PEERS)}
    if got['ours'] is None: print('peak memory: only Linux says; no row for it')
    else:
        yield from (dict(case=f'peak memory, {name}', n=n, ours=got['ours'], peer=got[s], unit='MB',
                         ratio=round(got[s] / max(got['ours'], .1), 3), threads=1, allocator='default')
                    for s, name in PEERS.items())


def gpu_rows(sizes, repeats):
    "The same table on the first GPU; nothing and one line of text where there is none"
    import torch
    from _bench import ratio
    if not torch.cuda.is_available():
        print('no GPU found: torch.cuda.is_available() is False, so the GPU rows are left out')
        return
    for n in sizes:
        x, made = sides(n, device='cuda')
        goal = torch.randn(n, OUT, device='cuda')
        def whole(f, m):
            run = step(x, f, m, goal)
            return lambda: (run(), torch.cuda.synchronize())
        for peer, name in PEERS.items():
            yield ratio(f'GPU, {name}', n, whole(*made['ours']), whole(*made[peer]), 'edges/s', n * K, repeats)
        yield from (r | dict(case='GPU, ' + r['case']) for r in option_rows(n, repeats, 'cuda'))


def child(*args, env):
    "What this file prints last, in a process of its own: the allocator reads its settings once"
    done = subprocess.run([sys.executable, __file__, *args],
                          env={k: v for k, v in os.environ.items() if k not in TUNED} | env, capture_output=True,
                          text=True)
    if done.returncode: raise SystemExit(done.stderr[-3000:])
    *said, last = done.stdout.strip().splitlines()
    for line in said: print(line)
    return json.loads(last)


def main(quick, gpu):
    from _bench import table
    worst, repeats = check(), 5 if quick else 15
    if worst > 1e-5: raise SystemExit(f'the layers are not the same function: {worst:.1e}')
    rows = [r for a in ALLOCATORS
            for r in child('--allocator', a, *(['--quick'] if quick else []), env=TUNED if a == 'tuned' else {})]
    if not quick: rows += [r for n in SIZES for r in memory_rows(n)]
    if gpu: rows += list(gpu_rows((5_000,) if quick else (5_000, 50_000), repeats))
    table('bench_tgat', rows, f'forward + backward, {K} neighbours, {WIDTH} -> {OUT} wide, {HEADS} heads, '
          f'{D_EDGE} edge features; same threads and allocator for both; '
          f'TransformerConv and padded rows are the same function as ours to {worst:.0e}, in values and gradients')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='two sizes, few repeats, no memory and no options')
    p.add_argument('--gpu', action='store_true', help='also the rows for a GPU, where there is one')
    for name in ('--allocator', '--peak', '--nodes'): p.add_argument(name, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peak: print(json.dumps([peak_of(a.peak, int(a.nodes))]))
    elif a.allocator:
        rows = list(speed_rows(a.allocator, SIZES[:2] if a.quick else SIZES, THREADS, 5 if a.quick else 15))
        if not a.quick and a.allocator == 'tuned': rows += list(option_rows(SIZES[-1], 15))
        print(json.dumps(rows))
    else: main(a.quick, a.gpu)
