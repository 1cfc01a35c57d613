"""Losses: of elements and examples, of sequences, rankings, embeddings and segmentations."""

from bevel.core.lazy import attach

TABLE = {
    "bevel.optim.losses.pointwise": [
        "generalized_kl_divergence as convex_kl_divergence",
        "cosine_distance",
        "cosine_similarity",
        "generalized_kl_divergence",
        "hinge_loss",
        "huber_loss",
        "kl_divergence",
        "kl_divergence_with_log_targets",
        "l2_loss",
        "log_cosh",
        "multiclass_hinge_loss",
        "multiclass_perceptron_loss",
        "perceptron_loss",
        "poly_loss_cross_entropy",
        "sigmoid_binary_cross_entropy",
        "sigmoid_focal_loss",
        "smooth_labels",
        "softmax_cross_entropy",
        "softmax_cross_entropy_with_integer_labels",
        "sparsemax_loss",
        "squared_error",
        "triplet_margin_loss",
    ],
    "bevel.optim.losses.structured": [
        "binary_dice_loss",
        "ctc_loss",
        "ctc_loss_with_forward_probs",
        "dice_loss",
        "make_fenchel_young_loss",
        "multiclass_generalized_dice_loss",
        "multiclass_sparsemax_loss",
        "ntxent",
        "ranking_softmax_loss",
        "safe_softmax_cross_entropy",
    ],
}
"""Where each loss is, for `bevel.optim` too."""

__getattr__, __dir__, __all__ = attach(__name__, TABLE)
