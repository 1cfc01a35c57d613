"""Integrals of sampled functions."""

from bevel.numpy.signal import trapezoid as trapezoid
