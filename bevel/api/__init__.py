"""Floor 5: where pytrees, argument numbers, axes, state cells and handles meet the flat
transforms.
"""
