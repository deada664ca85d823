//! Checks the rules of the house that no tool checks: CONTRIBUTING.md says why they are there.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use edge_gateway::CloseReason;
use serde_json::Value;

/// Longest a file may be before its tests.
const LINES_MAX: usize = 450;

/// Folders whose files nobody here wrote, or that no commit has.
const SKIPPED_FOLDERS: [&str; 7] =
    [".git", "artifacts", "corpus", "generated", "node_modules", "target", "test-output"];

/// Which of our crates a crate may use, for whatever purpose. Services meet in `proto`, never in each other.
const ALLOWED_EDGES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("service-kit", &[]),
    ("edge-protocol", &[]),
    ("edge-gateway", &["edge-protocol", "proto", "service-kit"]),
    ("chat-service", &["proto", "service-kit"]),
    ("auth-service", &["proto", "service-kit"]),
    ("bench-kit", &[]),
    ("fuzz", &["auth-service", "chat-service", "edge-gateway", "edge-protocol"]),
    ("instructions", &["edge-protocol"]),
    ("room-log-stores", &[]),
    ("rooms-bench", &["bench-kit"]),
    ("hop-instructions", &["edge-gateway", "chat-service", "instructions", "proto", "service-kit"]),
    ("sockeye", &["edge-gateway", "chat-service", "auth-service", "proto", "service-kit"]),
    ("simulation", &["edge-gateway", "chat-service", "proto", "service-kit"]),
];

/// What the protocol crate may use: nothing that can reach a socket, a task or a clock.
const PROTOCOL_DEPENDENCIES: [&str; 6] =
    ["base64", "bytes", "serde_json", "sha1", "smallvec", "thiserror"];

struct SourceFile {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Returns the text before the tests of the file, all of it where it has none.
    fn text_before_tests(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// Returns the lines that satisfy `is_wrong`, each with its place.
    fn lines_where(&self, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| is_wrong(line));
        lines
            .map(|(index, line)| format!("{}:{}: {}", self.path.display(), index + 1, line.trim()))
            .collect()
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every text file that is ours, sorted by path.
fn source_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect(repository(), &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(files.len() > 50, "the repository was found");
    files
}

fn collect(folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let name = entry.file_name();
        // In a linked work tree `.git` is a file.
        if SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), files);
        } else if kind.is_file() {
            // What is not text (an icon, say) has no lines to check.
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let path = entry.path().strip_prefix(repository()).unwrap().to_owned();
            files.push(SourceFile { path, text });
        }
    }
}

fn rust_files() -> Vec<SourceFile> {
    source_files().into_iter().filter(SourceFile::is_rust).collect()
}

fn document(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn assert_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

/// Whether `text` has `word` as a whole, and not as a part of a longer one.
fn mentions(text: &str, word: &str) -> bool {
    let continues = |character: char| character.is_alphanumeric() || "-_".contains(character);
    text.match_indices(word).any(|(start, _)| {
        !text[start + word.len()..].starts_with(continues) && !text[..start].ends_with(continues)
    })
}

#[test]
fn files_are_short_before_their_tests() {
    let too_long: Vec<_> = rust_files()
        .iter()
        .map(|file| (file, file.text_before_tests().lines().count()))
        .filter(|(_, lines)| *lines >= LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.path.display()))
        .collect();

    assert_none("split these by what they name", &too_long);
}

#[test]
fn file_names_say_what_is_in_them() {
    let vague = ["utils", "util", "helpers", "helper", "common", "misc", "types", "models", "mod"];

    let offenders: Vec<_> = source_files()
        .iter()
        .filter(|file| {
            file.path.file_stem().is_some_and(|stem| vague.iter().any(|name| stem == *name))
        })
        .map(|file| file.path.display().to_string())
        .collect();

    assert_none("name the thing (a module with parts is `name.rs` and a folder)", &offenders);
}

#[test]
fn modules_begin_by_saying_what_they_do() {
    let silent: Vec<_> = rust_files()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.display().to_string())
        .collect();

    assert_none("begin with a `//!` line", &silent);
}

#[test]
fn nothing_is_left_to_do_in_comments() {
    // Written apart, so that this file does not accuse itself.
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

    let offenders: Vec<_> = source_files()
        .iter()
        .filter(|file| {
            !file.path.ends_with("Cargo.lock") && !file.path.ends_with("package-lock.json")
        })
        .flat_map(|file| {
            file.lines_where(|line| markers.iter().any(|marker| mentions(line, marker)))
        })
        .collect();

    assert_none("do it, or open an issue", &offenders);
}

#[test]
fn no_test_is_skipped() {
    let marker = concat!("#[", "ignore");
    let offenders: Vec<_> = rust_files()
        .iter()
        .flat_map(|file| file.lines_where(|line| line.trim().starts_with(marker)))
        .collect();

    assert_none("a test that does not run is none", &offenders);
}

#[test]
fn no_path_of_someones_machine_is_committed() {
    let roots = ["work", "root", "tmp", "home", "Users"].map(|name| format!("/{name}/"));
    let begins_a_path = |line: &str, root: &str| {
        let in_a_longer_path =
            |character: char| character.is_alphanumeric() || "._-/~}".contains(character);
        line.match_indices(root).any(|(start, _)| !line[..start].ends_with(in_a_longer_path))
    };

    let offenders: Vec<_> = source_files()
        .iter()
        .flat_map(|file| {
            file.lines_where(|line| roots.iter().any(|root| begins_a_path(line, root)))
        })
        .collect();

    assert_none("paths start at the repository", &offenders);
}

#[test]
fn the_protocol_crate_knows_no_input_output_and_no_clock() {
    let modules = ["net", "fs", "env", "thread", "process"].map(|name| format!("std::{name}"));
    let others = ["tokio", "Instant::now", "SystemTime"].map(str::to_owned);
    let words = [&modules[..], &others[..]].concat();

    let offenders: Vec<_> = rust_files()
        .iter()
        .filter(|file| file.is_in("edge-gateway/protocol/src") && !file.path.ends_with("tests.rs"))
        .flat_map(|file| {
            let code = file.text_before_tests().lines();
            code.filter(|line| !line.trim_start().starts_with("//"))
                .filter(|line| words.iter().any(|word| line.contains(&**word)))
                .map(|line| format!("{}: {}", file.path.display(), line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();

    assert_none("bytes and time are arguments here", &offenders);
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let mut offenders = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = ALLOWED_EDGES.iter().find(|(known, _)| *known == name) else {
            offenders.push(format!("{name} is not in the list of edges"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            // Those with a path are ours.
            if dependency["path"].is_string() && !allowed.contains(&target) {
                offenders.push(format!("{name} -> {target}"));
            }
            let is_for_production = dependency["kind"].is_null();
            if name == "edge-protocol"
                && is_for_production
                && !PROTOCOL_DEPENDENCIES.contains(&target)
            {
                offenders.push(format!("{name} -> {target}"));
            }
        }
    }

    assert_none("these edges are not allowed", &offenders);
}

#[test]
fn every_crate_follows_the_lints_of_the_workspace() {
    let offenders: Vec<_> = packages()
        .iter()
        .map(|package| PathBuf::from(package["manifest_path"].as_str().unwrap()))
        // Its code is generated.
        .filter(|manifest| !manifest.ends_with("proto/Cargo.toml"))
        .filter(|manifest| {
            !fs::read_to_string(manifest).unwrap().contains("[lints]\nworkspace = true")
        })
        .map(|manifest| manifest.strip_prefix(repository()).unwrap().display().to_string())
        .collect();

    assert_none("add `[lints] workspace = true`", &offenders);
}

#[test]
fn every_field_of_a_contract_has_a_comment() {
    let offenders: Vec<_> = source_files()
        .iter()
        .filter(|file| file.path.extension().is_some_and(|extension| extension == "proto"))
        .flat_map(uncommented_fields)
        .collect();

    assert_none("say what it means", &offenders);
}

#[test]
fn every_setting_is_in_the_documents() {
    let text = document("docs/CONFIGURATION.md");

    let missing: Vec<_> =
        settings().into_iter().filter(|setting| !mentions(&text, setting)).collect();

    assert_none("name these in docs/CONFIGURATION.md", &missing);
}

#[test]
fn every_setting_in_the_documents_exists() {
    let text = document("docs/CONFIGURATION.md");
    let settings = settings();

    // A table row names one setting in its first code spans; prose may name the flags of other programs.
    let unknown: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter_map(|code| code.split([' ', '=']).next())
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .filter(|word| !settings.contains(*word) && !["--help", "--version"].contains(word))
        .map(str::to_owned)
        .collect();

    assert_none("no program of ours has these flags", &unknown);
}

#[test]
fn every_close_reason_is_in_the_documents() {
    let text = document("docs/PROTOCOL.md");

    let missing: Vec<_> = CloseReason::ALL
        .into_iter()
        .filter(|reason| {
            let code = reason.code().map_or_else(String::new, |code| code.to_string());
            let row = |line: &str| mentions(line, reason.label()) && line.contains(&code);
            !text.lines().any(row)
        })
        .map(|reason| format!("{} {:?}", reason.label(), reason.code()))
        .collect();

    assert_none("give each a line with label and code in docs/PROTOCOL.md", &missing);
}

#[test]
fn every_metric_is_in_the_documents() {
    let text = document("docs/TELEMETRY.md");
    let is_product =
        |file: &SourceFile| !file.path.components().any(|part| part.as_os_str() == "tests");
    let names = rust_files().into_iter().filter(is_product).flat_map(|file| {
        let quoted = file.text_before_tests().split('"').map(str::to_owned).collect::<Vec<_>>();
        let is_metric = |name: &String| {
            let rest = name.strip_prefix("sockeye_");
            rest.is_some_and(|rest| {
                rest.contains('_')
                    && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        };
        quoted.into_iter().filter(is_metric)
    });
    let mut missing: Vec<_> = names.filter(|name| !mentions(&text, name)).collect();
    missing.sort();
    missing.dedup();

    assert_none("name these in docs/TELEMETRY.md", &missing);
}

#[test]
fn a_word_is_mentioned_only_as_a_whole() {
    assert!(mentions("| `--auth-listen` | `AUTH_LISTEN` |", "--auth-listen"));
    assert!(mentions("AUTH_LISTEN", "AUTH_LISTEN"));
    assert!(!mentions("--auth-listen-too AUTH_LISTENER", "--auth-listen"));
    assert!(!mentions("AUTH_OPS_LISTEN AUTH_LISTENER", "AUTH_LISTEN"));
}

/// Returns what cargo knows of the crates of the workspace.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Returns the fields, enum values and calls that no comment stands before.
///
/// Some need none: the zero of an enum, a choice in a `oneof` whose message has its own comment, and the first call of a
/// service, which the service's comment is about.
fn uncommented_fields(file: &SourceFile) -> Vec<String> {
    let mut previous = "";
    let mut is_in_choice = false;
    let mut offenders = Vec::new();
    for line in file.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        is_in_choice = line.starts_with("oneof ") || is_in_choice && line != "}";
        let needs_comment = if line.starts_with("rpc ") {
            !previous.starts_with("service ")
        } else {
            let is_message = line.starts_with(char::is_uppercase);
            is_field(line) && !line.contains("_UNSPECIFIED = 0;") && !(is_in_choice && is_message)
        };
        if needs_comment && !previous.starts_with("//") {
            offenders.push(format!("{}: {line}", file.path.display()));
        }
        previous = line;
    }
    offenders
}

/// Whether a line of a contract gives a name a number.
fn is_field(line: &str) -> bool {
    let Some((_, number)) = line.split_once(" = ") else { return false };
    !line.starts_with("//") && number.starts_with(|first: char| first.is_ascii_digit())
}

/// Every program's settings: flags as `--name`, variables as `NAME`.
#[derive(Debug, clap::Parser)]
struct Settings {
    #[command(flatten)]
    edge: edge_gateway::Config,
    #[command(flatten)]
    chat: chat_service::Config,
    #[command(flatten)]
    auth: auth_service::Config,
    #[command(flatten)]
    telemetry: service_kit::telemetry::TelemetryConfig,
}

fn settings() -> BTreeSet<String> {
    let mut names: BTreeSet<_> = Settings::command()
        .get_arguments()
        .flat_map(|argument| {
            let flag = argument.get_long().map(|name| format!("--{name}"));
            let variable = argument.get_env().map(|name| name.to_str().unwrap().to_owned());
            [flag, variable].into_iter().flatten()
        })
        .collect();
    names.extend(settings_in_help());
    for name in ["--help", "--version"] {
        names.remove(name);
    }
    assert!(names.contains("AUTH_LISTEN") && names.contains("--edge-listen"), "{names:?}");
    names
}

/// Reads the help of the all-in-one, which has settings that belong to no service.
fn settings_in_help() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_sockeye")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let flags = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split([' ', '=', ',']).find(|word| word.starts_with("--")));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    flags.chain(variables).map(str::to_owned).collect()
}
