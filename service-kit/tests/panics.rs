//! What operators are told where code panics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{self, Write},
    panic,
    sync::{Arc, Mutex},
};

use service_kit::panics;
use tracing_subscriber::fmt::fmt;

#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_told_without_what_a_client_has_sent() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = fmt().json().with_writer(move || writer.clone()).finish();
    let payload = "é-of-a-client".to_owned();
    panics::install();

    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            panic::catch_unwind(|| payload.split_at(1).0.len()).unwrap_err();
        }
        panic::catch_unwind(|| panic!("a text of the program")).unwrap_err();
    });
    drop(panic::take_hook());

    let lines = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert_eq!(lines.matches("\"message\":\"panicked\"").count(), 3, "{lines}");
    assert_eq!(lines.matches("(not shown)").count(), 2, "{lines}");
    assert!(lines.contains("panics.rs:"), "{lines}");
    assert!(lines.contains("a text of the program"), "{lines}");
    assert!(!lines.contains("of-a-client"), "{lines}");
}
