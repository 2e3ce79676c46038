//! Completion: of commands by clap, of filter words by the language and the colony.

use std::fmt::Write as _;

use clap_complete::Shell;
use coral_model::filter::complete::{Want, apply, context, known};
use coral_model::filter::nearest;
use coral_model::question::View;

use super::Context;
use super::args;
use super::exit::{Exit, Failure};
use super::standard;

/// Values a shell is offered at most.
const MOST: u32 = 200;
/// Views of the screen that are no question.
const SCREEN_VIEWS: &[&str] = &["incident", "timeline", "profile", "sql"];

/// Prints the completion script of a shell.
pub fn script(shell: Shell) -> Result<Exit, Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "coral", &mut out);
    out.extend(filters(shell).bytes());
    standard::write(&out)?;
    Ok(Exit::Done)
}

/// What clap cannot know: filter words, asked of `coral complete-filter` when flags and commands have
/// nothing to offer.
fn filters(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => {
            r#"
_coral_filters() {
    _coral "$@"
    local cur="${COMP_LINE:0:COMP_POINT}"
    cur="${cur##*[[:space:]]}"
    if [[ "$cur" != -* && " ${COMP_WORDS[*]} " =~ \ (query|q|tail)\  ]]; then
        local IFS=$'\n' words
        words=$(coral complete-filter -- "$cur" 2>/dev/null)
        # bash splits words at `=` and `:`; offer what follows the last of them.
        local head="${cur%"${cur##*[=:]}"}" word
        for word in $words; do COMPREPLY+=("${word#"$head"}"); done
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _coral_filters -o nosort -o bashdefault -o default coral
"#
        }
        Shell::Fish => {
            r"
complete -c coral -n '__fish_seen_subcommand_from query q tail' -f -a '(coral complete-filter -- (commandline -ct) 2>/dev/null)'
"
        }
        Shell::Zsh => {
            r#"
_coral_filters() {
    _coral "$@"
    if (( ${words[(I)query]} || ${words[(I)q]} || ${words[(I)tail]} )) && [[ $PREFIX != -* ]]; then
        local -a found
        found=("${(@f)$(coral complete-filter -- "$PREFIX" 2>/dev/null)}")
        compadd -Q -S '' -a found
    fi
}
compdef _coral_filters coral
"#
        }
        _ => "",
    }
}

/// Prints whole words that `word` could become. Whatever fails, there is just less to offer.
pub async fn filter_word(context_: &Context, word: &str) -> Result<Exit, Failure> {
    let at = context(word, word.len());
    let mut choices: Vec<String> = known(&at).into_iter().map(|(w, _)| w).collect();
    let key = match &at.want {
        Want::Name | Want::Presence => Some(String::new()),
        Want::Value(key) => Some(key.to_string()),
        Want::Nothing => None,
    };
    if let Some(key) = key
        && let Ok(client) = context_.connect().await
        && let Ok(more) = client.complete(&key, &at.prefix, MOST).await
    {
        choices.extend(more);
    }
    choices.sort();
    choices.dedup();
    let mut text = String::new();
    for choice in &choices {
        if choice.chars().any(coral_model::text::is_hostile) {
            continue;
        }
        // Writing to a String cannot fail.
        _ = writeln!(text, "{}", apply(word, word.len(), &at, choice).0);
    }
    standard::write(text.as_bytes())?;
    Ok(Exit::Done)
}

/// What the screen is asked to open, checked before a terminal is taken: a place must be whole, and
/// a word that is nearly a view is hardly a service.
pub fn checked_start(what: &str) -> Result<String, Failure> {
    if what.starts_with(coral_model::place::SCHEME) {
        let place: coral_model::place::Place = what.parse()?;
        return Ok(place.to_string());
    }
    if let Some(service) = what.strip_prefix("service=").filter(|s| !s.is_empty()) {
        return Ok(service.to_owned());
    }
    let views = View::ALL.iter().map(|v| v.word()).chain(SCREEN_VIEWS.iter().copied());
    if views.clone().any(|v| v == what) {
        return Ok(what.to_owned());
    }
    if let Some(near) = nearest(what, views).filter(|near| *near != what) {
        return Err(Failure::usage(format!("there is no view `{what}`; did you mean `{near}`?"))
            .next(format!(
                "coral open {near}; for a service of that name: coral open service={what}"
            )));
    }
    Ok(what.to_owned())
}
