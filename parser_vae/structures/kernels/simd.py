# mypy: disable-error-code="no-untyped-call, import-untyped, untyped-decorator"
"""Registers inside numba: one 64-byte vector of floats as a value, so that kernels decide what a lane means.

numba vectorises only what LLVM recognises by itself, and a chart recursion is not among it. Here ``load`` gives a
vector of 16 float32 or 8 float64 (LLVM splits it where the machine's registers are narrower), ``+ - *`` and the
functions below work on it, and ``store`` writes it back. Indices are never tested: the caller keeps them in range.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

REGISTER_BYTES = 64


class Vector(types.Type):
    """The numba type of one register full of floats of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = REGISTER_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _register(vector))


def _register(vector: Vector) -> ir.Type:
    scalar = ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(scalar, vector.lanes)


def _integers(vector: Vector) -> ir.Type:
    return ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.lanes)


def _arithmetic(operation: Any, instruction: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(operation)(Template)

    @lower_builtin(operation, Vector, Vector)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # "contract" lets a product and a sum become one fused instruction; nothing else is relaxed
        return getattr(builder, instruction)(*args, flags=("contract",))


for _operation, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_operation, _name)


def _instruction(function: Any) -> Any:
    """Return ``function`` as a numba intrinsic, typed Any because its Python signature is not how it is called."""
    return intrinsic(function)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _register(Vector(array_type.dtype)).as_pointer())


@_instruction
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the vector at ``array[index:]`` of a flat contiguous array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], *args)
        return builder.load(pointer, align=sig.args[0].dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), generate


@_instruction
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write ``vector`` to ``array[index:]`` of a flat contiguous array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=sig.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_instruction
def spread(typing: Any, array: Any, value: Any) -> Any:
    """Return a vector, of the dtype of ``array``, with ``value`` in every lane."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = _register(vector)
        first = builder.insert_element(ir.Constant(register, ir.Undefined), args[1], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(first, ir.Constant(register, ir.Undefined), zeros)

    return vector(array, array.dtype), generate


@_instruction
def maximum(typing: Any, left: Any, right: Any) -> Any:
    """Return ``left > right ? left : right`` lane by lane (``right`` where either is NaN)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return left(left, right), generate


@numba.njit(inline="always")
def lanes_of(array: Any) -> Any:
    """Return how many elements of ``array`` fill one vector."""
    return REGISTER_BYTES // array.itemsize
