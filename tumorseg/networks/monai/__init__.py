"""Networks that MONAI builds, as modules that keep this package's contract.

Each module here imports MONAI, which takes seconds: the registry imports it when its network is built, and nobody else does.
"""
