"""What tests of losses share: targets and built losses."""

from tumorseg.losses.registry import build_loss
from tumorseg.schema.losses import LossSpec
from tumorseg.schema.targets import Targets

CLASSES = Targets(label_values=(0, 1, 2, 3), label_names=("background", "a", "b", "c"), ignore_value=None)
REGIONS = CLASSES.model_copy(
    update={"region_names": ("abc", "bc", "c"), "regions": ((1, 2, 3), (2, 3), (3,)), "region_values": (1, 2, 3)}
)
BINARY = Targets(label_values=(0, 1), label_names=("background", "a"), ignore_value=None)
BINARY_REGION = BINARY.model_copy(update={"region_names": ("a",), "regions": ((1,),), "region_values": (1,)})


def loss_of(*components, targets=CLASSES, spacing=(1.0, 1.0, 1.0), **options):
    """Return the loss of components."""
    return build_loss(LossSpec(preset="test", components=components, **options), targets, spacing)


def value_of(component, logits, target, targets=CLASSES, spacing=(1.0, 1.0, 1.0)):
    """Return the value of one component, before its weight."""
    (value,) = loss_of(component, targets=targets, spacing=spacing)(logits, target).components.values()
    return value
