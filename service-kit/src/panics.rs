//! Counts panics, and logs where they happened. What they say may hold what a client has sent, and is told only where it is a text of
//! the program.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    thread,
};

const PANICS: &str = "sockeye_panics_total";

/// Has panics of this process be counted and logged from now on, and written to stderr in no other way.
pub fn install() {
    panic::set_hook(Box::new(tell));
}

/// Shows the count before there was any.
pub(crate) fn show() {
    metrics::counter!(PANICS).increment(0);
}

fn tell(info: &PanicHookInfo<'_>) {
    metrics::counter!(PANICS).increment(1);
    // Formatted texts are strings.
    let what = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
    let place = info.location().map(tracing::field::display);
    let current = thread::current();
    // Only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    tracing::error!(what, place, thread = current.name(), backtrace, "panicked");
}
