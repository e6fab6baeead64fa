"""Real images: the datasets by name, folders of one's own, the preprocessing."""

from rag_lib.data.datasets import load as load
