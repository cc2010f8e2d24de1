"""A device that no machine lacks: its tensors lie in the processor's memory, and it behaves like a card all the same.

No operation takes its tensors together with the processor's own (but to copy, and single numbers), none of them becomes
a NumPy array, and it has no numbers of 64 bits with a point, as Apple's has none. What runs on it keeps track of where its tensors are, and computes what the processor does, but
for the last bits: some products are put together otherwise.

    python -m tests.elsewhere < jobs.jsonl

does jobs on it, a line each: `{"recipe": {…}, "home": "…"}`, broken off after two steps of training and gone on with; and
tells of each, on a line, what was raised, or null. A process of its own, for torch must know the device before the first
backward pass.
"""

import json
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils._device import _device_constructors
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"


class _Module:
    """What torch asks of a device's module."""

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def device_count():
        return 1

    @staticmethod
    def is_initialized():
        return True

    @staticmethod
    def current_device():
        return 0

    @staticmethod
    def _is_in_bad_fork():
        return False

    @staticmethod
    def manual_seed_all(seed):
        """It has no generator of its own."""


class Far(torch.Tensor):
    """A tensor of the device, around one of the processor's."""

    @staticmethod
    def __new__(cls, near):
        made = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            layout=near.layout, device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        assert not isinstance(near, Far)
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})

    def tolist(self):
        return self.near.tolist()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        torch.Tensor.data.__set__(self, other)
        self.near = other.near


COPIES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::to"}


def _run(function, args, kwargs):
    name, given = function._schema.name, list(_leaves((*args, *kwargs.values())))
    far = [one for one in given if isinstance(one, Far)]
    near = [one for one in given if isinstance(one, torch.Tensor) and not isinstance(one, Far)]
    if not name.startswith("aten::_fused"):  # which take no single number from the processor either
        near = [one for one in near if one.ndim]
    if far and near and name not in COPIES:
        raise RuntimeError(f"{name}: tensors of {NAME} and of {near[0].device}, {[tuple(one.shape) for one in near]}")
    wanted = [one.type == NAME for one in given if isinstance(one, torch.device)]
    to_far = isinstance(args[0], Far) if name == "aten::copy_" else wanted[0] if wanted else bool(far)

    def brought(one):
        return one.near if isinstance(one, Far) else torch.device("cpu") if isinstance(one, torch.device) else one

    args, kwargs = _mapped(brought, args), {key: _mapped(brought, value) for key, value in kwargs.items()}
    found = function(*args, **kwargs)
    if name in COPIES and to_far is not bool(far) and any(found is one for one in _leaves(args)):
        found = found.clone()  # between devices nothing is the same memory
    same = {id(one.near): one for one in far}

    def wrapped(one):
        if not to_far or not isinstance(one, torch.Tensor):
            return one
        if one.dtype == torch.float64:
            raise RuntimeError(f"{name}: {NAME} has no float64")
        return same[id(one)] if id(one) in same else Far(one)

    return _mapped(wrapped, found)


def _leaves(values):
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(function, value):
    return type(value)(_mapped(function, one) for one in value) if isinstance(value, list | tuple) else function(value)


KERNELS = torch.library.Library("_", "IMPL")
"""Kept here: torch forgets them with it."""


def register():
    """Have torch know the device called `NAME`, in this process and from now on."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    KERNELS.fallback(lambda function, *args, **named: _run(function, args, named), "PrivateUse1")
    _device_constructors()  # names torch's own `tensor`, once for all: what `with torch.device(…)` reaches
    plain = torch.tensor

    def tensor(data, *, device=None, **named):  # torch's own makes it there by a way past dispatch
        return plain(data, **named) if device is None else plain(data, **named).to(device)

    torch.tensor = tensor


def check():
    """That it is as it is said to be."""
    far = torch.ones(3, device=NAME)
    assert (far + 1).cpu().tolist() == [2, 2, 2] and float(far.sum()) == 3
    for refused in (lambda: far + torch.ones(3), lambda: far[torch.tensor([0])], far.numpy, far.double):
        try:
            refused()
        except RuntimeError:
            continue
        raise AssertionError("it takes what a card would not")


def main():
    register()
    check()
    from tests.training.test_loop import StopAt

    import limbeck
    from limbeck.errors import Stopped
    from limbeck.progress import StopSignal

    verbs = {
        "distillation": limbeck.distill,
        "fine-tuning": limbeck.fine_tune,
        "continued-pre-training": limbeck.pretrain,
    }
    for line in sys.stdin:
        job = json.loads(line)
        do, stop, home = verbs[job["recipe"]["kind"]], StopSignal(), Path(job["home"])
        try:
            with suppress(Stopped):
                do(job["recipe"], home=home, progress=StopAt(stop, 2, "training"), stop=stop)
                raise AssertionError("it was not broken off")
            assert list((home / "jobs").glob("*/4-training/step-*")), "no checkpoint"
            do(job["recipe"], home=home, resume=True)
            print("null", flush=True)
        except Exception:
            print(json.dumps(traceback.format_exc()), flush=True)


if __name__ == "__main__":
    main()
