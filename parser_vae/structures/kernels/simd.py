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


def kernel(function: Any = None, fastmath: Any = False) -> Any:
    """Return ``function`` compiled, without the interpreter's lock and without counting references to arrays.

    Counting takes longer than many a call. Such a function may take views of the arrays it is given, but make no new
    ones. ``fastmath``: the liberties of the compiler, as numba names them.
    """
    options: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": fastmath, "_nrt": False}
    return numba.njit(**options)(function) if function else numba.njit(**options)


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


def _some(context: Any, builder: Any, array_type: Any, args: Any, lanes: int) -> Any:
    """Return the address of the elements at ``args`` (array, index, count) and the mask of the first ``count``."""
    array, index, count = args
    data = context.make_array(array_type)(context, builder, array).data
    scalar = ir.FloatType() if array_type.dtype == types.float32 else ir.DoubleType()
    pointer = builder.bitcast(builder.gep(data, [index]), ir.VectorType(scalar, lanes).as_pointer())
    integers = ir.VectorType(ir.IntType(32), lanes)
    counted = builder.insert_element(
        ir.Constant(integers, ir.Undefined), builder.trunc(count, ir.IntType(32)), ir.Constant(ir.IntType(32), 0)
    )
    counted = builder.shuffle_vector(counted, counted, ir.Constant(integers, [0] * lanes))
    return pointer, builder.icmp_signed("<", ir.Constant(integers, list(range(lanes))), counted)


def _cast(builder: Any, value: Any, to: ir.Type) -> Any:
    """Return the vector ``value`` with its lanes as floats of the width of those of ``to``."""
    if value.type == to:
        return value
    return builder.fpext(value, to) if to.element == ir.DoubleType() else builder.fptrunc(value, to)


@_instruction
def load_some(typing: Any, array: Any, index: Any, count: Any, blank: Any) -> Any:
    """Return a vector like ``blank`` whose first ``count`` lanes are ``array[index:]``, the others those of ``blank``.

    The array may be of another float type; nothing beyond ``count`` is read, and nothing if that is negative.
    """
    lanes = blank.lanes

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, mask = _some(context, builder, sig.args[0], args[:3], lanes)
        source = pointer.type.pointee
        name = f"llvm.masked.load.v{lanes}f{sig.args[0].dtype.bitwidth}.p0"
        kind = ir.FunctionType(source, [pointer.type, ir.IntType(32), mask.type, source])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
        return _cast(
            builder, builder.call(function, [pointer, align, mask, _cast(builder, args[3], source)]), _register(blank)
        )

    return blank(array, types.intp, types.intp, blank), generate


@_instruction
def store_some(typing: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """Write the first ``count`` lanes of ``vector`` to ``array[index:]``, which may be of another float type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, mask = _some(context, builder, sig.args[0], args[:3], vector.lanes)
        name = f"llvm.masked.store.v{vector.lanes}f{sig.args[0].dtype.bitwidth}.p0"
        kind = ir.FunctionType(ir.VoidType(), [pointer.type.pointee, pointer.type, ir.IntType(32), mask.type])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
        builder.call(function, [_cast(builder, args[3], pointer.type.pointee), pointer, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), generate


@_instruction
def transpose(typing: Any, array: Any) -> Any:
    """Transpose the square of lanes x lanes elements at the start of ``array``, in place."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = vector.lanes
        at = [ir.Constant(ir.IntType(64), lanes * row) for row in range(lanes)]
        pointers = [_address(context, builder, sig.args[0], args[0], place) for place in at]
        align = sig.args[0].dtype.bitwidth // 8
        rows = [builder.load(pointer, align=align) for pointer in pointers]
        step = 1
        while step < lanes:  # exchange the off-diagonal quarters of every square of 2 step x 2 step
            upper = [lane + lanes - step if lane & step else lane for lane in range(lanes)]
            lower = [lane + lanes if lane & step else lane + step for lane in range(lanes)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), lanes_) for lanes_ in (upper, lower)]
            for row in range(lanes):
                if not row & step:
                    pair = rows[row], rows[row + step]
                    rows[row], rows[row + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            step *= 2
        for row, pointer in zip(rows, pointers, strict=True):
            builder.store(row, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array), generate


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
def total(typing: Any, vector: Any) -> Any:
    """Return the sum of all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = _register(sig.args[0])
        name = f"llvm.vector.reduce.fadd.v{sig.args[0].lanes}f{sig.args[0].dtype.bitwidth}"
        kind = ir.FunctionType(register.element, [register.element, register])
        reduce = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(reduce, [ir.Constant(register.element, 0.0), args[0]], fastmath=("reassoc",))

    return vector.dtype(vector), generate


@_instruction
def count_shared(typing: Any, array: Any, left: Any, right: Any) -> Any:
    """Return in how many of 16 places ``array[left:]`` and ``array[right:]`` (int32) are equal and not negative."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        register = ir.VectorType(ir.IntType(32), REGISTER_BYTES // 4)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        pointers = [builder.bitcast(builder.gep(data, [index]), register.as_pointer()) for index in args[1:]]
        values = [builder.load(pointer, align=4) for pointer in pointers]
        zeros = ir.Constant(register, [0] * register.count)
        both = builder.and_(builder.icmp_signed("==", *values), builder.icmp_signed(">=", values[0], zeros))
        bits = builder.zext(builder.bitcast(both, ir.IntType(register.count)), ir.IntType(64))
        return builder.ctpop(bits)

    return types.int64(array, types.intp, types.intp), generate


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
