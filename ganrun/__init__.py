"""Train generative adversarial networks from composable configuration."""

__version__ = "0.2.0"
