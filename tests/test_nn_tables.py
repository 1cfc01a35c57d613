"""`nn.tabulate`, `nn.display`, and how modules show themselves in notebooks."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax, nn
from bevel.nn import tables


class Net(nn.Module):
    def __init__(self):
        rngs = nn.Rngs(0)
        self.conv = nn.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nn.BatchNorm(8, use_running_average=False, rngs=rngs)
        self.drop = nn.Dropout(0.5, rngs=rngs)
        self.stack = nn.Stack(nn.Linear, 3, 8, 8, rngs=rngs)
        self.unused = nn.Embed(10, 4, rngs=rngs)
        self.head = nn.LoRALinear(8, 2, lora_rank=2, rngs=rngs)

    def __call__(self, x, *, train=True):
        x = self.norm(self.conv(x))
        x = self.drop(x) if train else x
        return {"y": self.head(self.stack(x)), "mean": x.mean()}

    def short(self, x):
        return self.conv(x)


def rows_of(text):
    """Cells by path, from the printed table."""
    found, path = {}, None
    for line in text.splitlines():
        if not line.startswith("\u2502"):
            continue
        cells = [c.strip() for c in line.strip("\u2502").split("\u2502")]
        if cells[1]:
            path = cells[0]
        found.setdefault(path, []).append(cells)
    joined = {
        p: [" ".join(c).strip() for c in zip(*rows, strict=True)] for p, rows in found.items()
    }
    return joined


def test_a_table_of_a_model():
    model = Net()
    x = bv.ShapeDtypeStruct((2, 8, 8, 3), "float32")
    before = nn.state(model, nn.Not(nn.RngState))
    text = nn.tabulate(model, x, compute_flops=True, console_kwargs={"width": 200})
    rows = rows_of(text)
    assert list(rows)[1:-1] == [
        *("", "conv", "norm", "drop", "stack", "stack/layer", "head", "head/lora"),
    ]
    assert "LoRAParam" in text and "BatchStat" in text and "RngState" in text
    conv = rows["conv"]
    assert conv[1:4] == ["Conv", "float32[2,8,8,3]", "float32[2,8,8,8]"]
    n = 2 * 8 * 8 * 8
    assert conv[4] == f"{2 * n * 27 + n:,}"
    assert "kernel: float32[3,3,3,8]" in text and "224 (896 B)" in text
    assert rows["head"][4] == f"{2 * 128 * 16 + 256 + 2 * 128 * 16 + 2 * 128 * 4 + 256:,}"
    assert int(rows["stack"][4].replace(",", "")) == 3 * int(
        rows["stack/layer"][4].replace(",", "")
    )
    total = sum(v.size for v in nn.state(model).flat_state().values())
    assert f"Total: {total}" in text
    after = nn.state(model, nn.Not(nn.RngState))
    for path, v in before.flat_state().items():
        np.testing.assert_array_equal(v, after.flat_state()[path])
    assert int(model.drop.rngs.count) == 0 and "__call__" in vars(nn.Conv)
    assert nn.Conv.__call__.__name__ == "__call__"


def test_what_the_table_shows_can_be_chosen():
    x = bnp.ones((2, 8, 8, 3))
    wide = {"console_kwargs": {"width": 200}}
    text = nn.tabulate(Net(), x, train=False, depth=1, **wide)
    rows = rows_of(text)
    assert "drop" not in rows and "head/lora" not in rows and "unused" in rows
    assert "flops" not in text
    assert list(rows_of(nn.tabulate(Net(), x, method="short", depth=0, **wide)))[1] == ""
    only = nn.tabulate(Net(), x, row_filter=lambda r: r.type is nn.Conv, **wide)
    assert "conv" in only and "head" not in only
    with pytest.raises(ValueError, match="Conv: the input"):
        nn.tabulate(Net(), bnp.ones((2, 8, 8, 4)))
    assert nn.Conv.__call__.__name__ == "__call__"  # the methods are back after an error, too


def test_work_of_gradients():
    x = bv.ShapeDtypeStruct((4, 8), "float32")
    rngs = nn.Rngs(0)
    model = nn.Sequential(nn.Linear(8, 16, rngs=rngs), nn.relu, nn.Linear(16, 2, rngs=rngs))
    text = nn.tabulate(
        model, x, compute_flops=True, compute_vjp_flops=True, console_kwargs={"width": 200}
    )
    rows = rows_of(text)
    product = 2 * 4 * 8 * 16
    forward, both = (int(rows["layers/0"][i].replace(",", "")) for i in (4, 5))
    assert forward == product + 4 * 16  # and the bias
    assert 3 * product <= both <= 3 * product + 4 * 4 * 16  # with those by kernel and by input
    whole = int(rows[""][5].replace(",", ""))
    assert whole >= both + int(rows["layers/2"][5].split()[0])
    ids = nn.tabulate(
        nn.Embed(5, 3, rngs=rngs), bnp.array([1, 2]), compute_vjp_flops=True, **{"depth": 0}
    )
    assert "vjp_flops" in ids


def test_work_is_counted_by_the_graph():
    cases = [
        (lambda x: x @ x, (8, 8), 2 * 8**3),
        (lambda x: bnp.tanh(x) + 1, (8, 8), 2 * 64),
        (lambda x: x.sum(), (8, 8), 64),
        (lambda x: x.T.reshape(-1)[3:], (8, 8), 0),
        (lambda x: bv.jit(bnp.tanh)(x), (8, 8), 64),
        (lambda x: lax.fori_loop(0, 5, lambda i, v: v * 2, x), (8,), 5 * 8),
        (lambda x: lax.cond(x[0] > 0, lambda v: v * 2, lambda v: v, x), (8,), 8),
    ]
    for f, shape, want in cases:
        assert tables.flops_of(bv.make_graph(f)(bnp.ones(shape)).eqns) == want


def test_modules_in_notebooks_and_terminals(capsys):
    model = Net()
    shown = model._repr_html_()
    assert shown.count("<details") == shown.count("</details>") > 5
    assert "kernel: </b>Param(float32[3, 3, 3, 8])" in shown
    escaped = nn.Dropout(0.5)
    escaped.rng_collection = "<b>"
    assert "&lt;b&gt;" in escaped._repr_html_()
    nn.display(nn.Dropout(0.25), 3)
    out = capsys.readouterr().out
    assert "Dropout(rate=0.25" in out and "3" in out
