"""The flows of the product, one file each; deployments name them as modules."""
