"""Does a residual-attention GAN's synthetic data make image classifiers better?

    data -> gan -> synthetic -> study -> classifiers -> analysis -> figures

The paper is eleven files: data/datasets, data/preprocess, gan/attention, gan/networks, gan/losses, gan/train,
synthetic/generate, study/arms, classifiers/networks, classifiers/train, analysis/statistics.
"""

__version__ = "0.1.0"
