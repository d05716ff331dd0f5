"""One PyTorch process of `scripts/bench_vs_pytorch`: holds a network ready and trains it only when told to.

    python pytorch_worker.py --net resnet-w16 --batch 128 --threads 2 --config eager

It answers `ready` (or `unavailable REASON`) when the network is built and warmed up. Then each line of stdin is an
order:

    N        train N steps; answers with one line, the milliseconds of each step
    memory   answers with the peak resident memory of this process in MiB

and the end of stdin ends it. A step is forward, mean cross-entropy, backward and SGD with momentum, on one fixed batch
of random float32 images. The networks are those of `crates/theriac-nn/src/models`, layer by layer.
"""

import argparse
import os
import sys
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

CLASSES, WARM_UP = 10, 3
CONFIGS = ("eager", "eager-channels-last", "compile", "compile-channels-last")


class Block(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))), with a 1x1 convolution as the shortcut where the size changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        resized = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if resized else None

    def forward(self, x):
        active = self.norm1(x).relu_()
        shortcut = x if self.shortcut is None else self.shortcut(active)
        x = self.conv1(active)
        return self.conv2(self.norm2(x).relu_()) + shortcut


class PreActResNet(nn.Module):
    """Theriac's `resnet`: a 3x3 stem, no normalisation before the pooling, global mean, linear head."""

    def __init__(self, width, blocks, stages=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        plan, inputs = [], width
        for stage in range(stages):
            outputs = width << stage
            for block in range(blocks):
                plan.append(Block(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*plan)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, images):
        x = self.blocks(self.stem(images))  # [batch, channels, height, width]
        return self.head(x.mean((2, 3)))


def mnist_cnn():
    """Theriac's `cnn` with width 32. It pools before ReLU, as Theriac does: the same function, and a little cheaper."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(inplace=True), nn.Linear(128, CLASSES),
    )  # fmt: skip


NETS = {
    "mnist-cnn": (mnist_cnn, (1, 28, 28)),
    "resnet-w16": (lambda: PreActResNet(width=16, blocks=1), (3, 32, 32)),
    "preact-resnet18": (lambda: PreActResNet(width=64, blocks=2), (3, 32, 32)),
}


def build_step(net, batch, config):
    """A function that does one training step and returns the loss."""
    torch.manual_seed(1)
    make, shape = NETS[net]
    layout = torch.channels_last if config.endswith("channels-last") else torch.contiguous_format
    model = make().to(memory_format=layout).train()
    images = torch.randn(batch, *shape).to(memory_format=layout)
    labels = torch.randint(CLASSES, (batch,))
    # The fused update is PyTorch's fastest on the processor; the default one loops over the parameters.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)

    def loss_of(images, labels):
        return cross_entropy(model(images), labels)

    if config.startswith("compile"):
        # One whole graph or an error: a silent return to eager must not be timed as `compile`.
        loss_of = torch.compile(loss_of, fullgraph=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def milliseconds(step):
    begin = time.perf_counter()
    step()
    return (time.perf_counter() - begin) * 1e3


def peak_mib():
    """The kernel's high-water mark of resident memory; for `compile` it includes the compilation."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def claim_stdout():
    """The real stdout, for answers only: whatever PyTorch or the C++ compiler prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def arguments():
    parser = argparse.ArgumentParser(description="One PyTorch process of scripts/bench_vs_pytorch.")
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--batch", type=int, default=128, help="images of a step (128)")
    parser.add_argument("--threads", type=int, default=1, help="threads of one operation (1)")
    parser.add_argument("--config", choices=CONFIGS, default="eager")
    return parser.parse_args()


def main():
    args = arguments()
    answers = claim_stdout()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    step = build_step(args.net, args.batch, args.config)
    try:
        losses = [step().item() for _ in range(WARM_UP)]
    except Exception as error:
        if not args.config.startswith("compile"):
            raise
        # Most often there is no C++ compiler; the other configurations can still be measured.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print("unavailable", reason, file=answers)
        return
    print("losses of the warm-up:", *(f"{loss:.4f}" for loss in losses), file=sys.stderr)
    print("ready", file=answers)
    for order in sys.stdin:
        if order.strip() == "memory":
            print(f"{peak_mib():.1f}", file=answers)
        else:
            print(*(f"{milliseconds(step):.4f}" for _ in range(int(order))), file=answers)


if __name__ == "__main__":
    main()
