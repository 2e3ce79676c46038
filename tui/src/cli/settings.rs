//! `coral config`: settings, where they came from, and changing one.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coral_model::config::{ConfigError, Spec, set_in_text};
use coral_model::paths::project_config;

use super::Context;
use super::args;
use super::exit::{Exit, Failure};
use super::standard;

/// Runs `coral config …`.
pub fn run(context: &Context, verb: &args::Config) -> Result<Exit, Failure> {
    match verb {
        args::Config::Show(format) => show(context, format.json),
        args::Config::Explain { key, format } => explain(context, key.as_deref(), format.json),
        args::Config::Path(format) => paths(context, format.json),
        args::Config::Set { key, value, for_colony, for_project } => {
            let file = match (for_colony, for_project) {
                (true, _) => context.target.paths.colony_file(&context.target.colony),
                (_, true) => project_file()?,
                _ => context.target.paths.config_file(),
            };
            set(&file, key, value, *for_colony)
        }
    }
}

fn show(context: &Context, json: bool) -> Result<Exit, Failure> {
    let mut text = String::new();
    for setting in context.config.explain() {
        // Writing to a String cannot fail.
        _ = if json {
            let object = serde_json::json!({
                "schema": "coral.setting/1", "key": setting.key, "value": setting.value,
            });
            writeln!(text, "{object}")
        } else {
            writeln!(text, "{:<12} {}", setting.key, setting.value)
        };
    }
    standard::write(text.as_bytes())?;
    Ok(Exit::Done)
}

fn explain(context: &Context, key: Option<&str>, json: bool) -> Result<Exit, Failure> {
    if let Some(key) = key {
        known(key)?;
    }
    let mut text = String::new();
    for setting in context.config.explain() {
        if key.is_some_and(|key| key != setting.key) {
            continue;
        }
        let over = setting.over.iter().map(|(layer, value)| (layer.to_string(), value.clone()));
        if json {
            let over: Vec<_> = over
                .map(|(from, value)| serde_json::json!({ "from": from, "value": value }))
                .collect();
            let object = serde_json::json!({
                "schema": "coral.setting/1", "key": setting.key, "value": setting.value,
                "from": setting.from.to_string(), "over": over,
            });
            _ = writeln!(text, "{object}");
            continue;
        }
        _ = writeln!(text, "{} = {}   from {}", setting.key, setting.value, setting.from);
        _ = writeln!(text, "    {}", setting.help);
        for (layer, value) in over {
            _ = writeln!(text, "    over {value} from {layer}");
        }
    }
    standard::write(text.as_bytes())?;
    Ok(Exit::Done)
}

fn paths(context: &Context, json: bool) -> Result<Exit, Failure> {
    let (paths, colony) = (&context.target.paths, &context.target.colony);
    let mut all = vec![
        ("user", paths.config_file()),
        ("colony", paths.colony_file(colony)),
        ("keymap", paths.keymap_file()),
        ("themes", paths.themes_dir()),
        ("data", paths.colony_dir(colony)),
        ("socket", context.target.socket()?),
        ("log", paths.daemon_log(colony)),
        ("agent-log", paths.agent_log(colony)),
    ];
    let project = std::env::current_dir().ok().and_then(|dir| project_config(&dir));
    all.extend(project.map(|file| ("project", file)));
    let mut text = String::new();
    for (what, path) in all {
        let there = path.exists();
        _ = if json {
            let object = serde_json::json!({
                "schema": "coral.path/1", "what": what, "path": path, "exists": there,
            });
            writeln!(text, "{object}")
        } else {
            let note = if there { "" } else { "  (not there)" };
            writeln!(text, "{what:<10} {}{note}", path.display())
        };
    }
    standard::write(text.as_bytes())?;
    Ok(Exit::Done)
}

fn known(key: &str) -> Result<&'static Spec, Failure> {
    Spec::find(key).ok_or_else(|| {
        let error = ConfigError::Unknown {
            place: "coral config".to_owned(),
            key: coral_model::text::fit(key, 80),
            suggestion: Spec::nearest(key).map(str::to_owned),
        };
        error.into()
    })
}

/// The project's file: the one that is found upwards, else one to be made here.
fn project_file() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(|e| Failure::other(e.to_string()))?;
    Ok(project_config(&here).unwrap_or_else(|| here.join(".coral/config.toml")))
}

/// Changes one setting in a file, leaving all else in it as it was.
pub fn set(file: &Path, key: &str, value: &str, of_colony: bool) -> Result<Exit, Failure> {
    let spec = known(key)?;
    if of_colony && key == "colony" {
        return Err(Failure::usage("a colony's own file cannot say which colony it is"));
    }
    let value = spec.check(value).map_err(|why| {
        Failure::usage(format!("`{key}` cannot be `{}`: {why}", spec.shown(value)))
    })?;
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Failure::other(format!("{}: {e}", file.display()))),
    };
    write(file, &set_in_text(&before, spec, &value))?;
    let line = format!("{key} = {} in {}\n", spec.shown(&value), file.display());
    standard::write(line.as_bytes())?;
    Ok(Exit::Done)
}

/// Writes a file for its owner alone, whole or not at all.
pub fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::other(format!("{}: {e}", file.display()));
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(name);
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    fs::rename(&new, file).map_err(failed)
}
