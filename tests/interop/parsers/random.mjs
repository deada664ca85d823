// Numbers that look random and are the same again for the same seed.

const STEP = 0x9e3779b9;

function mix(number) {
  let mixed = Math.imul(number ^ (number >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

export class Random {
  #state;

  /** Case `index` of a seed has numbers of its own: it can be made without those before it. */
  constructor(seed, index) {
    this.#state = mix(mix(seed) + index);
  }

  /** A whole number from 0 up to `end`, without it. */
  below(end) {
    this.#state = (this.#state + STEP) >>> 0;
    return Math.floor((mix(this.#state) / 2 ** 32) * end);
  }

  chance(percent) {
    return this.below(100) < percent;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  /** Picks by weight from a list of `[weight, choice]`. */
  weighted(choices) {
    let at = this.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    return choices.find(([weight]) => (at -= weight) < 0)[1];
  }

  bytes(length) {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  /** Joins up to `most` of what `make` makes. */
  several(most, make, separator = "") {
    return Array.from({ length: this.below(most + 1) }, make).join(separator);
  }
}
