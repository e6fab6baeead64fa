"""Does a residual-attention GAN's synthetic data make image classifiers better?"""

__version__ = "0.1.0"
