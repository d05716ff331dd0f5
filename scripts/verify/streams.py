"""The streams of random numbers, written anew from what they are: ChaCha12 (Bernstein 2008) with the BLAKE3 hash of the
stream's name as key, nonce 0 and a block counter of 64 bits. The other scripts draw from them what the program draws.

    pip install blake3==1.0.11 numpy==2.1.3
"""

import math

import numpy as np
from blake3 import blake3

# Marsaglia and Tsang 2000: where the tail of the normal distribution begins, for 256 layers of the same area.
TAIL = 3.654152885361008796


def blocks(key, first, count):
    """Blocks `first` to `first + count` of ChaCha12, as words of 32 bits: [block, 16]."""
    counter = np.arange(first, first + count, dtype=np.uint64)
    start = np.zeros((16, count), dtype=np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
    start[4:12] = np.frombuffer(key, dtype="<u4")[:, None]
    start[12], start[13] = counter & np.uint64(0xFFFFFFFF), counter >> np.uint64(32)
    state = start.copy()

    def add_and_turn(into, other, turned, by):
        state[into] += state[other]
        mixed = state[turned] ^ state[into]
        state[turned] = (mixed << np.uint32(by)) | (mixed >> np.uint32(32 - by))

    for _ in range(6):
        for shift in (0, 1):  # columns, then diagonals
            a, b, c, d = (np.array([4 * row + (at + shift * row) % 4 for at in range(4)]) for row in range(4))
            add_and_turn(a, b, d, 16)
            add_and_turn(c, d, b, 12)
            add_and_turn(a, b, d, 8)
            add_and_turn(c, d, b, 7)
    return (state + start).T


def ziggurat():
    """Edges of the layers, from the outermost, and the density at them (without its constant factor)."""
    density = lambda x: np.exp(-x * x / 2)
    tail = np.sqrt(np.pi / 2) * math.erfc(TAIL / math.sqrt(2))
    area = TAIL * density(TAIL) + tail
    edges = [area / density(TAIL), TAIL]
    while len(edges) < 256:
        edges.append(np.sqrt(-2 * np.log(area / edges[-1] + density(edges[-1]))))
    edges = np.array(edges + [0.0])
    return edges, density(edges)


EDGES, DENSITY = ziggurat()


class Stream:
    """The stream with this name, which begins with `theriac/SEED/`."""

    def __init__(self, name):
        self.key = blake3(name.encode()).digest()
        self.drawn, self.at = np.empty(0, dtype=np.uint64), 0

    def bits(self, count):
        missing = self.at + count - len(self.drawn)
        if missing > 0:
            more = blocks(self.key, len(self.drawn) // 8, missing // 8 + 8)
            words = more.reshape(-1, 2).astype(np.uint64)
            self.drawn = np.concatenate([self.drawn, words[:, 0] | words[:, 1] << np.uint64(32)])
        self.at += count
        return self.drawn[self.at - count : self.at]

    def below(self, bound, count=1):
        """Whole numbers below `bound`: the remainders of what is below the largest multiple of it."""
        limit = np.uint64((2**64 - 1) // bound * bound)
        found = np.empty(0, dtype=np.uint64)
        while len(found) < count:
            bits = self.bits(count - len(found))
            found = np.concatenate([found, bits[bits < limit]])
        return (found % np.uint64(bound)).astype(np.int64)

    def uniform(self, count=1):
        return (self.bits(count) >> np.uint64(11)) / 2.0**53

    def normal(self, count):
        return np.array([self._normal() for _ in range(count)])

    def _normal(self):
        opened = lambda: (float(self.bits(1)[0] >> np.uint64(12)) + 0.5) / 2.0**52
        while True:
            bits = int(self.bits(1)[0])
            layer, u = bits % 256, (bits >> 12) / 2.0**51 - 1
            x = u * EDGES[layer]
            if abs(x) < EDGES[layer + 1]:
                return x
            if layer == 0:  # the tail, by Marsaglia 1964
                while True:
                    far, height = np.log(opened()) / TAIL, np.log(opened())
                    if -2 * height >= far * far:
                        return far - TAIL if u < 0 else TAIL - far
            low, high = DENSITY[layer + 1], DENSITY[layer]
            if low + (high - low) * self.uniform()[0] < np.exp(-x * x / 2):
                return x

    def shuffle(self, items):
        """Durstenfeld's shuffle, from the last place on."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)[0]
            items[last], items[other] = items[other], items[last]
        return items

    def choose(self, items, count):
        """The first `count` places of a shuffle from the first place on, in the order of the items."""
        order = list(range(len(items)))
        for place in range(count):
            other = place + self.below(len(order) - place)[0]
            order[place], order[other] = order[other], order[place]
        return [items[at] for at in sorted(order[:count])]
