"""Where the builders of networks through MONAI are, which is imported when one of them is built and at no other time."""

from tumorseg.networks.lazy import Builder


def find_swin_unetr() -> Builder:
    """Return the builder of `swin_unetr`."""
    from tumorseg.networks.monai.swin_unetr import swin_unetr

    return swin_unetr


def find_unetr() -> Builder:
    """Return the builder of `unetr`."""
    from tumorseg.networks.monai.unetr import unetr

    return unetr


def find_segresnet() -> Builder:
    """Return the builder of `segresnet`."""
    from tumorseg.networks.monai.segresnet import segresnet

    return segresnet


def find_dints() -> Builder:
    """Return the builder of `dints`."""
    from tumorseg.networks.monai.dints import dints

    return dints


def find_dynunet() -> Builder:
    """Return the builder of `dynunet`."""
    from tumorseg.networks.monai.dynunet import dynunet

    return dynunet


def find_attention_unet() -> Builder:
    """Return the builder of `attention_unet`."""
    from tumorseg.networks.monai.attention_unet import attention_unet

    return attention_unet
