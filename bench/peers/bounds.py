"""What the machine allows at best, in the interface of a peer; they write no texts."""

from concurrent.futures import ThreadPoolExecutor

from bench import shapes
from bench.peers.peer import Peer, clock


class Sgemv(Peer):
    """No peer but the bound: every weight once through BLAS's matrix-vector product.

    Takes the faster of the two orders a matrix can lie in, shape by shape: for all
    matrices of a shape together, as an engine built on ``sgemv`` could at best choose.
    """

    @classmethod
    def environment(cls, threads):
        return {"OPENBLAS_NUM_THREADS": str(threads)}

    def __init__(self, directory, threads, n_slots):
        import numpy as np

        hparams = shapes.read_hparams(directory)
        d, self.np = hparams.n_embd, np
        matrices = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)] * hparams.n_layer
        matrices.append((d, hparams.n_vocab))
        flat = np.ones(sum(n_in * n_out for n_in, n_out in matrices), np.float32)
        self.products, start = [], 0
        for n_in, n_out in matrices:
            part = flat[start : start + n_in * n_out]
            x, y = np.ones(n_in, np.float32), np.empty(n_out, np.float32)
            self.products.append((part.reshape(n_in, n_out), part.reshape(n_out, n_in), x, y))
            start += n_in * n_out

    def run(self, prompts, n_tokens):
        start, total = clock(), 0.0
        for _ in range(n_tokens - 1):
            # One order after the other: a matrix read twice in a row would come from the
            # processor's cache the second time, and the bound would be one of the cache.
            columns = self.by_shape(lambda columns, rows, x, y: self.np.dot(x, columns, out=y))
            rows = self.by_shape(lambda columns, rows, x, y: self.np.dot(rows, x, out=y))
            total += sum(min(columns[shape], rows[shape]) for shape in columns)
        return None, clock() - start, total

    def by_shape(self, multiply) -> dict[tuple[int, int], float]:
        """Seconds that ``multiply`` takes for all matrices of each shape."""
        seconds: dict[tuple[int, int], float] = {}
        for columns, rows, x, y in self.products:
            start = clock()
            multiply(columns, rows, x, y)
            seconds[columns.shape] = seconds.get(columns.shape, 0.0) + clock() - start
        return seconds


class Roofline(Peer):
    """No peer but the bound of memory: the weights' bytes over the bandwidth measured now."""

    N_BYTES = 2**28  # read by each thread; more than any cache holds

    @classmethod
    def environment(cls, threads):
        return {"OPENBLAS_NUM_THREADS": "1"}

    def __init__(self, directory, threads, n_slots):
        import numpy as np

        from gpt2core.settings import Settings

        item = 1 if Settings.from_environment("weights").weights == "int8" else 4
        self.n_bytes = item * shapes.read_hparams(directory).n_params
        self.pool = ThreadPoolExecutor(threads)
        # A dot product of an array with itself reads each number once.
        self.arrays = [np.ones(self.N_BYTES // 4, np.float32) for _ in range(threads)]

    def run(self, prompts, n_tokens):
        start = clock()
        list(self.pool.map(lambda array: array.dot(array), self.arrays))
        bandwidth = len(self.arrays) * self.N_BYTES / (clock() - start)  # bytes a second
        seconds = self.n_bytes / bandwidth
        return None, seconds, seconds * (n_tokens - 1)
