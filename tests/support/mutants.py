"""Mutants that mutmut does not make: of the Lua scripts, and of Python outside of functions or under decorators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import ndiff
from typing import NamedTuple, cast

import libcst as cst
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

#: The name of an HTTP header in quotes.
_HEADER = re.compile(r'"(?:[A-Z][a-z]+|WWW|X)(?:-[A-Z][A-Za-z]*)*"')


class Change(NamedTuple):
    """What makes a mutant: where, and the lines before and after. Indentation is left out."""

    where: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [f"@@ {self.where}", *(f"- {line}" for line in self.before), *(f"+ {line}" for line in self.after)]
        )

    @property
    def is_none(self) -> bool:
        """Whether only the case of a header's name is different, which makes no difference in HTTP."""
        before, after = (" ".join(lines) for lines in (self.before, self.after))
        if not re.search(r"\b(headers|said)\b", before):
            return False
        words = zip(*(re.findall('"[^"]*"', line) for line in (before, after)), strict=False)
        changed = [(one, other) for one, other in words if one != other]
        return len(changed) == 1 and all(
            _HEADER.fullmatch(one) and one.lower() == other.lower() for one, other in changed
        )


def change_between(where: str, source: str, mutated: str) -> Change:
    lines = list(ndiff(source.splitlines(), mutated.splitlines()))
    before, after = (tuple(line[2:].strip() for line in lines if line.startswith(sign)) for sign in ("- ", "+ "))
    return Change(where, before, after)


def applied(change: Change, source: str) -> str:
    """The source with the change made in it, at the first such lines from the named function on."""
    lines = source.splitlines()
    begin = next((number for number, line in enumerate(lines) if re.search(rf"\bdef {change.where}\b", line)), 0)
    number = next(
        number
        for number in range(begin, len(lines))
        if tuple(line.strip() for line in lines[number : number + len(change.before)]) == change.before
    )
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    lines[number : number + len(change.before)] = [indent + line for line in change.after]
    return "\n".join([*lines, ""])


# Python


def python_mutants(source: str) -> Iterator[tuple[Change, str]]:
    """mutmut's own mutants of what it leaves out: each with the whole mutated source."""
    module, mutations = _mutations(source)
    for mutation in mutations:
        place = mutation.contained_by_top_level_function
        if not _is_mutmuts(place):
            where = place.name.value if isinstance(place, cst.FunctionDef) else "module"
            mutated = cast(cst.Module, deep_replace(module, mutation.original_node, mutation.mutated_node)).code
            yield change_between(where, source, mutated), mutated


def has_plain_functions(source: str) -> bool:
    """Whether there is anything for mutmut."""
    return any(_is_mutmuts(mutation.contained_by_top_level_function) for mutation in _mutations(source)[1])


def _mutations(source: str) -> tuple[cst.Module, list[Mutation]]:
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _LeftOut(mutation_operators, IgnoredCode(set(), set(), set()))
    return wrapper.visit(visitor), visitor.mutations


def _is_mutmuts(place: cst.CSTNode | None) -> bool:
    return isinstance(place, cst.FunctionDef) and not place.decorators


class _LeftOut(MutationVisitor):
    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return any(decorator.decorator.deep_equals(_OVERLOAD) for decorator in node.decorators)
        # For mypy alone.
        if isinstance(node, cst.Assign) and isinstance(node.value, cst.Call) and _TYPE_VAR.deep_equals(node.value.func):
            return True
        return super()._skip_node_and_children(node)


_OVERLOAD, _TYPE_VAR = cst.Name("overload"), cst.Name("TypeVar")

# Lua

_TOKEN = re.compile(
    r"(?P<string>'[^']*')|(?P<comment>--.*)|(?P<number>\b\d+\b)|(?P<word>\b(?:and|or|not)\b|math\.(?:max|min|floor))"
    r"|(?P<operator><=|>=|==|~=|<|>|[+*/]|(?<=[\w)\]] )-(?= ))"
)
_SWAPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "==", "+": "-", "-": "+", "*": "/", "/": "*"}
_SWAPPED |= {"and": "or", "or": "and", "not": "", "math.max": "math.min", "math.min": "math.max", "math.floor": ""}
_CONDITION = re.compile(r"\bif (.*?) then\b")
#: A whole statement on a line of its own that can be left out.
_STATEMENT = re.compile(r"\s*(?!\s|local|return|if.*then$|for.*do$|end|else|function|--).*\S")


def lua_mutants(source: str) -> Iterator[tuple[Change, str]]:
    """Swapped operators, numbers one up, negated conditions, statements left out: each with the mutated source."""
    lines = source.splitlines()
    where = "script"
    for number, line in enumerate(lines):
        if function := re.match(r"local function (\w+)", line):
            where = function[1]
        elif line and not line.startswith(" ") and line != "end":
            where = "script"
        for mutated in dict.fromkeys(_lines(line)):
            code = "\n".join([*lines[:number], mutated, *lines[number + 1 :], ""])
            yield Change(where, (line.strip(),), (mutated.strip(),) if mutated.strip() else ()), code


def _lines(line: str) -> Iterator[str]:
    for token in _TOKEN.finditer(line):
        if token["number"]:
            yield line[: token.start()] + str(int(token[0]) + 1) + line[token.end() :]
        elif token["word"] or token["operator"]:
            yield line[: token.start()] + _SWAPPED[token[0]] + line[token.end() :]
    for condition in _CONDITION.finditer(line):
        yield line[: condition.start(1)] + f"not ({condition[1]})" + line[condition.end(1) :]
    if _STATEMENT.fullmatch(line) and _is_balanced(line):
        yield ""


def _is_balanced(line: str) -> bool:
    """Whether it neither begins nor ends what goes over several lines."""
    return (
        all(line.count(left) == line.count(right) for left, right in ("()", "{}"))
        and len(re.findall(r"\b(?:do|then|function)\b", line)) == len(re.findall(r"\bend\b", line))
        and not line.rstrip().endswith(",")
    )
