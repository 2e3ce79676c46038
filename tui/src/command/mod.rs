//! The one table of everything a person can do on the screen.
//!
//! Keymap, palette, help, bottom bar and `docs/keys.md` are all made from [`COMMANDS`], so none of
//! them can say something that another does not. A command is an id; what it does is in
//! [`crate::app`].

mod book;
mod fuzzy;

pub use book::keys_page;
pub use fuzzy::score;

/// Under which heading help lists a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Views.
    View,
    /// Moving about.
    Move,
    /// Asking and narrowing.
    Look,
    /// Time.
    Time,
    /// Taking something away from here.
    Share,
    /// The program itself.
    Program,
}

impl Group {
    /// Every group, in the order of help.
    pub const ALL: &'static [Self] =
        &[Self::View, Self::Move, Self::Look, Self::Time, Self::Share, Self::Program];

    /// Heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::View => "Views",
            Self::Move => "Moving",
            Self::Look => "Looking closer",
            Self::Time => "Time",
            Self::Share => "Taking along",
            Self::Program => "Program",
        }
    }
}

/// A command as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// Which.
    pub id: CommandId,
    /// Its name in the palette and in `keymap.toml`.
    pub name: &'static str,
    /// Keys that run it, unless a person changed them.
    pub keys: &'static [&'static str],
    /// One line that teaches it.
    pub help: &'static str,
    /// One word for the bottom bar; empty keeps it out.
    pub bar: &'static str,
    /// Heading in help.
    pub group: Group,
    /// What may follow its name in the palette.
    pub takes: Option<&'static str>,
}

macro_rules! commands {
    ($($id:ident $name:literal [$($key:literal)*] $group:ident $bar:literal $($takes:literal)? : $help:literal;)+) => {
        /// A command.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum CommandId { $(#[doc = $help] $id,)+ }

        /// Every command.
        pub const COMMANDS: &[CommandSpec] = &[$(CommandSpec {
            id: CommandId::$id,
            name: $name,
            keys: &[$($key),*],
            help: $help,
            bar: $bar,
            group: Group::$group,
            takes: commands!(@takes $($takes)?),
        },)+];
    };
    (@takes) => { None };
    (@takes $takes:literal) => { Some($takes) };
}

commands! {
    Incident "incident" ["1"] View "": "what moved most, since when, and what changed";
    Services "services" ["2"] View "": "every service: rate, errors, p99";
    Topology "topology" ["3"] View "": "who calls whom";
    Traces "traces" ["4"] View "": "traces of the selected service, or all";
    Logs "logs" ["5"] View "": "log records as they arrive";
    Timeline "timeline" ["6"] View "": "deploys, restarts, bursts";
    Profile "profile" ["7"] View "": "where time is spent: a pprof file as a flame graph and a table";
    Hosts "hosts" ["8"] View "": "pressure on hosts and their processes";
    Agents "agents" ["9"] View "": "agents, their senses and losses";
    Inflight "inflight" ["i"] View "": "requests that have no answer yet";
    Patterns "patterns" ["P"] View "": "what log records have in common, counted";
    Sql "sql" ["S"] View "": "a SELECT of your own over what is stored";

    Enter "enter" ["enter"] Move "open": "go into what is selected";
    Back "back" ["esc" "backspace"] Move "back": "return to the exact place before";
    Down "down" ["j" "down"] Move "": "next row";
    Up "up" ["k" "up"] Move "": "previous row";
    Left "left" ["h" "left"] Move "": "pane or node to the left";
    Right "right" ["l" "right"] Move "": "pane or node to the right";
    PageDown "page-down" ["ctrl-d" "pagedown"] Move "": "a page down";
    PageUp "page-up" ["ctrl-u" "pageup"] Move "": "a page up";
    Top "top" ["g" "home"] Move "": "first row";
    Bottom "bottom" ["G" "end"] Move "": "last row";
    NextPane "next-pane" ["tab"] Move "": "focus the next pane";
    PreviousPane "previous-pane" ["shift-tab"] Move "": "focus the previous pane";
    Zoom "zoom" ["z"] Move "zoom": "give the focused pane the whole screen, or put it back";

    Why "why" ["w"] Look "why": "what is measured about the trouble, in full";
    Split "split" ["s"] Look "split" "dimension": "split by instance, host, version, zone, operation; in a trace: with or without its logs";
    Diff "diff" ["d"] Look "diff": "what slow or failed requests have in common";
    Context "context" ["c"] Look "context": "log records beside this one, of the same instance";
    Filter "filter" ["/"] Look "filter" "filter": "show only what matches: service=cart status=500.. level=warn..";
    Order "order" ["O"] Look "sort" "order": "sort this table by its next column; traces by newest, slowest, failed";
    Reverse "reverse" ["R"] Look "": "turn this table's order around";
    Ask "ask" ["a"] Look "": "ask about this in words (not in this build)";
    Clear "clear" ["x"] Look "": "drop selection, filter and split";
    Run "run" ["ctrl-r" "f5"] Look "run": "run the statement; esc stops it";
    Editor "editor" ["ctrl-o"] Look "$EDITOR": "write the statement in $VISUAL or $EDITOR";

    Time "time" ["t"] Time "time" "time": "go to a time: 14:02, -2h, yesterday 14:00";
    StepBack "step-back" ["[" "shift-left"] Time "": "half a window earlier";
    StepForward "step-forward" ["]" "shift-right"] Time "": "half a window later";
    Wider "wider" ["-"] Time "": "a window twice as long";
    Narrower "narrower" ["+" "="] Time "": "a window half as long";
    Live "live" ["L"] Time "": "follow what happens now";
    Pause "pause" ["p" "space"] Time "": "hold everything still, or go on";
    Utc "utc" ["Z"] Time "": "show times in UTC, or in the local zone";

    CopyQuery "copy-query" ["y"] Share "": "copy the `coral query` line that prints this";
    CopyPlace "copy-place" ["Y"] Share "place": "copy this place: one line that reopens it";
    Open "open" ["o"] Share "" "place": "go to a place, a trace id or a service";
    Note "note" ["n"] Share "" "text": "leave a note on the timeline";
    Trail "trail" [] Share "": "the places of this session, oldest first";
    Picture "picture" [] Share "" "file": "write the screen to a file: .svg or .txt";

    Palette "command" [":" "ctrl-p"] Program "command": "find and run any command";
    Help "help" ["?"] Program "keys": "every key and command";
    Theme "theme" [] Program "" "name": "change the looks";
    Mouse "mouse" ["m"] Program "": "give the mouse back to the terminal, or take it";
    Redraw "redraw" ["ctrl-l"] Program "": "draw the whole screen anew";
    Suspend "suspend" ["ctrl-z"] Program "": "stop, and give the terminal back until `fg`";
    Quit "quit" ["q" "ctrl-c"] Program "": "leave";
}

impl CommandId {
    /// Its line in the table.
    #[must_use]
    pub fn spec(self) -> &'static CommandSpec {
        // The table has a line per id, in the same order; a test holds it.
        const NONE: CommandSpec = CommandSpec {
            id: CommandId::Help,
            name: "",
            keys: &[],
            help: "",
            bar: "",
            group: Group::Program,
            takes: None,
        };
        COMMANDS.get(self as usize).unwrap_or(&NONE)
    }
}

/// The command of a name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_ids_and_names_are_unique() {
        for (i, spec) in COMMANDS.iter().enumerate() {
            assert_eq!(spec.id as usize, i, "{}", spec.name);
            assert_eq!(spec.id.spec().name, spec.name);
            assert_eq!(COMMANDS.iter().filter(|c| c.name == spec.name).count(), 1);
            assert!(!spec.help.is_empty());
        }
    }
}
