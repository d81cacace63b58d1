"""Parse laws and stencils from text such as "Brownian(0.5) + Stable(1.4)"."""

import ast
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any


def evaluate(text: str, names: Mapping[str, Any], what: str) -> Any:
    """Evaluate an expression of numbers, tuples, sums and calls of the functions in `names`.

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
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in names:
                named = {keyword.arg or "": value(keyword.value) for keyword in keywords}
                return names[name](*map(value, args), **named)
            case ast.Call(func=ast.Name(id=name)) if near := get_close_matches(name, names, n=1):
                raise ValueError(f"there is no `{name}`; did you mean `{near[0]}`?")
        raise ValueError(f"`{ast.unparse(node)}` is not one of {', '.join(names)}")

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError) as error:
        reason = str(error) if str(error).endswith((".", "?")) else f"{error}."
        raise ValueError(f"{text!r} is not a {what}: {reason}") from error
