"""Laws and stencils from the text that prints them."""

import ast
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any


def evaluate(text: str, names: Mapping[str, Any], what: str) -> Any:
    """Evaluate an expression of numbers, tuples, sums and calls of `names`, and nothing else.

    Raises:
        ValueError: the text is no such expression, or a call refuses its arguments.
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
