"""Theriac's named streams of random numbers, written anew: what a stream's name draws, here and there.

BLAKE3 of the name is the key of ChaCha with 12 rounds (Bernstein 2008), whose words are read in pairs, the lower one first.
"""

import struct

from blake3 import blake3


def block(key, counter):
    """The 16 words of one block of ChaCha12."""

    def quarter(a, b, c, d):
        for to, add, turned, by in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
            words[to] = (words[to] + words[add]) & 0xFFFFFFFF
            word = words[turned] ^ words[to]
            words[turned] = (word << by | word >> (32 - by)) & 0xFFFFFFFF

    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key, counter & 0xFFFFFFFF, counter >> 32, 0, 0]
    words = list(start)
    for _ in range(6):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for column in range(4):
            quarter(column, (column + 1) % 4 + 4, (column + 2) % 4 + 8, (column + 3) % 4 + 12)
    return [(one + other) & 0xFFFFFFFF for one, other in zip(words, start)]


class Stream:
    def __init__(self, name):
        self.words = self.read(struct.unpack("<8I", blake3(name.encode()).digest()))

    @staticmethod
    def read(key):
        counter = 0
        while True:
            yield from block(key, counter)
            counter += 1

    def bits(self):
        return next(self.words) | next(self.words) << 32

    def uniform(self):
        return (self.bits() >> 11) / 2**53

    def below(self, bound):
        last = 2**64 - 1
        while (bits := self.bits()) >= last - last % bound:
            pass
        return bits % bound

    def shuffle(self, items):
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
