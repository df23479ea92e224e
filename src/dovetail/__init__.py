"""dovetail: one container network under Docker's CNM and Kubernetes' CNI."""

__version__ = "0.1.0"
