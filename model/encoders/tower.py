"""Parameters of the parts that encoders are made of."""


def linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    """Return the parameters of a matrix, with one bias an output."""
    return inputs * outputs + (outputs if bias else 0)


def layernorm(size: int) -> int:
    """Return a weight and a bias for every number."""
    return 2 * size


def patches(hidden: int, patch: int, *, frames: int = 1, channels: int = 3, bias: bool) -> int:
    """Return a convolution that turns patches of pixels into rows of the hidden size."""
    return linear(channels * frames * patch * patch, hidden, bias=bias)


def blocks(
    layers: int,
    hidden: int,
    inner: int,
    *,
    gated: bool = False,
    attention_biases: int = 4,
    mlp_bias: bool = True,
    norms: int = 4,
    more: int = 0,
) -> int:
    """Return the parameters of a transformer's layers.

    Args:
        layers: how many.
        hidden: width of rows, and of all heads together.
        inner: width of the MLP.
        gated: the MLP has three matrices instead of two.
        attention_biases: how many of the four projections have one.
        mlp_bias: all matrices of the MLP have one.
        norms: vectors of the hidden size; two LayerNorms have four, two RMSNorms two.
        more: other parameters of one layer.
    """
    ups = 2 if gated else 1
    attention = 4 * hidden * hidden + attention_biases * hidden
    mlp = (ups + 1) * hidden * inner + (ups * inner + hidden if mlp_bias else 0)
    return layers * (attention + mlp + norms * hidden + more)
