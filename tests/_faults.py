"A disk that fails, or a process that dies, at the N-th system call"
import errno
import os
import signal

CALLS = ('open', 'write', 'fsync', 'replace', 'ftruncate')


class FaultyOS:
    "Stands in for a module's `os`: the N-th of the watched calls does not happen"

    def __init__(self, at, fault): self.at, self.fault, self.seen = at, fault, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in CALLS: return real

        def call(*a, **kw):
            self.seen += 1
            if self.seen == self.at: self.fault(name, a)
            return real(*a, **kw)
        return call


def full(name, args):
    "The disk is full; a write gets half of it down first"
    if name == 'write': os.write(args[0], bytes(args[1])[:len(args[1]) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(name, args): raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def die(name, args):
    "Killed between two calls, or in the middle of a write"
    if name == 'write': os.write(args[0], bytes(args[1])[:len(args[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work):
    "Run `work` in a forked child; True when it came to its end, False when it was killed"
    pid = os.fork()
    if pid == 0:
        try: work()
        except BaseException: os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status): return False
    assert os.WEXITSTATUS(status) == 0, 'the child failed in another way'
    return True
