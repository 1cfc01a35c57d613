"""A character-level GPT trained on this repository's own documentation, sampled with a KV cache.

    python -m examples.char_gpt

Training sees whole windows of text under a causal mask. Sampling feeds one character at a time with
`decode=True`: every attention layer keeps its keys and values in `nn.Cache` cells, so that a new
character costs one row of attention. Both ways give the same logits, which `main` checks.
"""

from pathlib import Path

import numpy as np

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn, optim, random
from bevel.scipy import special


class Block(nn.Module):
    """Attention and a two-layer network, each added to its normalized input."""

    def __init__(self, features, heads, rngs):
        self.norm1 = nn.LayerNorm(features, rngs=rngs)
        self.attention = nn.MultiHeadAttention(heads, features, rngs=rngs)
        self.norm2 = nn.LayerNorm(features, rngs=rngs)
        self.up = nn.Linear(features, 4 * features, rngs=rngs)
        self.down = nn.Linear(4 * features, features, rngs=rngs)

    def __call__(self, x, decode):
        x = x + self.attention(self.norm1(x), is_causal=True, decode=decode)
        return x + self.down(nn.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Tokens (N, T) to logits (N, T, vocabulary) of the token after each."""

    def __init__(self, vocabulary, context, features, heads, layers, rngs):
        self.context, self.features = context, features
        self.token = nn.Embed(vocabulary, features, rngs=rngs)
        self.position = nn.Embed(context, features, rngs=rngs)
        self.blocks = [Block(features, heads, rngs) for _ in range(layers)]
        self.norm = nn.LayerNorm(features, rngs=rngs)
        self.head = nn.Linear(features, vocabulary, rngs=rngs)

    def __call__(self, tokens, start=0, decode=False):
        x = self.token(tokens) + self.position(start + bnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x, decode)
        return self.head(self.norm(x))

    def init_cache(self, batch):
        """Empty caches for `batch` texts of up to `context` tokens."""
        for block in self.blocks:
            block.attention.init_cache((batch, self.context, self.features))


def loss_fn(model, windows):
    logits = model(windows[:, :-1])
    return optim.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean()


@bv.jit
def step(model, optimizer, windows):
    loss, grads = bv.value_and_grad(loss_fn)(model, windows)
    optimizer.update(grads)
    return loss


@bv.jit
def sample(model, prompt, key, temperature=0.8):
    """Texts (N, context) that go on from prompts (N, P), and the logits they were drawn from."""
    given = prompt.shape[1]
    prompt = bnp.pad(prompt, ((0, 0), (0, model.context - given)))

    def step(token, i):
        logits = model(token[:, None], start=i, decode=True)[:, 0]
        drawn = random.categorical(random.fold_in(key, i), logits / temperature)
        return bnp.where(i + 1 < given, prompt[:, i + 1], drawn), (token, logits)

    _, (tokens, logits) = lax.scan(step, prompt[:, 0], bnp.arange(model.context))
    return tokens.T, logits.swapaxes(0, 1)


def main(steps=1000, batch=16, context=64, features=64, heads=4, layers=2, rate=8e-3, text=""):
    """Train, sample, print; returns losses (nats a character) and how far the logits are apart."""
    root = Path(__file__).parent.parent
    files = [root / "README.md", *sorted(root.glob("docs/**/*.md"))]
    text = text or "\n\n".join(f.read_text(encoding="utf-8") for f in files)
    letters = sorted(set(text))
    data = np.array([letters.index(c) for c in text], np.int32)
    split = len(data) * 9 // 10
    windows = np.lib.stride_tricks.sliding_window_view(data, context + 1)
    unigram = special.entr(np.bincount(data) / len(data)).sum()

    model = GPT(len(letters), context, features, heads, layers, nn.Rngs(0))
    schedule = optim.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps)
    optimizer = nn.Optimizer(model, optim.adamw(schedule, weight_decay=0.1))
    rng = np.random.default_rng(0)
    for i in range(steps):
        loss = step(model, optimizer, windows[rng.integers(0, split - context, batch)])
        if (i + 1) % max(1, steps // 6) == 0:
            print(f"step {i + 1:4}  loss {float(loss):.3f}")
    held_out = float(bv.jit(loss_fn)(model, windows[split::context]))
    print(f"held-out text: {held_out:.3f} nats a character (of letters alone: {unigram:.3f})")

    model.init_cache(batch=2)
    start = bnp.array([[letters.index(c) for c in "# Bevel"]] * 2)
    tokens, cached = sample(model, start, random.key(1))
    difference = float(bnp.abs(bv.jit(model)(tokens) - cached).max())
    print(f"largest difference between cached and uncached logits: {difference:.1e}")
    for row in np.asarray(tokens):
        print("---", "".join(letters[t] for t in row), sep="\n")
    return {"held_out": held_out, "unigram": float(unigram), "difference": difference}


if __name__ == "__main__":
    main()
