"""Cross-entropy of classes and of regions."""

from torch import Tensor, nn

from tumorseg.losses.level import Level


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, mean over supervised voxels; 0 where there is none."""

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        return -level.log_probability_of_target.sum() / level.num_supervised


class BinaryCrossEntropy(nn.Module):
    """Sigmoid cross-entropy of regions, mean over supervised voxels and regions; 0 where there is none.

    nnU-Net with an ignore label sums over regions instead (its DC_and_BCE_loss divides by voxels alone).
    """

    def forward(self, level: Level) -> Tensor:
        """Return the loss of one resolution, a scalar."""
        values = level.binary_cross_entropies
        return level.keep_supervised(values).sum() / (level.num_supervised * values.shape[1])
