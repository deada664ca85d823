//! Checks that the documents on security name tests that exist, and what it says of unsafe code.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the simulation that replace functions of the C library.
const UNSAFE_FILES: [&str; 2] =
    ["tests/simulation/src/determinism.rs", "tests/simulation/src/disk_errors.rs"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns path and text of every Rust file that is ours.
fn rust_files() -> Vec<(PathBuf, String)> {
    let mut folders = vec![repository().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "node_modules" && name != "target"
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(repository()).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// Returns the names of tests in the rows of the tables.
fn named_tests(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_test_that_proves_a_promise_exists() {
    let files = rust_files();
    for document in ["docs/SECURITY.md", "docs/KNOWN_ATTACKS.md", "docs/ASVS.md"] {
        let text = fs::read_to_string(repository().join(document)).unwrap();

        let named = named_tests(&text);
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !files.iter().any(|(_, text)| text.contains(&format!("fn {name}("))))
            .collect();

        assert!(named.len() > 20, "the tables of {document} were read");
        assert!(missing.is_empty(), "{document} names tests that do not exist: {missing:?}");
    }
}

/// Returns what is quoted in a text and written like the name of a setting or a metric.
fn quoted(text: &str, is_name: impl Fn(&str) -> bool) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    let names = words.filter_map(|word| word.split(['=', '{']).next());
    names.filter(|name| is_name(name)).collect()
}

#[test]
fn the_checklist_names_settings_and_metrics_that_there_are() {
    let read = |name: &str| fs::read_to_string(repository().join("docs").join(name)).unwrap();
    let checklist = read("HARDENING.md");
    let is_setting = |name: &str| {
        name.contains('_') && name.chars().all(|one| one.is_ascii_uppercase() || one == '_')
    };
    let kinds: [(&str, Vec<&str>); 2] = [
        ("CONFIGURATION.md", quoted(&checklist, is_setting)),
        ("TELEMETRY.md", quoted(&checklist, |name| name.starts_with("sockeye_"))),
    ];
    for (document, named) in kinds {
        let known = read(document);

        let missing: Vec<_> = named
            .iter()
            .filter(|name| {
                !known.contains(&format!("`{name}`")) && !known.contains(&format!("`{name}{{"))
            })
            .collect();

        assert!(named.len() > 4, "{document}: the checklist was read");
        assert!(missing.is_empty(), "{document} does not know {missing:?}");
    }
}

#[test]
fn only_the_simulation_is_unsafe() {
    let block = ["unsafe", " {"].concat();
    let exception = ["(unsafe", "_code"].concat();

    let offenders: Vec<_> = rust_files()
        .into_iter()
        .filter(|(path, text)| {
            let forbids = text.contains("#![forbid(unsafe_code)]");
            let is_unsafe = text.contains(&block) || text.contains(&exception) && !forbids;
            is_unsafe && !UNSAFE_FILES.iter().any(|file| path == Path::new(file))
        })
        .map(|(path, _)| path)
        .collect();

    assert!(offenders.is_empty(), "no unsafe code here: {offenders:?}");
}
