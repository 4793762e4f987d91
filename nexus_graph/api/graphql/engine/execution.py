"""Executing an operation: by its plan; by graphql-core the first time, without a plan, and whenever a plan fails."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import CoroutineType
from typing import Any, TypeGuard, cast

from graphql import (
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLSchema,
    create_source_event_stream,
    get_variable_values,
)
from graphql.execution.values import VariableValues

from nexus_graph.api.graphql.engine.documents import ERRORS_MAX, PreparedOperation
from nexus_graph.api.graphql.engine.plans import Plan, RootField, Run
from nexus_graph.api.graphql.engine.refusal import refused_by_core
from nexus_graph.api.graphql.schema import Context
from nexus_graph.errors import Code

# Our resolvers return coroutines or values, never futures. graphql-core asks several times a field: one check in C.
_is_awaitable = cast("Callable[[Any], TypeGuard[Awaitable[Any]]]", CoroutineType.__instancecheck__)


class Executing:
    """Executes operations of a schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema

    async def execute(self, prepared: PreparedOperation, context: Context) -> ExecutionResult:
        """The data and the errors of fields. Raises RequestError if the variables do not fit the operation."""
        operation = prepared.operation
        plan = operation.plan if operation.came_before else None
        operation.came_before = True
        if plan is None:
            return await self._by_graphql_core(prepared, context)
        run = Run(context, self._variables(plan, prepared))
        answers: dict[str, Any] = {}
        try:
            return ExecutionResult(await _planned(plan, run, answers), None)
        except Exception:  # noqa: BLE001 - graphql-core meets the error again and formats it
            return await self._by_graphql_core(prepared, context, answers)

    async def follow(self, prepared: PreparedOperation, context: Context) -> AsyncGenerator[ExecutionResult, None]:
        """A result for each event of a subscription. Nothing is kept from one event to the next.

        Raises RequestError if the variables do not fit the operation, GraphQLError if nothing can be subscribed to, and
        any error that ends the events.
        """
        source = create_source_event_stream(self._executor(prepared, context))
        if isinstance(source, Awaitable):
            source = await source
        if isinstance(source, ExecutionResult):
            raise (source.errors or [GraphQLError("no events can be followed")])[0]
        plan = prepared.operation.plan
        run = None if plan is None else Run(context, self._variables(plan, prepared))
        async with aclosing(cast("AsyncGenerator[Any, None]", source)) as events:
            async for event in events:
                data = None if plan is None or run is None else _event_data(plan, event, run)
                if data is None:
                    yield await self._by_graphql_core(prepared, context, event)
                else:
                    yield ExecutionResult(data, None)

    def _variables(self, plan: Plan, prepared: PreparedOperation) -> VariableValues:
        given = prepared.variables or {}
        coerced: VariableValues | list[GraphQLError] | None = plan.coerced(given)
        if coerced is None:
            definitions = prepared.operation.node.variable_definitions or ()
            coerced = get_variable_values(
                self._schema, definitions, given, max_errors=ERRORS_MAX, hide_suggestions=True
            )
        if isinstance(coerced, list):
            raise refused_by_core(Code.BAD_USER_INPUT, coerced)
        return coerced

    async def _by_graphql_core(
        self, prepared: PreparedOperation, context: Context, root: Any = None
    ) -> ExecutionResult:
        """`root` is the event of a subscription, or the answers that root fields gave already: those are not resolved
        again, so nothing is written twice.
        """
        result = self._executor(prepared, context, root).execute_operation()
        if not isinstance(result, ExecutionResult):
            result = await cast("Awaitable[ExecutionResult]", result)
        return result

    def _executor(self, prepared: PreparedOperation, context: Context, root: Any = None) -> Executor[Context]:
        """An executor for one execution: it keeps all sub-fields that it collects. Raises RequestError."""
        executor = Executor.build(
            self._schema,
            prepared.document.ast,
            root,
            context,
            prepared.variables,
            prepared.operation.name,
            max_coercion_errors=ERRORS_MAX,
            is_awaitable=_is_awaitable,
            hide_suggestions=True,
        )
        if isinstance(executor, list):
            raise refused_by_core(Code.BAD_USER_INPUT, executor)
        return executor


async def _planned(plan: Plan, run: Run, answers: dict[str, Any]) -> dict[str, Any]:
    """The data. Raises any error of a field, and leaves in `answers` what root fields returned or raised until then."""
    if plan.serial or len(plan.fields) == 1:
        data: dict[str, Any] = {}
        for field in plan.fields:
            answers[field.name] = await _root_answer(field, run)
            data[field.name] = _completed(field, answers[field.name], run)
        return data
    found = await asyncio.gather(*(_root_answer(field, run) for field in plan.fields))
    answers.update(zip((field.name for field in plan.fields), found, strict=True))
    return {field.name: _completed(field, answers[field.name], run) for field in plan.fields}


def _event_data(plan: Plan, event: Any, run: Run) -> dict[str, Any] | None:
    """The data that a subscription gets of the event; None if graphql-core must execute the operation."""
    (field,) = plan.fields
    try:
        return {field.name: field.complete(event, run)}
    except Exception:  # noqa: BLE001 - graphql-core meets the error again
        return None


async def _root_answer(field: RootField, run: Run) -> Any:
    try:
        answer = field.resolve(None, run, **field.arguments(run.variables))
        return await answer if _is_awaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - graphql-core raises it as the error of the field
        return error


def _completed(field: RootField, answer: Any, run: Run) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return field.complete(answer, run)
