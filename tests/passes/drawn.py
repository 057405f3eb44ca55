"""Random networks over every op that channels run through."""

from __future__ import annotations

import numpy as np

from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse


class Drawn:
    """The text of a random network over every op that channels run through, each weight with numbers of its own."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.weights: list[str] = []
        self.nodes: list[str] = []
        self.first = 1 + 10_000 * seed

    def weight(self, *shape: int) -> str:
        name = f"%w{len(self.weights)}"
        dims = ",".join(map(str, shape))
        self.weights.append(f"weight {name} = {self.first + len(self.weights):08x} : f32[{dims}]")
        return name

    @property
    def next(self) -> str:
        """The name of the node that comes next."""
        return f"%n{len(self.nodes)}"

    def node(self, call: str, channels: int, size: int) -> str:
        name = self.next
        shape = f"N,{channels}" + (f",{size},{size}" if size else "")
        self.nodes.append(f"{name} = {call} : f32[{shape}]")
        return name

    def conv(self, x: str, inputs: int, outputs: int, size: int, groups: int = 1) -> str:
        made = f"conv2d({x}, {self.weight(outputs, inputs // groups, 3, 3)}, {self.weight(outputs)})"
        return self.node(made + f" {{groups={groups}, kernel=[3,3], pads=[1,1,1,1]}}", outputs, size)

    def gate(self, x: str, channels: int, size: int) -> str:
        mean = self.node(f"globalavgpool({x})", channels, 1)
        made = f"conv2d({mean}, {self.weight(3, channels, 1, 1)}, {self.weight(3)}) {{act=relu, kernel=[1,1]}}"
        inner = self.node(made, 3, 1)
        made = f"conv2d({inner}, {self.weight(channels, 3, 1, 1)}, {self.weight(channels)}) {{kernel=[1,1]}}"
        opened = self.node(f"hardsigmoid({self.node(made, channels, 1)})", channels, 1)
        return self.node(f"mul({x}, {opened})", channels, size)

    def step(self, x: str, channels: int, size: int) -> tuple[str, int]:
        kind = self.random.integers(15)
        if kind == 0:
            return self.node(f"add({self.conv(x, channels, channels, size)}, {x})", channels, size), channels
        if kind == 1:
            return self.conv(x, channels, channels, size, groups=channels), channels
        if kind == 2:
            return self.conv(x, channels, 2 * channels, size, groups=2), 2 * channels
        if kind == 3:
            numbers = [self.weight(channels) for _ in range(3)]
            return self.node(f"batchnorm({x}, {', '.join(numbers)}, %variance{channels})", channels, size), channels
        if kind == 4:
            return self.gate(x, channels, size), channels
        if kind == 5:
            branch = self.conv(x, channels, 4, size)
            return self.node(f"concat({x}, {branch}) {{axis=1}}", channels + 4, size), channels + 4
        if kind == 6:
            half = f"f32[N,{channels // 2},{size},{size}]"
            name = self.next
            self.nodes.append(f"{name}, {name}b = onnx.Split({x}) {{axis=1}} : {half}, {half}")
            turned = self.conv(name + "b", channels // 2, channels // 2, size)
            return self.node(f"concat({turned}, {name}) {{axis=-3}}", channels, size), channels
        if kind == 7:
            apart = f"{self.next} = reshape({x}) {{shape=[0,2,-1,{size},{size}]}}"
            self.nodes.append(f"{apart} : f32[N,2,{channels // 2},{size},{size}]")
            turned = f"{self.next} = transpose(%n{len(self.nodes) - 1}) {{perm=[0,2,1,3,4]}}"
            self.nodes.append(f"{turned} : f32[N,{channels // 2},2,{size},{size}]")
            shape = f"{{shape=[0,{channels},{size},{size}]}}"
            return self.node(f"reshape(%n{len(self.nodes) - 1}) {shape}", channels, size), channels
        if kind == 8:
            return self.node(f"add({self.weight(channels, 1, 1)}, {x})", channels, size), channels
        if kind == 9:
            last = f"{self.next} = transpose({x}) {{perm=[0,2,3,1]}} : f32[N,{size},{size},{channels}]"
            self.nodes.append(last)
            scaled = f"{self.next} = mul(%n{len(self.nodes) - 1}, {self.weight(channels)})"
            self.nodes.append(f"{scaled} : f32[N,{size},{size},{channels}]")
            return self.node(f"transpose(%n{len(self.nodes) - 1}) {{perm=[0,3,1,2]}}", channels, size), channels
        if kind == 10:
            window = "{kernel=[3,3], pads=[1,1,1,1]}"
            return self.node(
                f"{self.random.choice(['maxpool2d', 'avgpool2d'])}({x}) {window}", channels, size
            ), channels
        if kind == 11:
            call = self.random.choice(["relu({})", "hardswish({})", "clip({}) {{max=1.0, min=-0.5}}", "onnx.Tanh({})"])
            return self.node(call.format(x), channels, size), channels
        if kind == 12:
            call = f"pad({x}) {{pads=[0,2,0,0,0,0,0,0], value=0.5}}"
            return self.node(call, channels + 2, size), channels + 2
        if kind == 13:
            call = f"onnx.Sub({self.conv(x, channels, channels, size)}, {x})"
            return self.node(call, channels, size), channels
        return self.conv(x, channels, 8, size), 8

    def graph(self) -> Graph:
        channels, size = 8, 4
        x = self.conv("%x", 2, channels, size)
        for _ in range(int(self.random.integers(2, 7))):
            x, channels = self.step(x, channels, size)
        how = self.random.choice(["flatten({})", "reshape({}) {{shape=[0,-1]}}", "reshape({}) {{shape=[-1,%d]}}"])
        features = channels * size * size
        flat = self.node(how.replace("%d", str(features)).format(x), features, 0)
        hidden = self.node(f"dense({flat}, {self.weight(6, features)}, {self.weight(6)}) {{act=relu}}", 6, 0)
        scores = self.node(f"dense({hidden}, {self.weight(3, 6)}, {self.weight(3)})", 3, 0)
        ones = sorted({line.split("%variance")[1].split(")")[0] for line in self.nodes if "%variance" in line})
        lines = ["graph @drawn {", "opset ai.onnx=17", f"input %x : f32[N,2,{size},{size}]", *self.weights]
        lines += [f"weight %variance{n} = [{','.join(['1.0'] * int(n))}] : f32[{n}]" for n in ones]
        return parse("\n".join([*lines, *self.nodes, f"output {scores}", "}"]))
