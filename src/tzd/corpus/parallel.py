"""Tokenizes batches of pieces in several processes, in order, with few of them under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tzd.corpus.documents import Piece
from tzd.corpus.packing import Packed, Packer
from tzd.corpus.tokenizer import FILE, Tokenizer, kinds
from tzd.errors import TzdError

_packer: Packer  # of a worker


def pack_all(tokenizer: Tokenizer, batches: Iterable[list[Piece]], workers: int) -> Iterator[Packed]:
    """The tokens of each batch, in the order of the batches, whatever the number of workers.

    Args:
        tokenizer: text -> ids; a worker makes its own from what a checkpoint would hold.
        batches: pieces of documents.
        workers: processes; 0 takes this one. Twice as many batches are in memory.

    Raises:
        CorpusError: a character is outside the vocabulary.
        TzdError: a worker was killed.
    """
    if not workers:
        yield from map(Packer(tokenizer), batches)
        return
    content = tokenizer.files().get(FILE, b"")
    with _children_deaf():  # the process that keeps count of the pool's semaphores, too
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _begin_worker, (tokenizer.describe(), content)
        )
    under_way: deque[Future[Packed]] = deque()
    try:
        for batch in batches:
            with _children_deaf():
                under_way.append(pool.submit(_pack, batch))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        for worker in list(pool._processes.values()):
            worker.kill()  # the pool has sent them SIGTERM, and waits for them
        raise TzdError("a process that tokenized was killed (out of memory?); try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _children_deaf() -> Iterator[None]:
    """Processes that begin here never hear what is sent to all: the first one ends them.

    One that ended in the middle of its answer would have the first one wait for the rest of it for ever.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(description: Mapping[str, Any], content: bytes) -> None:
    global _packer  # noqa: PLW0603 - the executor hands a worker's own state to its tasks in no other way
    _packer = Packer(kinds()[description["kind"]].load(description, content))
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a parent that was killed cannot end its workers
        os._exit(1)


def _pack(batch: list[Piece]) -> Packed:
    return _packer(batch)
