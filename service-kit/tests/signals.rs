//! Signals to the process. One test only: they reach every test of a binary.

use std::{
    process::{self, Command},
    time::Duration,
};

use service_kit::shutdown::Shutdown;
use tokio::time::timeout;

#[tokio::test]
async fn both_signals_ask_for_a_shutdown() {
    for signal in ["-TERM", "-INT"] {
        let shutdown = Shutdown::on_signals().unwrap();
        assert!(!shutdown.is_requested());

        let sent = Command::new("kill").args([signal, &process::id().to_string()]).status();

        assert!(sent.unwrap().success());
        timeout(Duration::from_secs(10), shutdown.requested()).await.unwrap();
        assert!(shutdown.is_requested());
    }
}
