"""Batched augmentation on torch tensors."""
