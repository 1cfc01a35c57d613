"""Programs whose shapes do not fit, with what `test_shape_errors` expects their errors to say."""

import numpy as np

import bevel.numpy as bnp
from bevel import lax, nn, optim

PROGRAMS = {}


def wrong(code, *says, gives=None, kind=ValueError, **arguments):
    """A program that is wrong for arguments of these shapes.

    `code` is what the error says to write (None: words only), `says` is what else is in it, and
    `gives` is the shape of what the code gives.
    """

    def register(program):
        PROGRAMS[program.__name__] = program, arguments, code, says, gives, kind
        return program

    return register


# -- programs ------------------------------------------------------------------------------------


@wrong(
    "x @ kernel.T",
    "x @ kernel: x is float32[3,4] and kernel is float32[2,4], at",
    "the last axis of x (4) must equal the second-to-last axis of kernel (2)",
    "kernel looks transposed: kernel.T has shape (4, 2)",
    gives=(3, 2),
    x=(3, 4),
    kernel=(2, 4),
)
def transposed_kernel(x, kernel):
    return x @ kernel


@wrong("x.T @ v", "v is float32[3]", "x looks transposed", gives=(4,), x=(3, 4), v=(3,))
def transposed_first(x, v):
    return x @ v


@wrong("bnp.matmul(b, a)", "They fit the other way round", gives=(2, 4), a=(3, 4), b=(2, 3))
def other_way_round(a, b):
    return bnp.matmul(a, b)


@wrong("q @ k.mT", "k.mT has shape (7, 8, 5)", gives=(7, 6, 5), q=(7, 6, 8), k=(7, 5, 8))
def keys_of_attention(q, k):
    return q @ k


@wrong(
    "mats @ vecs[..., None]",
    "vecs is a stack of vectors",
    gives=(5, 3, 1),
    mats=(5, 3, 4),
    vecs=(5, 4),
)
def stack_of_vectors(mats, vecs):
    return mats @ vecs


@wrong(
    "x @ w[:, None]",
    "(2, 6) of x and (2,) of w, must broadcast",
    "w lacks an axis",
    gives=(2, 6, 3, 5),
    x=(2, 6, 3, 4),
    w=(2, 4, 5),
)
def middle_axis(x, w):
    return x @ w


@wrong(None, "must broadcast", x=(5, 3, 4), y=(2, 4, 3))
def stacks_differ(x, y):
    return x @ y


@wrong("x * 2.0", "2.0 has no axis to sum over", gives=(3,), x=(3,))
def product_with_a_number(x):
    return x @ 2.0


@wrong("x.dot(x.T)", "dot: x is float32[3,4], at", ".dot(x)", gives=(3, 3), x=(3, 4))
def method_on_several_lines(x):
    total = (
        x
        .dot(x)
        .sum()
    )  # fmt: skip
    return total


@wrong("bnp.dot(a=x, b=w.T)", "w is float32[2,4]", gives=(3, 2), x=(3, 4), w=(2, 4))
def names_as_keywords(x, w):
    return bnp.dot(a=x, b=w)


@wrong(
    "weights[:, None] * (losses + 1)",
    "the last one is 32 in weights and 10 in losses + 1",
    "weights lacks an axis: weights[:, None] has shape (32, 1)",
    gives=(32, 10),
    weights=(32,),
    losses=(32, 10),
)
def missing_trailing_axis(weights, losses):
    return weights * (losses + 1)


@wrong("images - mean[:, None, None]", "lacks axes", gives=(8, 4, 5), images=(8, 4, 5), mean=(8,))
def mean_of_each_image(images, mean):
    return images - mean


@wrong("total += row[:, None]", "total += row: total is float32[3,4]", total=(3, 4), row=(3,))
def in_place(total, row):
    total += row
    return total


@wrong("x < bound.T", "bound looks transposed", gives=(3, 4), x=(3, 4), bound=(4, 3))
def comparison(x, bound):
    return x < bound


@wrong(
    "bnp.maximum(a[:, None], b)  # every pair: (3, 4)",
    gives=(3, 4),
    a=(3,),
    b=(4,),
)
def every_pair(a, b):
    return bnp.maximum(a, b)


@wrong("bnp.where((x > 0)[:, None], y, 0.0)", "x > 0 is bool[3]", gives=(3, 2), x=(3,), y=(3, 2))
def where_mask(x, y):
    return bnp.where(x > 0, y, 0.0)


@wrong(
    "bnp.clip(x, low[:, None], high[:, None])",
    "low lacks an axis: low[:, None] has shape (3, 1)",
    gives=(3, 4),
    x=(3, 4),
    low=(3,),
    high=(3,),
)
def clip_to_columns(x, low, high):
    return bnp.clip(x, low, high)


@wrong(None, "x is float32[3,4] and y is float32[3,5]", x=(3, 4), y=(3, 5))
def sizes_differ(x, y):
    return x - y


@wrong("scale[:, None] + 2 * np.ones((3, 4))", "2 * np.ones((3, 4)) is", gives=(3, 4), scale=(3,))
def numpy_on_the_right(scale):
    return scale + 2 * np.ones((3, 4))


@wrong("2 * np.ones((3, 4)) + scale[:, None]", "2 * np.ones((3, 4)) is", gives=(3, 4), scale=(3,))
def numpy_on_the_left(scale):
    return 2 * np.ones((3, 4)) + scale


@wrong(
    "bnp.concatenate([tokens, cls[None]])",
    "tokens has 2 axes and cls 1 axis",
    "cls lacks an axis: cls[None] has shape (1, 4)",
    gives=(4, 4),
    tokens=(3, 4),
    cls=(4,),
)
def concatenate_row(tokens, cls):
    return bnp.concatenate([tokens, cls])


@wrong(
    "bnp.concatenate([a, b], axis=1)",
    "joined along axis 0, all other axes must be equal, and axis 1 is 4 in a and 5 in b",
    gives=(3, 9),
    a=(3, 4),
    b=(3, 5),
)
def concatenate_axis(a, b):
    return bnp.concatenate([a, b], axis=0)


@wrong("bnp.concatenate(parts, axis=1)", "parts[1] is", gives=(3, 9), parts=[(3, 4), (3, 5)])
def concatenate_variable(parts):
    return bnp.concatenate(parts)


@wrong("bnp.concatenate((a, b.T))", "b looks transposed", gives=(5, 4), a=(3, 4), b=(4, 2))
def concatenate_transposed(a, b):
    return bnp.concatenate((a, b))


@wrong("bnp.append(a, b, 1)", "append: a is", gives=(3, 9), a=(3, 4), b=(3, 5))
def append_axis(a, b):
    return bnp.append(a, b, 0)


@wrong("bnp.hstack([a, b])", "vstack: a is", gives=(7,), a=(3,), b=(4,))
def vstack_vectors(a, b):
    return bnp.vstack([a, b])


@wrong("bnp.vstack([a, b])", "With vstack they fit", gives=(7, 2), a=(3, 2), b=(4, 2))
def hstack_matrices(a, b):
    return bnp.hstack([a, b])


@wrong(
    "bnp.concatenate([a, b], axis=0)", "all shapes must be equal", gives=(7, 2), a=(3, 2), b=(4, 2)
)
def stack_unequal(a, b):
    return bnp.stack([a, b])


@wrong("bnp.stack([a, b[None]], axis=-1)", "b lacks an axis", gives=(1, 3, 2), a=(1, 3), b=(3,))
def stack_ranks(a, b):
    return bnp.stack([a, b], axis=-1)


@wrong("x.reshape(-1, 2)", "it has 12 elements, and (5, 2) has 10", gives=(6, 2), x=(3, 4))
def reshape_method(x):
    return x.reshape(5, 2)


@wrong("bnp.reshape(x, (32, -1))", gives=(32, 784), x=(32, 28, 28))
def reshape_function(x):
    return bnp.reshape(x, (32, 748))


@wrong("x.reshape(x.shape[0], -1)", "do not divide into 5", gives=(3, 4), x=(3, 4))
def reshape_free(x):
    return x.reshape(5, -1)


@wrong("lax.reshape(x, (6, 2))", gives=(6, 2), x=(3, 4))
def reshape_lax(x):
    return lax.reshape(x, (5, 2))


@wrong("bnp.broadcast_to(v[:, None], (3, 4))", "v lacks an axis", gives=(3, 4), v=(3,))
def broadcast_to(v):
    return bnp.broadcast_to(v, (3, 4))


@wrong("bnp.array_split(v, 3)", "7 elements along axis 0 do not divide into 3", v=(7,))
def split_unequal(v):
    return bnp.split(v, 3)


@wrong("bnp.array_split(m, 3, axis=1)", m=(2, 7))
def split_columns(m):
    return bnp.hsplit(m, 3)


@wrong("m.squeeze(1)", "axis 0 of m has size 3", gives=(3,), m=(3, 1))
def squeeze_axis(m):
    return m.squeeze(0)


@wrong(None, "m has 2 axes, and 3 are indexed", kind=IndexError, m=(3, 4))
def too_many_indices(m):
    return m[0, 0, 0]


@wrong("m[:, kept]", "kept is bool[4]", kind=IndexError, m=(3, 4), kept=bnp.ones(4) > 0)
def mask_of_another_axis(m, kept):
    return m[kept]


@wrong("m.at[:, kept].set(0)", kind=IndexError, gives=(3, 4), m=(3, 4), kept=bnp.ones(4) > 0)
def mask_of_an_update(m, kept):
    return m.at[kept].set(0)


@wrong("m.at[:].add(v[:, None])", "v is float32[3]", gives=(3, 4), m=(3, 4), v=(3,))
def update_values(m, v):
    return m.at[:].add(v)


@wrong(
    "bnp.einsum('ij,kj->ik', x, w)",
    "the label 'j' stands for axis 1 of x, of size 4, and for axis 0 of w, of size 2",
    gives=(3, 2),
    x=(3, 4),
    w=(2, 4),
)
def einsum_transposed(x, w):
    return bnp.einsum("ij,jk->ik", x, w)


@wrong(
    "bnp.einsum('...ij,jk->...ik', x, w)",
    "the term 'ij' has 2 labels, and x 3 axes",
    gives=(7, 3, 2),
    x=(7, 3, 4),
    w=(4, 2),
)
def einsum_batch(x, w):
    return bnp.einsum("ij,jk->ik", x, w)


@wrong(
    "bnp.tensordot(a, b, ([1], [1]))",
    "axes (1,) of a have the sizes (4,)",
    gives=(3, 5),
    a=(3, 4),
    b=(5, 4),
)
def tensordot_axes(a, b):
    return bnp.tensordot(a, b, 1)


@wrong("bnp.cross(a, b, axis=0)", gives=(3, 5), a=(3, 5), b=(3, 5))
def cross_axis(a, b):
    return bnp.cross(a, b)


@wrong("bnp.inner(a, b.T)", "inner: a is", gives=(3, 2), a=(3, 4), b=(4, 2))
def inner_transposed(a, b):
    return bnp.inner(a, b)


@wrong("bnp.matvec(m.T, v)", "m needs vectors as long as its axis -1", gives=(4,), m=(3, 4), v=(3,))
def matvec_transposed(m, v):
    return bnp.matvec(m, v)


@wrong("bnp.vecdot(a, b, axis=0)", "Both have 3 along axis 0", gives=(4,), a=(3, 1), b=(3, 4))
def vecdot_columns(a, b):
    return bnp.vecdot(a, b)


@wrong("bnp.searchsorted(edges, t)", "must be a vector", gives=(2, 3), t=(2, 3), edges=(5,))
def search_swapped(t, edges):
    return bnp.searchsorted(t, edges)


@wrong("bnp.bincount(bnp.ravel(m), length=4)", gives=(4,), m=bnp.ones((2, 3), int))
def bincount_matrix(m):
    return bnp.bincount(m, length=4)


@wrong(None, "weights is float32[2]", counts=bnp.ones(3, int), weights=(2,))
def bincount_weights(counts, weights):
    return bnp.bincount(counts, weights=weights, length=4)


@wrong(
    "bnp.take_along_axis(scores, best[:, None], axis=1)",
    "best lacks an axis: best[:, None] has shape (3, 1)",
    gives=(3, 1),
    scores=(3, 4),
    best=bnp.ones(3, int),
)
def take_without_an_axis(scores, best):
    return bnp.take_along_axis(scores, best, axis=1)


@wrong("bnp.diag(v)", gives=(3, 3), v=(3,))
def diagonal_of_a_vector(v):
    return bnp.diagonal(v)


@wrong("bnp.average(m, weights=w, axis=1)", "w is float32[4]", gives=(3,), m=(3, 4), w=(4,))
def average_without_axis(m, w):
    return bnp.average(m, weights=w)


@wrong(None, "places is float32[3] and values is float32[4]", x=(2,), places=(3,), values=(4,))
def interp_sizes(x, places, values):
    return bnp.interp(x, places, values)


@wrong(None, "convolve: m is float32[3,3] and k is float32[3]", m=(3, 3), k=(3,))
def convolve_matrix(m, k):
    return bnp.convolve(m, k)


@wrong(
    "bnp.linalg.solve(a, b[..., None])",
    "b is a stack of vectors",
    gives=(5, 3, 1),
    a=bnp.broadcast_to(bnp.eye(3), (5, 3, 3)),
    b=(5, 3),
)
def solve_stack(a, b):
    return bnp.linalg.solve(a, b)


@wrong("bnp.linalg.solve(a, b.T)", "or 3 rows", gives=(3, 5), a=bnp.eye(3), b=(5, 3))
def solve_rows(a, b):
    return bnp.linalg.solve(a, b)


@wrong("bnp.linalg.lstsq(a, b)[0]", "must hold square matrices", gives=(2,), a=(4, 2), b=(4,))
def solve_least_squares(a, b):
    return bnp.linalg.solve(a, b)


@wrong("bnp.linalg.pinv(a)", "inv: a is float32[4,2]", gives=(2, 4), a=(4, 2))
def inverse(a):
    return bnp.linalg.inv(a)


@wrong("bnp.linalg.multi_dot([a, b.T, c])", gives=(3, 2), a=(3, 4), b=(5, 4), c=(5, 2))
def chain(a, b, c):
    return bnp.linalg.multi_dot([a, b, c])


@wrong(
    "lax.dot_general(x, w, (((1,), (1,)), ((), ())))",
    "axis 1 of x is 4 and axis 0 of w 2",
    gives=(3, 2),
    x=(3, 4),
    w=(2, 4),
)
def dot_general(x, w):
    return lax.dot_general(x, w, (((1,), (0,)), ((), ())))


@wrong("lax.dot(x, w.T)", "lax.dot: x is", gives=(3, 2), x=(3, 4), w=(2, 4))
def dot_lax(x, w):
    return lax.dot(x, w)


@wrong("bnp.add(x, v)", "bevel.lax broadcasts only", gives=(3, 4), x=(3, 4), v=(4,))
def strict_add(x, v):
    return lax.add(x, v)


@wrong("bnp.where(c > 0, x, y)", gives=(3, 4), c=(3, 1), x=(3, 4), y=(3, 4))
def strict_select(c, x, y):
    return lax.select(c > 0, x, y)


@wrong("lax.concatenate([a, b], 1)", gives=(3, 9), a=(3, 4), b=(3, 5))
def strict_concatenate(a, b):
    return lax.concatenate([a, b], 0)


@wrong(
    "lax.broadcast_in_dim(v, (3, 4), (0,))",
    "axis 0 of v has size 3, and axis 1 of (3, 4) size 4",
    gives=(3, 4),
    v=(3,),
)
def places_of_axes(v):
    return lax.broadcast_in_dim(v, (3, 4), (1,))


@wrong("lax.batch_matmul(q, k.mT)", "k looks transposed", gives=(2, 3, 5), q=(2, 3, 4), k=(2, 5, 4))
def batches_transposed(q, k):
    return lax.batch_matmul(q, k)


CHANNELS_LAST = "dimension_numbers=('NHWC', 'HWIO', 'NHWC')"


@wrong(
    f"lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', {CHANNELS_LAST})",
    "by dimension_numbers=None, axis 1 of images holds its features, 8",
    gives=(1, 8, 8, 16),
    images=(1, 8, 8, 3),
    kernel=(3, 3, 3, 16),
)
def conv_layout(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME")


@wrong(
    f"lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', {CHANNELS_LAST})",
    "lax.conv: images is",
    images=(1, 8, 8, 3),
    kernel=(3, 3, 3, 16),
)
def conv_without_layout(images, kernel):
    return lax.conv(images, kernel, (1, 1), "SAME")


@wrong(
    "lax.conv_general_dilated(x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWOI', 'NHWC'))",
    "axis 3 of x holds its features, 3, and axis 2 of k those that it takes, 16",
    gives=(1, 8, 8, 16),
    x=(1, 8, 8, 3),
    k=(3, 3, 16, 3),
)
def conv_transposed_kernel(x, k):
    return lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@wrong(
    f"lax.conv_general_dilated(image[None], k, (1, 1), 'SAME', {CHANNELS_LAST})",
    "image lacks the batch axis: image[None] has shape (1, 8, 8, 3)",
    gives=(1, 8, 8, 16),
    image=(8, 8, 3),
    k=(3, 3, 3, 16),
)
def conv_without_batch(image, k):
    return lax.conv_general_dilated(
        image, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


LINEAR = nn.Linear(784, 10, rngs=nn.Rngs(0))
NARROW = nn.Linear(3, 4, rngs=nn.Rngs(0))
ONE = nn.Linear(1, 4, rngs=nn.Rngs(0))
CONV = nn.Conv(3, 8, (3, 3), rngs=nn.Rngs(0))
GRAY = nn.Conv(1, 8, (3, 3), rngs=nn.Rngs(0))
RECURRENT = nn.RNN(nn.LSTMCell(4, 8, rngs=nn.Rngs(0)))


class Classifier(nn.Module):
    def __init__(self):
        self.dense = LINEAR

    def __call__(self, images):
        return self.dense(images)


MODEL = Classifier()


@wrong(
    "self.dense(images.reshape(images.shape[0], -1))",
    "Linear: images is float32[32,28,28]",
    "(__call__)",
    "images has not been flattened: images.reshape(images.shape[0], -1) has shape (32, 784)",
    gives=(32, 10),
    x=(32, 28, 28),
)
def forgotten_flatten(x):
    return MODEL(x)


@wrong("NARROW(x.T)", "x looks transposed", gives=(7, 4), x=(3, 7))
def linear_transposed(x):
    return NARROW(x)


@wrong("ONE(t[..., None])", "the layer was made for 1 feature on", gives=(7, 4), t=(7,))
def linear_of_numbers(t):
    return ONE(t)


@wrong(
    "CONV(bnp.moveaxis(images, -3, -1))",
    "Conv: images is float32[2,3,8,9]",
    "images has its channels first: bnp.moveaxis(images, -3, -1) has shape (2, 8, 9, 3)",
    gives=(2, 8, 9, 8),
    images=(2, 3, 8, 9),
)
def channels_first(images):
    return CONV(images)


@wrong(
    "GRAY(images[..., None])", "lacks the axis of channels", gives=(2, 8, 9, 8), images=(2, 8, 9)
)
def no_channels(images):
    return GRAY(images)


@wrong(None, "made for 3 features on axis -1 of its input, after 2 spatial axes", x=(5, 3))
def too_few_axes(x):
    return CONV(x)


@wrong("RECURRENT(bnp.moveaxis(x, 1, -1))", "RNN: x is", gives=(2, 5, 8), x=(2, 4, 5))
def features_before_time(x):
    return RECURRENT(x)


@wrong(
    "nn.dot_product_attention(q[None], k, v)",
    "q lacks the batch axis",
    gives=(1, 5, 2, 8),
    q=(5, 2, 8),
    k=(1, 6, 2, 8),
    v=(1, 6, 2, 8),
)
def attention_without_batch(q, k, v):
    return nn.dot_product_attention(q, k, v)


@wrong(
    "nn.dot_product_attention(q[..., None, :], k[..., None, :], v[..., None, :])",
    "Without heads",
    gives=(3, 5, 1, 8),
    q=(3, 5, 8),
    k=(3, 6, 8),
    v=(3, 6, 8),
)
def attention_without_heads(q, k, v):
    return nn.dot_product_attention(q, k, v)


@wrong(
    "optim.squared_error(predictions, targets[..., None])",
    "such as (n, 1) against (n,)",
    gives=(8, 1),
    predictions=(8, 1),
    targets=(8,),
)
def loss_of_a_column(predictions, targets):
    return optim.squared_error(predictions, targets)


@wrong(
    "optim.softmax_cross_entropy_with_integer_labels(logits, labels)",
    "labels looks like one class number an example",
    gives=(8,),
    logits=(8, 5),
    labels=bnp.ones(8, int),
)
def labels_not_one_hot(logits, labels):
    return optim.softmax_cross_entropy(logits, labels)


@wrong(
    "optim.softmax_cross_entropy_with_integer_labels(logits, labels.argmax(-1))",
    "labels looks one-hot",
    gives=(8,),
    logits=(8, 5),
    labels=bnp.ones((8, 5), int),
)
def labels_one_hot(logits, labels):
    return optim.softmax_cross_entropy_with_integer_labels(logits, labels)
