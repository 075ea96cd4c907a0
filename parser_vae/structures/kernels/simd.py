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
from numba.core import cgutils, types
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


@_instruction
def where_greater(typing: Any, left: Any, right: Any, yes: Any, no: Any) -> Any:
    """Return ``left > right ? yes : no`` lane by lane (``no`` where either is NaN)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return left(left, left, left, left), generate


@_instruction
def quotient(typing: Any, left: Any, right: Any) -> Any:
    """Return ``left / right`` lane by lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return left(left, right), generate


@_instruction
def nearest(typing: Any, vector: Any) -> Any:
    """Return every lane rounded to a whole number."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = _register(sig.args[0])
        name = f"llvm.rint.v{sig.args[0].lanes}f{sig.args[0].dtype.bitwidth}"
        rint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(register, [register]), name)
        return builder.call(rint, args)

    return vector(vector), generate


@_instruction
def power_of_two(typing: Any, vector: Any) -> Any:
    """Return ``2 ** k``, its exponent bits set, for lanes holding whole numbers ``k`` in the range of normal floats."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integers = _integers(sig.args[0])
        lanes = sig.args[0].lanes
        bias, shift = (127, 23) if sig.args[0].dtype == types.float32 else (1023, 52)
        exponent = builder.add(builder.fptosi(args[0], integers), ir.Constant(integers, [bias] * lanes))
        bits = builder.shl(exponent, ir.Constant(integers, [shift] * lanes))
        return builder.bitcast(bits, _register(sig.args[0]))

    return vector(vector), generate


@numba.njit(cache=True)  # one rounding of the argument's remainder, then Taylor's series: relative error about 2 ulp
def exponential(array: Any, vector: Any) -> Any:
    """Return ``exp`` of every lane for lanes of at most 0, or 0 where that is below the smallest normal float.

    Args:
        array: Any array of the dtype of ``vector``; only its dtype is used.
        vector: Lanes from ``-inf`` to 0; NaN gives 0.
    """
    single = array.itemsize == 4
    smallest = spread(array, -87.0 if single else -708.0)
    whole = nearest(maximum(vector, smallest) * spread(array, 1.4426950408889634))
    # ln 2 in two pieces, the first short enough for `whole * piece` to be exact
    rest = maximum(vector, smallest) - whole * spread(array, 0.693359375 if single else 0.6931471803691238)
    rest = rest - whole * spread(array, -2.12194440054690583e-4 if single else 1.9082149292705877e-10)
    one = spread(array, 1.0)
    series = spread(array, 1.0 / 5040)
    if not single:
        series = spread(array, 1.0 / 6227020800)
        series = series * rest + spread(array, 1.0 / 479001600)
        series = series * rest + spread(array, 1.0 / 39916800)
        series = series * rest + spread(array, 1.0 / 3628800)
        series = series * rest + spread(array, 1.0 / 362880)
        series = series * rest + spread(array, 1.0 / 40320)
        series = series * rest + spread(array, 1.0 / 5040)
    series = series * rest + spread(array, 1.0 / 720)
    series = series * rest + spread(array, 1.0 / 120)
    series = series * rest + spread(array, 1.0 / 24)
    series = series * rest + spread(array, 1.0 / 6)
    series = series * rest + spread(array, 0.5)
    series = series * rest + one
    series = series * rest + one
    return where_greater(vector, smallest, series * power_of_two(whole), spread(array, 0.0))
