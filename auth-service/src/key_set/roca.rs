//! Tells RSA keys of a flawed key generator, whose factors can be computed (CVE-2017-15361, "ROCA").

/// The flawed library made primes that are powers of this, modulo a product of many small primes.
const GENERATOR: u32 = 65_537;

/// Primes modulo which not every number is such a power. A modulus of another origin is one modulo all of them by a chance of
/// about 1 in 2^28.
const PRIMES: [u32; 17] =
    [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether a modulus, with its most significant byte first, looks like one of that library.
pub(super) fn is_flawed(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| {
        let rest = modulus.iter().fold(0, |rest, &byte| (rest * 256 + u32::from(byte)) % prime);
        is_power_of_generator(rest, prime)
    })
}

fn is_power_of_generator(rest: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 1..prime {
        if power == rest {
            return true;
        }
        power = power * (GENERATOR % prime) % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_primes_tells_something() {
        for prime in PRIMES {
            let powers = (1..prime).filter(|&rest| is_power_of_generator(rest, prime)).count();
            assert!(powers < prime as usize - 1, "{prime}");
        }
    }

    #[test]
    fn powers_of_the_generator_are_flawed_and_their_neighbours_are_not() {
        let square = u64::from(GENERATOR) * u64::from(GENERATOR);

        assert!(is_flawed(&square.to_be_bytes()));
        assert!(!is_flawed(&(square + 2).to_be_bytes()));
        assert!(!is_flawed(&[]));
    }
}
