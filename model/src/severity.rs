//! Names of levels, in as many spellings as there are loggers.

/// OpenTelemetry's severity number of a level's name as loggers spell it, in either case.
///
/// After the mapping of other formats' levels in the logs data model.
#[must_use]
pub fn severity_of(word: &str) -> Option<u8> {
    let levels: [(&str, u8); 22] = [
        ("trace", 1),
        ("finest", 1),
        ("verbose", 1),
        ("debug", 5),
        ("fine", 5),
        ("info", 9),
        ("information", 9),
        ("informational", 9),
        ("notice", 10),
        ("warn", 13),
        ("warning", 13),
        ("err", 17),
        ("error", 17),
        ("severe", 17),
        ("crit", 18),
        ("critical", 18),
        ("alert", 19),
        ("fatal", 21),
        ("panic", 21),
        ("dpanic", 21),
        ("emerg", 21),
        ("emergency", 21),
    ];
    levels.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, n)| *n)
}
