//! The fuzzer: libFuzzer with the target that the variable `FUZZ_TARGET` names. `./test fuzz` builds and runs it.
#![no_main]

use std::{env, sync::OnceLock};

use fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose_target(), |data: &[u8]| {
    if let Some((_, check)) = TARGET.get() {
        check(data);
    }
});

#[expect(clippy::panic, reason = "the fuzzer has no other way to end with an error")]
fn choose_target() {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|(known, _)| *known == name) else {
        panic!("FUZZ_TARGET names no target: {name:?}");
    };
    TARGET.get_or_init(|| *target);
}
