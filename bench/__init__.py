"""This project and its peers, side by side on the same weights: ``python -m bench``."""

import gpt2core  # noqa: F401  (before NumPy: it tells OpenBLAS which kernels to use)
