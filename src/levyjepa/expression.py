"""Parse laws and stencils from text such as "Brownian(0.5) + Stable(1.4)"."""

import ast
import operator
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda a, b: a**b if 0 <= b <= 64 and abs(a) <= 1e9 else float(a) ** float(b),
}


def evaluate(text: str, names: Mapping[str, Any], what: str) -> Any:
    """Evaluate an expression of numbers, tuples and calls of the functions in `names`.

    Numbers may be combined by + - * / and **. What the functions return may be added, and
    multiplied by a number.

    Args:
        text: The expression.
        names: The functions that the expression may call, by name.
        what: What the expression describes, for error messages: "law".

    Returns:
        The value of the expression.

    Raises:
        ValueError: The text contains anything else, or a call raises an error.
    """

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(value(item) for item in items)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b = value(left), value(right)
                numbers = sum(isinstance(side, (int, float)) for side in (a, b))
                plain = not isinstance(a, tuple) and not isinstance(b, tuple)
                if (
                    numbers == 2
                    or isinstance(op, ast.Add)
                    or (isinstance(op, ast.Mult) and numbers == 1 and plain)
                ):
                    return _ARITHMETIC[type(op)](a, b)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in names:
                named = {keyword.arg or "": value(keyword.value) for keyword in keywords}
                return names[name](*map(value, args), **named)
            case ast.Call(func=ast.Name(id=name)) if near := get_close_matches(name, names, n=1):
                raise ValueError(f"there is no `{name}`; did you mean `{near[0]}`?")
        raise ValueError(f"`{ast.unparse(node)}` is not one of {', '.join(names)}")

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (
        SyntaxError,
        TypeError,
        ValueError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        reason = str(error) if str(error).endswith((".", "?")) else f"{error}."
        raise ValueError(f"{text!r} is not a {what}: {reason}") from error
