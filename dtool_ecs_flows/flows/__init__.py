"""The flows of the product, one file each; deployments name them as modules."""

NAMES = ("archive", "audit", "expire", "inventory", "mirror", "publish", "retrieve")
"""Each is the name of a module here, and of the flow in it."""
