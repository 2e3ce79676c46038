//! Which key runs which command.
//!
//! The defaults stand in the command table; `keymap.toml` states differences. Two commands on one
//! key is a mistake that is told, not guessed about: the person's line wins over a default, and
//! between two lines of theirs neither does.

mod key;

use std::collections::{BTreeMap, HashMap};

pub use key::{Code, Key, KeyError};

use crate::command::{COMMANDS, CommandId, by_name};

/// What is wrong with a `keymap.toml`; everything else in it still counts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeymapProblem {
    /// Not TOML of the expected form.
    #[error("keymap.toml: {0}")]
    Syntax(String),
    /// No such command.
    #[error("keymap.toml: there is no command `{0}`; `?` lists them all")]
    Command(String),
    /// Not a key.
    #[error("keymap.toml: {command}: {error}")]
    Key {
        /// The command.
        command: String,
        /// Why.
        error: KeyError,
    },
    /// One key, two commands.
    #[error("keymap.toml: `{key}` is given to both {first} and {second}: neither has it")]
    Conflict {
        /// The key.
        key: String,
        /// A command.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
}

/// Keys to commands, and back.
#[derive(Clone, Debug)]
pub struct Keymap {
    by_key: HashMap<Key, CommandId>,
    by_command: BTreeMap<CommandId, Vec<Key>>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::with("").0
    }
}

impl Keymap {
    /// The defaults, with the differences of a `keymap.toml`.
    #[must_use]
    pub fn with(differences: &str) -> (Self, Vec<KeymapProblem>) {
        let mut problems = Vec::new();
        let mut own: BTreeMap<CommandId, Vec<Key>> = BTreeMap::new();
        match toml::from_str::<BTreeMap<String, Vec<String>>>(differences) {
            Err(e) => problems.push(KeymapProblem::Syntax(e.message().to_owned())),
            Ok(table) => {
                for (name, words) in table {
                    let Some(spec) = by_name(&name) else {
                        problems.push(KeymapProblem::Command(name));
                        continue;
                    };
                    let keys = own.entry(spec.id).or_default();
                    for word in words {
                        match word.parse() {
                            Ok(key) => keys.push(key),
                            Err(error) => {
                                problems.push(KeymapProblem::Key { command: name.clone(), error });
                            }
                        }
                    }
                }
            }
        }

        let mut by_key: HashMap<Key, CommandId> = HashMap::new();
        let mut torn = Vec::new();
        for (id, keys) in &own {
            for key in keys {
                if let Some(other) = by_key.insert(*key, *id).filter(|other| other != id) {
                    problems.push(KeymapProblem::Conflict {
                        key: key.to_string(),
                        first: other.spec().name,
                        second: id.spec().name,
                    });
                    torn.push(*key);
                }
            }
        }
        for spec in COMMANDS.iter().filter(|c| !own.contains_key(&c.id)) {
            for key in spec.keys.iter().filter_map(|k| k.parse::<Key>().ok()) {
                by_key.entry(key).or_insert(spec.id);
            }
        }
        for key in torn {
            by_key.remove(&key);
        }

        let mut by_command: BTreeMap<CommandId, Vec<Key>> = BTreeMap::new();
        for spec in COMMANDS {
            let wanted: Vec<Key> = match own.get(&spec.id) {
                Some(keys) => keys.clone(),
                None => spec.keys.iter().filter_map(|k| k.parse().ok()).collect(),
            };
            let had = wanted.into_iter().filter(|k| by_key.get(k) == Some(&spec.id)).collect();
            by_command.insert(spec.id, had);
        }
        (Self { by_key, by_command }, problems)
    }

    /// The command of a key.
    #[must_use]
    pub fn command(&self, key: Key) -> Option<CommandId> {
        self.by_key.get(&key).copied()
    }

    /// Keys of a command, the first being the one to show.
    #[must_use]
    pub fn keys(&self, id: CommandId) -> &[Key] {
        self.by_command.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_defaults_share_a_key_and_all_parse() {
        let mut seen: HashMap<Key, &str> = HashMap::new();
        for spec in COMMANDS {
            for word in spec.keys {
                let key: Key = word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
                assert_eq!(key.to_string(), *word);
                if let Some(other) = seen.insert(key, spec.name) {
                    panic!("{word}: {other} and {}", spec.name);
                }
            }
        }
    }

    #[test]
    fn differences_replace_and_take_keys_from_defaults() {
        let (map, problems) = Keymap::with("zoom = [\"j\", \"ctrl-x\"]\nquit = []\n");
        assert_eq!(problems, []);
        assert_eq!(map.command("j".parse().unwrap()), Some(CommandId::Zoom));
        assert_eq!(map.command("z".parse().unwrap()), None);
        assert_eq!(map.command("q".parse().unwrap()), None);
        assert_eq!(map.keys(CommandId::Down), ["down".parse().unwrap()]);
    }

    #[test]
    fn mistakes_are_told_and_the_rest_counts() {
        let (map, problems) =
            Keymap::with("zoom = [\"F\"]\nwhy = [\"F\"]\nfly = [\"x\"]\nlive = [\"hyper-q\"]\n");
        assert_eq!(map.command("F".parse().unwrap()), None);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{told:?}");
        assert!(
            told.iter().any(|t| t.contains("both zoom and why") || t.contains("both why and zoom"))
        );
        assert!(told.iter().any(|t| t.contains("`fly`")));
        assert!(told.iter().any(|t| t.contains("hyper-q")));
        let (_, problems) = Keymap::with("zoom = 3");
        assert!(matches!(problems.as_slice(), [KeymapProblem::Syntax(_)]));
    }
}
