"""The systems, one readable file each.

A system is a module that maps an (N, 3, H, W) float picture with values 0 to 255 to a dict with
`logits` (N, classes, h, w) and `log_depth` (N, 1, h, w), the natural logarithm of the canonical
depth in metres, at any resolution h x w of its own.
"""
