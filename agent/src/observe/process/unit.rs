//! What systemd starts: for which unit, at which start of that, and whether as its service or beside it.
//!
//! A unit's processes are in a cgroup that is called like it (`/system.slice/nginx.service`), and systemd tells each that
//! it starts what for (systemd.exec(5), "Environment Variables Set or Propagated by the Service Manager").

use super::look::last_part;
use crate::observe::files::Files;
use crate::observe::parse::process::variable;

/// The program of service managers, the system's and those of users.
const MANAGER: &str = "systemd";
/// What they run first since systemd 254: it makes the process what the unit wants, and runs the unit's program in its
/// own place.
const EXECUTOR: &str = "systemd-executor";
/// Where the system's manager says at which start a unit is (since systemd 236).
const INVOCATIONS: &str = "/run/systemd/units/invocation:";
/// Digits of an id of systemd's (`sd_id128_t`).
const ID: usize = 32;

/// A process that a manager started for a unit's service, or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The unit, without `.service`.
    pub unit: String,
    /// Its cgroup: units of the same name, the system's and users', have different ones.
    pub cgroup: String,
    /// Which of the unit's starts it is part of; `None` where nobody says so.
    pub invocation: Option<String>,
    /// Path of its executable.
    pub executable: String,
}

/// What a manager started a process as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// As a unit's service, or as a step on the way to it (`ExecStartPre`).
    Run(Run),
    /// Beside a service that runs, or after it (`ExecStartPost`, `ExecReload`, `ExecStop`, `ExecStopPost`).
    Beside,
}

impl Started {
    /// What a child of a manager was started as; `None` where it is no unit's, where the manager did not start it
    /// itself, or where that cannot be told.
    pub(in crate::observe) fn of(
        pid: u32,
        cgroup: &str,
        environment: &str,
        executable: &str,
    ) -> Option<Self> {
        let (cgroup, unit) = service(cgroup)?;
        // Of another user's process it needs a privilege; without it steps are not told from services.
        if environment.is_empty() {
            return None;
        }
        let run = |invocation: Option<&str>| {
            let (unit, cgroup) = (unit.to_owned(), cgroup.to_owned());
            let invocation = invocation.filter(|id| is_id(id)).map(str::to_owned);
            Self::Run(Run { unit, cgroup, invocation, executable: executable.to_owned() })
        };
        if last_part(executable) == EXECUTOR {
            // Its environment is still its manager's.
            return Some(run(None));
        }
        let said = |name: &str| variable(environment, name);
        if said("MAINPID").is_some() || said("SERVICE_RESULT").is_some() {
            return Some(Self::Beside);
        }
        // Who outlived its parent is the manager's child too (since systemd 248 it can be told).
        let is_own = said("SYSTEMD_EXEC_PID").is_none_or(|own| own == pid.to_string());
        is_own.then(|| run(said("INVOCATION_ID")))
    }
}

impl Run {
    /// Whether it is not the unit's program yet, but what runs that in its own place.
    #[must_use]
    pub fn is_executor(&self) -> bool {
        last_part(&self.executable) == EXECUTOR
    }

    /// Whether it was a step on the way to `next`, which the same manager began for the same unit when this one had
    /// ended. Where nobody says to which start they belong, another program is the next step, and the same one another
    /// start.
    #[must_use]
    pub fn is_step_to(&self, next: &Self) -> bool {
        match (&self.invocation, &next.invocation) {
            (Some(this), Some(next)) => this == next,
            _ => self.executable != next.executable,
        }
    }
}

/// Whether this is the executable of a service manager.
pub(in crate::observe) fn is_manager(executable: &str) -> bool {
    last_part(executable) == MANAGER
}

/// At which of its starts a unit of the system's manager is.
pub(in crate::observe) fn invocation(files: &Files, unit: &str) -> Option<String> {
    let link = files.path(&format!("{INVOCATIONS}{unit}.service"));
    let id = std::fs::read_link(link).ok()?.to_string_lossy().into_owned();
    is_id(&id).then_some(id)
}

/// The systemd service that a cgroup belongs to, if it has a name that it keeps.
pub(in crate::observe) fn unit_of(cgroup: &str) -> Option<&str> {
    service(cgroup).map(|(_, unit)| unit)
}

/// Path of the cgroup of a service, and what that is called.
fn service(cgroup: &str) -> Option<(&str, &str)> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut services =
        paths.filter_map(|path| Some((path, last_part(path).strip_suffix(".service")?)));
    services.find(|(path, unit)| !unit.starts_with("user@") && !is_made_up(path, unit))
}

/// Whether a unit's name was made up for one time: what `systemd-run` starts (`run-u7`, `run-r` with an id, `run-p7-i9`),
/// what a person starts on a desktop (`app-firefox@…`, by XDG's convention), a connection that a socket unit hands to
/// a service of its own (systemd.socket(5), `Accept=`: `sshd@3-10.0.0.1:22-10.0.0.9:50000`, `dump@0-4711-1000`).
fn is_made_up(path: &str, unit: &str) -> bool {
    let run = unit.strip_prefix("run-").is_some_and(|rest| {
        rest.strip_prefix('u').is_some_and(is_number)
            || rest.strip_prefix('r').is_some_and(is_id)
            || rest
                .strip_prefix('p')
                .and_then(|rest| rest.split_once("-i"))
                .is_some_and(|(process, invocation)| is_number(process) && is_number(invocation))
    });
    let of_desktop = unit.starts_with("app-") && path.contains("/user@");
    let connection = unit.split_once('@').and_then(|(_, instance)| instance.split_once('-'));
    let of_connection = connection.is_some_and(|(number, ends)| {
        let processes = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'_');
        let between = ends.contains('-') && (ends.contains(':') || ends.bytes().all(processes));
        is_number(number) && between
    });
    run || of_desktop || of_connection
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "0::/system.slice/web.service\n";
    const ONE: &str = "0123456789abcdef0123456789abcdef";

    fn started(environment: &str) -> Option<Started> {
        Started::of(7, WEB, environment, "/usr/sbin/nginx")
    }

    fn run(invocation: Option<&str>, executable: &str) -> Run {
        Run {
            unit: "web".into(),
            cgroup: "/system.slice/web.service".into(),
            invocation: invocation.map(str::to_owned),
            executable: executable.into(),
        }
    }

    #[test]
    fn a_units_service_is_told_from_what_is_run_beside_it() {
        let own = format!("PATH=/bin\0INVOCATION_ID={ONE}\0SYSTEMD_EXEC_PID=7\0");
        let service = Some(Started::Run(run(Some(ONE), "/usr/sbin/nginx")));
        assert_eq!(started(&own), service);
        // Before systemd 248, and before 232.
        assert_eq!(started(&format!("INVOCATION_ID={ONE}\0")), service);
        let unknown = Some(Started::Run(run(None, "/usr/sbin/nginx")));
        assert_eq!(started("PATH=/bin\0INVOCATION_ID=anything\0"), unknown);
        for beside in ["MAINPID=5\0", "SERVICE_RESULT=exit-code\0"] {
            assert_eq!(started(&format!("{own}{beside}")), Some(Started::Beside));
        }
        assert_eq!(started("SYSTEMD_EXEC_PID=5\0"), None, "its parent has ended");
        assert_eq!(started(""), None, "it may not be read");
        let elsewhere = "0::/user.slice/user-1000.slice/session-3.scope\n";
        assert_eq!(Started::of(7, elsewhere, &own, "/bin/sh"), None);
        // What it has in its environment is of no unit yet.
        let executor = "/usr/lib/systemd/systemd-executor";
        let early = Started::of(7, WEB, "SYSTEMD_EXEC_PID=1\0", executor);
        assert_eq!(early, Some(Started::Run(run(None, executor))));
        assert!(run(None, executor).is_executor() && !run(None, "/bin/sh").is_executor());
    }

    #[test]
    fn the_same_start_goes_on_with_its_next_step() {
        let two = "f".repeat(32);
        let check = run(Some(ONE), "/bin/check");
        assert!(check.is_step_to(&run(Some(ONE), "/bin/web")));
        assert!(check.is_step_to(&run(Some(ONE), "/bin/check")), "another check");
        assert!(!check.is_step_to(&run(Some(&two), "/bin/check")));
        assert!(!run(Some(ONE), "/bin/web").is_step_to(&run(Some(&two), "/bin/check")));
        // Where nobody says so.
        assert!(run(None, "/bin/check").is_step_to(&run(None, "/bin/web")));
        assert!(!run(None, "/bin/web").is_step_to(&run(Some(ONE), "/bin/web")));
    }

    #[test]
    fn a_cgroup_says_the_unit_unless_its_name_was_made_up() {
        assert_eq!(unit_of("12:pids:/x.service\n0::/x.service\n"), Some("x"));
        assert_eq!(
            unit_of("0::/system.slice/postgresql@15-main.service\n"),
            Some("postgresql@15-main")
        );
        assert_eq!(unit_of("0::/system.slice/run-jobs.service\n"), Some("run-jobs"));
        assert_eq!(unit_of("0::/system.slice/app-server.service\n"), Some("app-server"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(unit_of(&format!("{user}/app.slice/sync.service\n")), Some("sync"));
        for made_up in ["app.slice/app-firefox@1b2c.service", "init.scope", ""] {
            assert_eq!(unit_of(&format!("{user}/{made_up}\n")), None, "{made_up}");
        }
        let id = format!("run-r{ONE}");
        let connections = ["sshd@3-10.0.0.1:22-10.0.0.9:50000", "systemd-coredump@0-4711-1000"];
        for unit in ["run-u17", "run-p4711-i4712", &id].into_iter().chain(connections) {
            assert_eq!(unit_of(&format!("0::/system.slice/{unit}.service\n")), None, "{unit}");
        }
    }

    #[test]
    fn systemd_says_at_which_start_a_unit_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("run/systemd/units");
        std::fs::create_dir_all(&at).unwrap();
        std::os::unix::fs::symlink(ONE, at.join("invocation:web.service")).unwrap();
        std::os::unix::fs::symlink("/etc", at.join("invocation:odd.service")).unwrap();
        let files = Files::below(dir.path());
        assert_eq!(invocation(&files, "web").as_deref(), Some(ONE));
        assert_eq!((invocation(&files, "odd"), invocation(&files, "none")), (None, None));
    }
}
