//! The command line of `coral-daemon`.

use std::path::PathBuf;
use std::time::Duration;

use coral_model::paths::ColonyName;

/// The colony: gathers what agents see, keeps it, answers. `coral` starts it by itself.
#[derive(clap::Parser, Debug, Clone)]
#[command(name = "coral-daemon", version)]
pub struct Args {
    /// Name of the colony.
    #[arg(long, env = "CORAL_COLONY", default_value = ColonyName::DEFAULT, value_parser = colony)]
    pub colony: ColonyName,
    /// Where colonies keep their data; this one under its name.
    #[arg(long, env = "CORAL_DATA_DIR", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Socket to serve on.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Stay when unused.
    #[arg(long)]
    pub stay: bool,
    /// Leave this long after the last viewer and the last record.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub leave_after: Duration,
    /// Do not start the local agent.
    #[arg(long)]
    pub no_agent: bool,
    /// The local agent's program, instead of the `coral-agent` beside this one.
    #[arg(long, value_name = "PATH")]
    pub agent: Option<PathBuf>,
    /// Where the local agent listens for OTLP over gRPC (`off`: nowhere).
    #[arg(long, env = "CORAL_OTLP_GRPC", value_name = "ADDR")]
    pub otlp_grpc: Option<String>,
    /// Where the local agent listens for OTLP over HTTP (`off`: nowhere).
    #[arg(long, env = "CORAL_OTLP_HTTP", value_name = "ADDR")]
    pub otlp_http: Option<String>,
    /// Keep the terminal, and log to it as well.
    #[arg(long)]
    pub foreground: bool,
    /// Seal what was received every so often instead of every hour. For tests.
    #[arg(long, env = "CORAL_SLICE_AGE", value_name = "TIME", hide = true, value_parser = duration)]
    pub slice_age: Option<Duration>,
    /// Serve what was read from a file, called so: no agent, no events of its own. Its data, which must
    /// lie below a folder named coral-open-*, are deleted at the end.
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,
    /// A colony of the machine rather than of one user: group members may use its socket.
    #[arg(long)]
    pub system: bool,
}

fn colony(text: &str) -> Result<ColonyName, String> {
    text.parse().map_err(|e: coral_model::paths::PathsError| e.to_string())
}

/// `500ms`, `30s`, `10m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time like 30s, 10m or 2h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "m", "-1s", "1y", "99999999999999999999h", "1.5h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_defaults_are_the_local_colony() {
        let args = Args::try_parse_from(["coral-daemon"]).unwrap();
        assert_eq!(args.colony, ColonyName::default());
        assert_eq!(args.leave_after, Duration::from_secs(600));
        assert!(!args.stay && !args.foreground);
        assert!(Args::try_parse_from(["coral-daemon", "--colony", "../x"]).is_err());
    }
}
