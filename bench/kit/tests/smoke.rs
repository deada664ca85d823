//! Runs the kit at its smallest against Sockeye's own processes, so that it works when somebody wants to measure.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path, process::Command, thread};

use serde_json::Value;
use tempfile::TempDir;

/// Where cargo builds the binaries of the workspace.
fn built() -> &'static Path {
    let folder = Path::new(env!("CARGO_BIN_EXE_bench-kit")).parent().unwrap();
    assert!(folder.join("edge-gateway").exists(), "run `cargo build --workspace` first");
    folder
}

#[test]
fn sockeye_is_measured_and_reported_on() {
    let out = TempDir::new().unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_bench-kit"))
        .args(["run", "--scale=smoke", "--rounds=1", "--ping-interval=200"])
        .args(["--servers=sockeye,sockeye-json,sockeye-polling,send-loop"])
        .args(["--measures=fanout16,rooms,paced,echo,hop,idle,burst,churn,storm,mixed,edges"])
        .arg("--sockeye")
        .arg(built())
        .arg("--out")
        .arg(out.path())
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let results = fs::read_to_string(out.path().join("results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let samples = results["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 25, "{said}");
    for sample in samples {
        let values = sample["values"].as_object().unwrap();
        assert!(values.values().all(|value| value.as_f64().is_some()), "{sample}");
        let cpu = values.get("cpu_us").map_or(1.0, |cpu| cpu.as_f64().unwrap());
        assert!(cpu > 0.0, "{sample}");
    }
    let report = fs::read_to_string(out.path().join("report.md")).unwrap();
    assert!(report.contains("| latency added by the chat service, 1 in flight, p50 |"), "{report}");
    assert!(out.path().join("fanout16.svg").exists());
}

#[test]
fn clients_can_have_cores_of_their_own() {
    let cores = thread::available_parallelism().unwrap().get();
    let out = TempDir::new().unwrap();

    let status = Command::new(env!("CARGO_BIN_EXE_bench-kit"))
        .args(["run", "--scale=smoke", "--rounds=1", "--servers=send-loop", "--measures=fanout1"])
        .args(["--client-cores=1", "--out"])
        .arg(out.path())
        .status()
        .unwrap();

    // With one core there is none for the server.
    assert_eq!(status.success(), cores > 1);
    if cores > 1 {
        let report = fs::read_to_string(out.path().join("report.md")).unwrap();
        let told = format!("Servers had {} of the cores to themselves, and clients 1.", cores - 1);
        assert!(report.contains(&told), "{report}");
    }
}

#[test]
fn a_server_that_cannot_be_measured_fails_the_run() {
    let out = TempDir::new().unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_bench-kit"))
        .args(["run", "--scale=smoke", "--rounds=1", "--servers=sockeye", "--measures=echo"])
        .args(["--sockeye", "no/such/folder", "--out"])
        .arg(out.path())
        .output()
        .unwrap();

    assert!(!output.status.success());
    let report = fs::read_to_string(out.path().join("report.md")).unwrap();
    assert!(report.contains("## What could not be measured"), "{report}");
}
