"""Where networks are trained, and in which precision. Imports torch only to look for devices.

Classical heads are fitted on the CPU in float64, whatever is asked for here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from features.common.errors import RunError
from models.neural.settings import PRECISIONS

AUTO = "auto"
FLOAT32 = PRECISIONS[0]


@dataclass(frozen=True)
class TrainingPlace:
    """A device and a precision.

    Attributes
    ----------
    device : str
        "cpu", "cuda" or "cuda:N".
    precision : {"float32", "bfloat16"}
        Of forward passes.
    name : str
        Of a CUDA device.
    """

    device: str = "cpu"
    precision: str = FLOAT32
    name: str = ""

    @property
    def kind(self) -> str:
        """The kind of its device: cpu or cuda."""
        return self.device.split(":")[0]

    @property
    def engine(self) -> str:
        """Who fits, as a run says it.

        Examples
        --------
        >>> TrainingPlace().engine
        'neural engine, float32 on a CPU'
        """
        where = "a CPU" if self.kind == "cpu" else f"CUDA ({self.name})"
        return f"neural engine, {self.precision} on {where}"

    def record(self) -> dict[str, str]:
        """As `run.json` has it; nothing depends on which of several equal devices it was."""
        name = {"name": self.name} if self.name else {}
        return {"kind": self.kind, "precision": self.precision, **name}


def find_place(device: str, precision: str) -> TrainingPlace:
    """The place that is asked for.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N"}
        "auto" is a CUDA device where torch sees one, else the CPU.
    precision : str

    Returns
    -------
    TrainingPlace

    Raises
    ------
    RunError
        There is no such device, or networks are not trained so.
    """
    if precision not in PRECISIONS:
        raise RunError(f"PRECISION={precision}: networks are trained in {' or '.join(PRECISIONS)}")
    if not re.fullmatch(rf"{AUTO}|cpu|cuda(:\d+)?", device):
        raise RunError(
            f"DEVICE={device}: networks are trained on cpu, cuda or cuda:N, or {AUTO}: a CUDA "
            "device where there is one, else the CPU"
        )
    found = TrainingPlace("cpu", precision) if device == "cpu" else _visible(device, precision)
    if found.kind == "cpu" and precision != FLOAT32:
        raise RunError(
            f"PRECISION={precision}: networks are trained so on CUDA alone, and DEVICE={device} is "
            "a CPU here; leave PRECISION out"
        )
    return found


def _visible(device: str, precision: str) -> TrainingPlace:
    """A CUDA device that torch sees; for "auto" the CPU where it sees none."""
    import torch

    if not torch.cuda.is_available():
        if device == AUTO:
            return TrainingPlace("cpu", precision)
        raise RunError(f"DEVICE={device}: torch sees no CUDA device here; DEVICE=cpu trains, too")
    number = int(device.partition(":")[2] or 0)
    n = torch.cuda.device_count()
    if number >= n:
        raise RunError(f"DEVICE={device}: this machine has {n} of them, from cuda:0")
    whole = "cuda" if device == AUTO else device
    return TrainingPlace(whole, precision, torch.cuda.get_device_name(number))
