//! Every target over its corpus, and over seeded damage to it.

use std::fs;
use std::path::Path;

use coral_fuzz::mutate::mutate;
use coral_fuzz::{TARGETS, Target};
use coral_model::dice::Dice;

/// Mutations of each corpus file; `CORAL_FUZZ_MUTATIONS` searches longer.
const MUTATIONS: u64 = 1_000;

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
    };
    let mut all: Vec<_> = entries.map(|entry| read(entry.unwrap())).collect();
    all.sort();
    assert!(!all.is_empty(), "{name} has no corpus");
    all
}

/// Runs a target, and names the input when it fails, so that it can be added to the corpus.
fn run(target: Target, what: &str, input: &[u8]) {
    let failed = std::panic::catch_unwind(|| (target.1)(input)).is_err();
    assert!(!failed, "{} fails on {what}: {:?}", target.0, String::from_utf8_lossy(input));
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus_and_on_damage_to_it() {
    let mutations = std::env::var("CORAL_FUZZ_MUTATIONS").ok().and_then(|n| n.parse().ok());
    for target in TARGETS {
        let all = corpus(target.0);
        for (at, (name, input)) in all.iter().enumerate() {
            run(*target, name, input);
            let mut dice = Dice(u64::try_from(at).unwrap() << 32 | 0xc0_4a1);
            for n in 0..mutations.unwrap_or(MUTATIONS) {
                let other = &all[dice.index(all.len())].1;
                let damaged = mutate(input, other, &mut dice);
                run(*target, &format!("mutation {n} of {name}"), &damaged);
            }
        }
    }
}

#[test]
fn no_corpus_is_without_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|t| t.0 == name), "{name}");
    }
}
