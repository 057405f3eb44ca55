"""Random edits leave names unique, uses right and the order topological."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from edited import BRANCHES, VECTOR
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bitwright.ir import edit
from bitwright.ir.errors import InternalError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text

Check = Callable[[Graph], None]


class Editing(RuleBasedStateMachine):
    """Random edits; after each the graph must know everything about itself, and a copy must print the same."""

    check: Check

    @initialize()
    def start(self) -> None:
        self.graph = parse(BRANCHES)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def visible(self, graph: Graph, before: Node | None = None) -> list[Value]:
        """The values that a node at that place may read."""
        found: list[Value] = []
        inside: Graph | None = graph
        while inside is not None:
            found += [*inside.inputs, *inside.weights]
            for node in inside.nodes:
                if node is before:
                    break
                found += node.results
            before = inside.parent
            inside = inside.parent.graph if inside.parent else None
        return found

    @rule(data=st.data())
    def add_node(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        before = data.draw(st.sampled_from([None, *graph.nodes]))
        operands = data.draw(st.lists(st.sampled_from([None, *self.visible(graph, before)]), max_size=3))
        results = {self.name(): VECTOR for _ in range(data.draw(st.integers(0, 2)))}
        edit.add_node(graph, "onnx.Foo", operands, results, before=before)

    @rule(data=st.data())
    def add_subgraph(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if not graph.nodes:
            return
        node = data.draw(st.sampled_from(graph.nodes))
        inner = Graph("inner")
        seen = self.visible(graph, node)
        if seen:
            value = data.draw(st.sampled_from(seen))
            edit.add_node(inner, "relu", [value], {self.name(): VECTOR})
            edit.add_output(inner, inner.nodes[0].result)
        edit.set_attribute(node, data.draw(st.sampled_from(["then_branch", "body"])), inner)

    @rule(data=st.data())
    def add_values(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        edit.add_weight(graph, self.name(), Tensor(np.zeros(2, np.float32)))
        edit.add_input(graph, self.name(), VECTOR, data.draw(st.sampled_from([None, "outside"])))

    @rule(data=st.data())
    def set_operand(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes if node.operands]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            value = data.draw(st.sampled_from([None, *self.visible(node.graph, node)]))
            edit.set_operand(node, data.draw(st.integers(0, len(node.operands) - 1)), value)

    @rule(data=st.data())
    def set_operands(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            seen = self.visible(node.graph, node)
            edit.set_operands(node, data.draw(st.lists(st.sampled_from([None, *seen]), max_size=3)))

    @rule(data=st.data())
    def replace_by_an_earlier_one(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if graph.nodes:
            node = data.draw(st.sampled_from(graph.nodes))
            seen = self.visible(graph, node)
            if node.results and seen:
                edit.replace_uses(node.results[0], data.draw(st.sampled_from(seen)), graph)
                assert not node.results[0].uses

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            shown = {id(o.value) for inner in self.graph.walk() for o in inner.outputs}
            if any(result.uses or id(result) in shown for result in node.results):
                with pytest.raises(InternalError):
                    edit.erase_node(node)
            else:
                edit.erase_node(node)

    @rule(data=st.data())
    def lose_attributes(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes if node.attributes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            if data.draw(st.booleans()):
                edit.set_op(node, "onnx.Bar", {"k": 1})
            else:
                edit.set_attribute(node, data.draw(st.sampled_from(sorted(node.attributes))), None)

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if graph.values:
            value = data.draw(st.sampled_from(list(graph.values.values())))
            wanted = data.draw(st.sampled_from(["x", "z", "u", "outside", "fresh"]))
            edit.rename(graph, value, edit.unique_name(graph, wanted))

    @rule(data=st.data())
    def erase_unread_weights(self, data: st.DataObject) -> None:
        edit.erase_unread_weights(data.draw(st.sampled_from(list(self.graph.walk()))))

    @rule(data=st.data())
    def shuffle_and_sort(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        graph.nodes = data.draw(st.permutations(graph.nodes))
        edit.sort(graph)

    @precondition(lambda self: len(self.graph.nodes) < 30)
    @rule()
    def go_on_with_a_copy(self) -> None:
        text = to_text(self.graph)
        self.graph = edit.copy(self.graph)
        assert to_text(self.graph) == text

    @invariant()
    def the_graph_knows_itself(self) -> None:
        if hasattr(self, "graph"):
            type(self).check(self.graph)
            text = to_text(self.graph)
            assert to_text(parse(text)) == text


def test_random_edits(check: Check) -> None:
    Editing.check = staticmethod(check)  # type: ignore[assignment]
    machine = Editing.TestCase
    machine.settings = settings(max_examples=25, stateful_step_count=20)
    machine().runTest()
