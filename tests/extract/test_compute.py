"""What a process of an extraction sets before torch is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
FEWER_DIGITS = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "ANY",
    "NVIDIA_TF32_OVERRIDE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}
PRODUCT = """
import hashlib, json, os, sys
if len(sys.argv) > 1:
    import extract.job.compute
import torch
values = torch.linspace(-1, 1, 256 * 256).view(256, 256)
product = torch.ops.aten.mm(values, values.T).numpy().tobytes()
convolved = torch.nn.functional.conv1d(values[None], values[:, :96].reshape(256, 32, 3), groups=8)
print(json.dumps([
    hashlib.sha256(product + convolved.numpy().tobytes()).hexdigest(),
    torch.get_float32_matmul_precision(),
    sorted(name for name in os.environ if "FPMATH" in name or "TF32" in name),
]))
"""


def product(*argv: str, **environment: str) -> list[object]:
    plain = {name: value for name, value in os.environ.items() if name not in FEWER_DIGITS}
    answer = subprocess.run(
        [sys.executable, "-c", PRODUCT, *argv],
        env={**plain, "PYTHONPATH": str(TOP), **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: list[object] = json.loads(answer.stdout)
    return found


@pytest.mark.process
def test_the_environment_takes_no_digits_of_float32() -> None:
    expected = product()
    assert expected[1:] == ["highest", []]
    assert product("compute", **FEWER_DIGITS) == expected
    # Elsewhere it would: the products, too, on processors that have bfloat16.
    assert product(**FEWER_DIGITS)[1] == "high"
