//! Decides which traces that begin here are recorded, before anything of them exists.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

/// Says yes to a share of the questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sampler {
    Always,
    Never,
    /// To a random number below this.
    Below(u64),
}

thread_local! {
    /// State of the generator. Its numbers decide nothing but what is recorded, so they may be guessed.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8));
}

impl Sampler {
    /// Returns a sampler for a share from 0 to 1.
    pub(super) fn new(ratio: f64) -> Self {
        if ratio >= 1.0 {
            Self::Always
        } else if ratio > 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "the ratio lies between 0 and 1, and a share needs no 64 bits"
            )]
            let bound = (ratio * u64::MAX as f64) as u64;
            Self::Below(bound)
        } else {
            Self::Never
        }
    }

    /// Answers for one trace.
    pub(super) fn decide(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Below(bound) => STATE.with(|state| {
                let (next, number) = split_mix(state.get());
                state.set(next);
                number < bound
            }),
        }
    }
}

/// Returns the next state and number of the generator SplitMix64.
fn split_mix(state: u64) -> (u64, u64) {
    let next = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (next, mixed ^ (mixed >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_range_need_no_luck() {
        assert_eq!(Sampler::new(1.0), Sampler::Always);
        assert_eq!(Sampler::new(0.0), Sampler::Never);
        assert!((0..1000).all(|_| Sampler::new(1.0).decide()));
        assert!(!(0..1000).any(|_| Sampler::new(0.0).decide()));
    }

    #[test]
    fn a_ratio_is_the_share_of_yes() {
        for (ratio, expected) in [(0.01, 500..1500), (0.25, 24_000..26_000), (0.9, 89_000..91_000)]
        {
            let sampler = Sampler::new(ratio);

            let sampled_count = (0..100_000).filter(|_| sampler.decide()).count();

            assert!(expected.contains(&sampled_count), "{ratio}: {sampled_count}");
        }
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let (state, first) = split_mix(1_234_567);
        let (_, second) = split_mix(state);

        assert_eq!((first, second), (6_457_827_717_110_365_317, 3_203_168_211_198_807_973));
    }
}
