"""The work: one sub-package per stage, in the order data meets them."""
