//! Replays the corpora, each file through the function that is fuzzed.
#![expect(clippy::print_stdout, reason = "shown where a check panics")]

use std::{collections::BTreeSet, fs, path::Path};

use fuzz::TARGETS;

const FILES_MIN: usize = 10;

fn corpora() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn what_must_hold_holds_for_each_file() {
    for (name, check) in TARGETS {
        let files: Vec<_> =
            fs::read_dir(corpora().join(name)).unwrap().map(Result::unwrap).collect();
        assert!(files.len() >= FILES_MIN, "{name} has {} files", files.len());
        for file in files {
            println!("{}", file.path().display());
            check(&fs::read(file.path()).unwrap());
        }
    }
}

#[test]
fn each_target_has_a_corpus_and_each_corpus_a_target() {
    let folders = fs::read_dir(corpora()).unwrap();
    let folders: BTreeSet<_> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();

    assert_eq!(folders, names);
    assert_eq!(names.len(), TARGETS.len());
}
