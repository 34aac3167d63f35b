"""Parts of networks that tests go through, each alone and all at once."""

PARTS = {
    "group": {"norm": "group", "norm_groups": 4},
    "batch": {"norm": "batch"},
    "layer": {"norm": "layer"},
    "relu": {"activation": "relu"},
    "leaky_relu": {"activation": "leaky_relu"},
    "silu": {"activation": "silu"},
    "dropout": {"dropout": 0.3},
    "stochastic depth": {"stochastic_depth": 0.4},
    "squeeze and excitation": {"attention": "squeeze_excitation", "attention_reduction": 3},
    "cbam": {"attention": "cbam", "attention_reduction": 3},
    "gates": {"attention_gates": True},
    "group, gates": {"norm": "group", "attention": "squeeze_excitation", "attention_gates": True},
    "all, layer": {
        "norm": "layer",
        "activation": "gelu",
        "dropout": 0.05,
        "stochastic_depth": 0.05,
        "attention": "cbam",
        "attention_gates": True,
    },
    "all, batch": {
        "norm": "batch",
        "activation": "relu",
        "dropout": 0.05,
        "stochastic_depth": 0.05,
        "attention": "squeeze_excitation",
        "attention_gates": True,
    },
}
"""Changes of a network's record by name."""
NETWORKS = ("plain_unet", "residual_unet", "mednext")


def changes_of(name, part):
    """Return the fields of a part, or of all of them that a network may have."""
    return {field: value for field, value in PARTS[part].items() if (name, field) != ("plain_unet", "stochastic_depth")}
