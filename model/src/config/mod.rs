//! Settings, and which of six places each came from.
//!
//! Flag > environment (`CORAL_*`) > project (`.coral/config.toml`) > colony
//! (`colonies/<colony>.toml`) > user (`config.toml`) > default. Every place is read whole and checked:
//! a key nobody knows is an error with the nearest known name, never silently nothing. What was
//! overridden is kept, so that [`Config::explain`] can say who won over whom.

mod edit;
mod retention;
mod spec;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use edit::set_in_text;
pub use retention::Retention;
pub use spec::{Listen, Setting, Spec};

use crate::paths::{ColonyName, Paths};
use crate::when::print_duration;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is not TOML.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// What is wrong where, over several lines.
        message: String,
    },
    /// A key nobody knows.
    #[error("{place}: unknown setting `{key}`{}", suggestion.as_ref().map_or(String::new(), |s| format!("; did you mean `{s}`?")))]
    Unknown {
        /// Where it stands.
        place: String,
        /// The key.
        key: String,
        /// The nearest known one.
        suggestion: Option<String>,
    },
    /// A value that is none of its setting.
    #[error("{place}: `{key}` cannot be {value}: {why}")]
    Value {
        /// Where it stands.
        place: String,
        /// The setting.
        key: String,
        /// What was given, quoted.
        value: String,
        /// What was expected.
        why: String,
    },
    /// A setting that makes no sense where it stands.
    #[error("{place}: `{key}` cannot be set here; set it in the user's config.toml")]
    Misplaced {
        /// Where it stands.
        place: String,
        /// The setting.
        key: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Every setting there is.
pub fn settings() -> impl Iterator<Item = &'static Spec> {
    spec::ALL.iter()
}

/// Where a value came from, strongest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Layer {
    /// The command line; holds the flag.
    Flag(String),
    /// The environment; holds the variable.
    Env(String),
    /// The project's file.
    Project(PathBuf),
    /// The colony's file.
    Colony(PathBuf),
    /// The user's file.
    User(PathBuf),
    /// Coral itself.
    Default,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Project(file) => write!(f, "project {}", file.display()),
            Self::Colony(file) => write!(f, "colony {}", file.display()),
            Self::User(file) => write!(f, "user {}", file.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Where settings are looked for.
pub struct Sources<'a> {
    /// `(setting, flag, value)` given on the command line.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The project's file, if there is one (see [`crate::paths::project_config`]).
    pub project: Option<PathBuf>,
    /// The user's files.
    pub paths: &'a Paths,
}

/// A setting, where it came from, and what it was stronger than.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its key.
    pub key: &'static str,
    /// What it does.
    pub help: &'static str,
    /// The value in force, as text; never a secret's.
    pub value: String,
    /// Who said so.
    pub from: Layer,
    /// Weaker values, strongest first.
    pub over: Vec<(Layer, String)>,
}

/// Every setting, typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The colony everything is asked of.
    pub colony: ColonyName,
    /// Where the local agent takes OTLP over gRPC.
    pub otlp_grpc: Listen,
    /// Where the local agent takes OTLP over HTTP.
    pub otlp_http: Listen,
    /// How long an unused colony stays, in nanoseconds.
    pub leave_after: u64,
    /// How long the colony keeps what.
    pub retention: Retention,
    /// The window that is shown when none is named, in nanoseconds.
    pub window: u64,
    /// Clocks show UTC.
    pub utc: bool,
    /// Theme of the screen.
    pub theme: String,
    /// Draw with ASCII only.
    pub ascii: bool,
    /// The mouse belongs to the screen.
    pub mouse: bool,
    found: BTreeMap<&'static str, Vec<(Layer, String)>>,
}

impl Config {
    /// Reads every place and decides.
    ///
    /// # Errors
    /// The first thing that is wrong in any place, strongest place first.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut found: BTreeMap<&'static str, Vec<(Layer, String)>> = BTreeMap::new();
        for (key, flag, value) in &sources.flags {
            let layer = Layer::Flag((*flag).to_owned());
            add(&mut found, &layer, &BTreeMap::from([((*key).to_owned(), value.clone())]))?;
        }
        for spec in spec::ALL {
            let name = spec.env();
            if let Some(value) = (sources.env)(&name).filter(|v| !v.is_empty()) {
                let one = BTreeMap::from([(spec.key.to_owned(), value)]);
                add(&mut found, &Layer::Env(name), &one)?;
            }
        }
        if let Some(file) = &sources.project {
            add(&mut found, &Layer::Project(file.clone()), &read(file)?)?;
        }
        // The colony's own file depends on which colony it is, which itself is a setting.
        let user = sources.paths.config_file();
        let of_user = read(&user)?;
        let mut all = found.clone();
        add(&mut all, &Layer::User(user.clone()), &of_user)?;
        let colony = text_of(&all, "colony").parse::<ColonyName>().unwrap_or_default();
        let of_colony = sources.paths.colony_file(&colony);
        let values = read(&of_colony)?;
        if values.contains_key("colony") {
            let place = of_colony.display().to_string();
            return Err(ConfigError::Misplaced { place, key: "colony".to_owned() });
        }
        add(&mut found, &Layer::Colony(of_colony), &values)?;
        add(&mut found, &Layer::User(user), &of_user)?;
        Ok(Self {
            colony,
            otlp_grpc: Listen::of(text_of(&found, "otlp.grpc")),
            otlp_http: Listen::of(text_of(&found, "otlp.http")),
            leave_after: duration_of(&found, "leave_after"),
            retention: Retention::of(&found),
            window: duration_of(&found, "window"),
            utc: text_of(&found, "utc") == "true",
            theme: text_of(&found, "ui.theme").to_owned(),
            ascii: text_of(&found, "ui.ascii") == "true",
            mouse: text_of(&found, "ui.mouse") == "true",
            found,
        })
    }

    /// Every setting with where it came from.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        spec::ALL
            .iter()
            .map(|spec| {
                let mut all = self.found.get(spec.key).cloned().unwrap_or_default();
                all.push((Layer::Default, spec.default.to_owned()));
                let mut all = all.into_iter().map(|(layer, value)| (layer, spec.shown(&value)));
                let (from, value) =
                    all.next().unwrap_or_else(|| (Layer::Default, spec.default.to_owned()));
                Explained { key: spec.key, help: spec.help, value, from, over: all.collect() }
            })
            .collect()
    }
}

/// Adds a place's values behind the stronger ones, after checking each.
fn add(
    found: &mut BTreeMap<&'static str, Vec<(Layer, String)>>,
    layer: &Layer,
    values: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for (key, value) in values {
        let spec = Spec::find(key).ok_or_else(|| ConfigError::Unknown {
            place: layer.to_string(),
            key: crate::text::fit(key, 80),
            suggestion: Spec::nearest(key).map(str::to_owned),
        })?;
        let value = spec.check(value).map_err(|why| ConfigError::Value {
            place: layer.to_string(),
            key: key.clone(),
            value: format!("`{}`", spec.shown(&crate::text::fit(value, 80))),
            why,
        })?;
        found.entry(spec.key).or_default().push((layer.clone(), value));
    }
    Ok(())
}

/// A file's values under dotted keys; nothing when there is no file.
fn read(file: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    match fs::read_to_string(file) {
        Ok(text) => parse_file(file, &text),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(BTreeMap::new())
        }
        Err(source) => Err(ConfigError::Io { file: file.to_path_buf(), source }),
    }
}

fn parse_file(file: &Path, text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax {
        file: file.to_path_buf(),
        message: e.to_string().trim_end().to_owned(),
    })?;
    let mut out = BTreeMap::new();
    flatten("", table, &mut out);
    Ok(out)
}

fn flatten(prefix: &str, table: toml::Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, out),
            toml::Value::String(text) => {
                out.insert(key, text);
            }
            other => {
                out.insert(key, other.to_string());
            }
        }
    }
}

fn text_of<'a>(found: &'a BTreeMap<&'static str, Vec<(Layer, String)>>, key: &str) -> &'a str {
    let set = found.get(key).and_then(|all| all.first()).map(|(_, value)| value.as_str());
    set.unwrap_or_else(|| Spec::find(key).map_or("", |spec| spec.default))
}

fn duration_of(found: &BTreeMap<&'static str, Vec<(Layer, String)>>, key: &str) -> u64 {
    // Checked on the way in.
    crate::when::parse_duration(text_of(found, key)).unwrap_or_default()
}

impl Config {
    /// Whether the command line says it.
    #[must_use]
    pub fn is_flag(&self, key: &str) -> bool {
        let first = self.found.get(key).and_then(|all| all.first());
        matches!(first, Some((Layer::Flag(_), _)))
    }

    /// `leave_after` as text.
    #[must_use]
    pub fn leave_after_text(&self) -> String {
        print_duration(self.leave_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(PathBuf, Paths);

    impl Home {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("coral-config-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join("colonies")).unwrap();
            let paths = Paths {
                config_dir: dir.clone(),
                data_dir: "/d".into(),
                state_dir: "/s".into(),
                runtime_dir: "/r".into(),
                socket_override: None,
                uid: 0,
            };
            Self(dir, paths)
        }

        fn write(&self, file: &str, text: &str) -> PathBuf {
            let file = self.0.join(file);
            fs::write(&file, text).unwrap();
            file
        }

        fn load(
            &self,
            flags: Vec<(&'static str, &'static str, String)>,
            env: &[(&str, &str)],
            project: Option<PathBuf>,
        ) -> Result<Config, ConfigError> {
            let env = |name: &str| {
                env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            Config::load(&Sources { flags, env: &env, project, paths: &self.1 })
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_place_is_stronger_than_the_next_and_explain_says_so() {
        let home = Home::new("layers");
        home.write("config.toml", "colony = \"shop\"\nwindow = \"1h\"\n[ui]\nascii = true\n");
        home.write("colonies/shop.toml", "window = \"2h\"\n");
        let project = home.write("project.toml", "window = \"3h\"\n");
        let hours = |c: &Config| c.window / 3_600_000_000_000;
        let c = home.load(vec![], &[], None).unwrap();
        assert_eq!((c.colony.as_str(), hours(&c), c.ascii), ("shop", 2, true));
        let c = home.load(vec![], &[], Some(project.clone())).unwrap();
        assert_eq!(hours(&c), 3);
        let env = [("CORAL_WINDOW", "4h")];
        assert_eq!(hours(&home.load(vec![], &env, Some(project.clone())).unwrap()), 4);
        let flag = vec![("window", "--window", "5h".to_owned())];
        let c = home.load(flag, &env, Some(project)).unwrap();
        assert_eq!(hours(&c), 5);
        let window = c.explain().into_iter().find(|e| e.key == "window").unwrap();
        assert_eq!(window.from, Layer::Flag("--window".into()));
        let over: Vec<_> = window.over.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(over, ["4h", "3h", "2h", "1h", "15m"]);
    }

    #[test]
    fn slips_are_errors_with_a_suggestion() {
        let home = Home::new("slips");
        home.write("config.toml", "[ui]\ntheem = \"x\"\n");
        let error = home.load(vec![], &[], None).unwrap_err().to_string();
        assert!(error.contains("`ui.theem`; did you mean `ui.theme`?"), "{error}");
        home.write("config.toml", "window = \"15\"\n");
        let error = home.load(vec![], &[], None).unwrap_err().to_string();
        assert!(error.contains("`window` cannot be `15`"), "{error}");
        home.write("config.toml", "window = \n");
        let error = home.load(vec![], &[], None).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("line 1"), "{error}");
        home.write("config.toml", "");
        home.write("colonies/local.toml", "colony = \"x\"\n");
        assert!(matches!(home.load(vec![], &[], None), Err(ConfigError::Misplaced { .. })));
    }

    #[test]
    fn every_default_passes_its_own_check_and_every_setting_is_used() {
        for spec in spec::ALL {
            assert_eq!(spec.check(spec.default).as_deref(), Ok(spec.default), "{}", spec.key);
        }
        let home = Home::new("defaults");
        let c = home.load(vec![], &[], None).unwrap();
        assert_eq!(c.explain().len(), spec::ALL.len());
        assert_eq!(c.otlp_grpc, Listen::Auto);
        assert_eq!(c.leave_after_text(), "10m");
    }
}
