"""Executing an operation: by its plan, or by graphql-core the first time, without one, or if something goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, TypeGuard, cast

from graphql import ExecutionResult, Executor, GraphQLError, GraphQLSchema, get_variable_values
from graphql.execution.values import VariableValues

from nexus_graph.api.graphql.context import Context
from nexus_graph.api.graphql.documents import BAD_USER_INPUT, Document, Operation, located, unexecutable
from nexus_graph.api.graphql.plans import Plan, RootField, Run

# Resolvers of ours return coroutines or values, never futures: one check in C, made several times a field.
_is_awaitable = cast("Callable[[Any], TypeGuard[Awaitable[Any]]]", CoroutineType.__instancecheck__)


class Executing:
    """Executes operations of a schema."""

    def __init__(self, schema: GraphQLSchema, *, errors_max: int) -> None:
        self._schema = schema
        self._errors_max = errors_max

    async def execute(
        self, document: Document, operation: Operation, variables: dict[str, Any] | None, context: Context
    ) -> ExecutionResult:
        """Data, and the errors that fields met. Raises RequestError if the variables do not fit the operation."""
        plan = operation.plan if operation.came_before else None
        operation.came_before = True
        if plan is None:
            return await self._by_graphql_core(document, operation, variables, context)
        coerced = self._variables(plan, operation, variables or {})
        answers: dict[str, Any] = {}
        try:
            return ExecutionResult(await _planned(plan, Run(context, coerced), answers), None)
        except Exception:  # noqa: BLE001 - graphql-core finds it again, and the words for it
            return await self._by_graphql_core(document, operation, variables, context, answers)

    def _variables(self, plan: Plan, operation: Operation, given: dict[str, Any]) -> VariableValues:
        coerced: VariableValues | list[GraphQLError] | None = plan.coerced(given)
        if coerced is None:
            coerced = get_variable_values(
                self._schema,
                operation.node.variable_definitions or (),
                given,
                max_errors=self._errors_max,
                hide_suggestions=True,
            )
        if isinstance(coerced, list):
            raise unexecutable([located(error, BAD_USER_INPUT) for error in coerced])
        return coerced

    async def _by_graphql_core(
        self,
        document: Document,
        operation: Operation,
        variables: dict[str, Any] | None,
        context: Context,
        answers: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Root fields that have an answer are not resolved again: nothing is written twice."""
        executor = Executor.build(
            self._schema,
            document.ast,
            answers,
            context,
            variables,
            operation.name,
            max_coercion_errors=self._errors_max,
            is_awaitable=_is_awaitable,
            hide_suggestions=True,
        )
        if isinstance(executor, list):
            raise unexecutable([located(error, BAD_USER_INPUT) for error in executor])
        result = executor.execute_operation()
        if not isinstance(result, ExecutionResult):
            result = await cast("Awaitable[ExecutionResult]", result)
        return result


async def _planned(plan: Plan, run: Run, answers: dict[str, Any]) -> dict[str, Any]:
    """The data. Raises whatever goes wrong, and leaves in `answers` what root fields answered or raised until then."""
    if plan.serial or len(plan.fields) == 1:
        data: dict[str, Any] = {}
        for field in plan.fields:
            answers[field.name] = await _root_answer(field, run)
            data[field.name] = _completed(field, answers[field.name], run)
        return data
    for field, answer in zip(
        plan.fields, await asyncio.gather(*(_root_answer(field, run) for field in plan.fields)), strict=True
    ):
        answers[field.name] = answer
    return {field.name: _completed(field, answers[field.name], run) for field in plan.fields}


async def _root_answer(field: RootField, run: Run) -> Any:
    try:
        answer = field.resolve(None, run, **field.arguments(run.variables))
        return await answer if _is_awaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - told by graphql-core
        return error


def _completed(field: RootField, answer: Any, run: Run) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return field.complete(answer, run)
