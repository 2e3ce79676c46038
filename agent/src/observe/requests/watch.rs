//! Which programs are watched, and by what name: what a person says.
//!
//! `all`, `none`, or a list of executables, each with a name for its service behind `=` where it has
//! one: `nginx`, `/opt/shop/bin/*=shop`, `nginx=edge,*`. One with a slash means the whole path, where
//! that is known.

use std::str::FromStr;

use glob::Pattern;

/// Coral's own programs are never watched.
const OWN: [&str; 3] = ["coral", "coral-agent", "coral-daemon"];

/// Whether a program is one of Coral's own, by its name.
#[must_use]
pub fn is_own(name: &str) -> bool {
    OWN.contains(&name)
}

/// Which programs are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    executable: Pattern,
    service: Option<String>,
}

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Not a pattern.
    #[error("`{0}` is no pattern of an executable: write a name, a path, or one with * in it")]
    Pattern(String),
    /// No name behind `=`.
    #[error("`{0}` names no service: write executable=service, or the executable alone")]
    Name(String),
}

impl Watch {
    /// Everything but Coral itself.
    #[must_use]
    pub fn all() -> Self {
        Self { rules: vec![Rule { executable: Pattern::default(), service: None }] }
    }

    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// Whether anything is watched at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a program is watched, and the name a person gave its service. `path` is its
    /// executable's, or its name alone where nothing more is known.
    #[must_use]
    pub fn rule(&self, path: &str) -> Option<Option<&str>> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if is_own(name) {
            return None;
        }
        // Of a program that is gone already only its name is known, and of that 15 bytes.
        let is_gone = !path.contains('/');
        let cut = |last: &str| is_gone && name.len() == 15 && last.starts_with(name);
        let fits = |rule: &&Rule| {
            let pattern = rule.executable.as_str();
            match pattern.rsplit_once('/') {
                None => pattern.is_empty() || rule.executable.matches(name) || cut(pattern),
                Some((_, last)) if is_gone => {
                    cut(last) || Pattern::new(last).is_ok_and(|last| last.matches(name))
                }
                Some(_) => rule.executable.matches(path),
            }
        };
        self.rules.iter().find(fits).map(|rule| rule.service.as_deref())
    }
}

impl FromStr for Watch {
    type Err = WatchError;

    fn from_str(text: &str) -> Result<Self, WatchError> {
        match text.trim() {
            "all" => return Ok(Self::all()),
            "none" | "" => return Ok(Self::none()),
            _ => {}
        }
        let rule = |entry: &str| {
            let (executable, service) = match entry.split_once('=') {
                Some((executable, service)) => (executable.trim(), Some(service.trim())),
                None => (entry, None),
            };
            if service == Some("") {
                return Err(WatchError::Name(entry.to_owned()));
            }
            let bad = || WatchError::Pattern(entry.to_owned());
            let pattern = Pattern::new(executable).map_err(|_| bad())?;
            if executable.is_empty() {
                return Err(bad());
            }
            Ok(Rule { executable: pattern, service: service.map(str::to_owned) })
        };
        let rules = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(rule);
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_is_watched_and_by_what_name() {
        let watch: Watch = "nginx=edge, /opt/shop/bin/*=shop ,python3*".parse().unwrap();
        assert_eq!(watch.rule("/usr/sbin/nginx"), Some(Some("edge")));
        assert_eq!(watch.rule("/opt/shop/bin/cart"), Some(Some("shop")));
        assert_eq!(watch.rule("/usr/bin/python3.11"), Some(None));
        assert_eq!(watch.rule("/usr/bin/curl"), None);
        let path: Watch = "/tmp/x/ab".parse().unwrap();
        assert_eq!((path.rule("/usr/bin/ab"), path.rule("ab")), (None, Some(None)));
        let long: Watch = "/tmp/x/payments-worker-a=pay,inventory-service".parse().unwrap();
        assert_eq!(long.rule("payments-worke"), None, "not cut there");
        assert_eq!(long.rule("payments-worker"), Some(Some("pay")));
        assert_eq!(long.rule("inventory-servi"), Some(None));
        assert_eq!(long.rule("/usr/bin/inventory-servi"), None);
        let most: Watch = "nginx=edge,*".parse().unwrap();
        assert_eq!((most.rule("nginx"), most.rule("/bin/x")), (Some(Some("edge")), Some(None)));
        for own in OWN {
            assert_eq!(Watch::all().rule(&format!("/usr/bin/{own}")), None);
            assert_eq!(most.rule(own), None);
        }
        assert!("none".parse::<Watch>().unwrap().is_none());
        assert_eq!("all".parse(), Ok(Watch::all()));
        assert!(matches!("nginx=".parse::<Watch>(), Err(WatchError::Name(_))));
        assert!(matches!("a[".parse::<Watch>(), Err(WatchError::Pattern(_))));
        assert!(matches!("=x".parse::<Watch>(), Err(WatchError::Pattern(_))));
    }
}
