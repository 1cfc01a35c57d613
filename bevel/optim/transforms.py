"""The transformations that `optax.transforms` names, under one roof; each is public as
`bevel.optim.<name>` too.
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.optim.accumulation": [
            "MultiSteps",
            "MultiStepsState",
            "ShouldSkipUpdateFunction",
            "skip_large_updates",
            "skip_not_finite",
        ],
        "bevel.optim.base": [
            "EmptyState as NonNegativeParamsState",
            "MaskedNode",
            "MaskedState",
            "PartitionState",
            "chain",
            "masked",
            "named_chain",
            "partition",
        ],
        "bevel.optim.clipping": [
            "adaptive_grad_clip",
            "clip",
            "clip_by_block_rms",
            "clip_by_global_norm",
            "per_example_global_norm_clip",
            "per_example_layer_norm_clip",
            "unitwise_clip",
            "unitwise_norm",
        ],
        "bevel.optim.conditions": [
            "ApplyIfFiniteState",
            "ConditionFn",
            "ConditionallyMaskState",
            "ConditionallyTransformState",
            "apply_if_finite",
            "conditionally_mask",
            "conditionally_transform",
        ],
        "bevel.optim.constraints": [
            "ZeroNansState",
            "flatten",
            "freeze",
            "keep_params_nonnegative",
            "selective_transform",
            "zero_nans",
        ],
        "bevel.optim.monitoring": [
            "MonitorState",
            "SnapshotState",
            "measure_with_ema",
            "monitor",
            "snapshot",
        ],
        "bevel.optim.noise": ["AddNoiseState", "add_noise"],
        "bevel.optim.scaling": ["EmaState", "TraceState", "add_decayed_weights", "ema", "trace"],
    },
)
